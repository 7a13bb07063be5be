"""The benchmark runs, and its figures are what they are called. How fast it all is, is not for a test to say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crypto.bench import bench_cipher
from crypto.reading.bench import bench_frames
from fl_client import simulated_host
from fl_client.site import Site
from fl_client.site_setup import SiteSetup
from medveil.contract import RunConfig
from models.config import ModelConfig
from simulations import bench, bench_gpu, bench_sites, cli
from simulations.config import ExperimentConfig

WANTED = (
    "cipher_images_per_s",
    "cipher_over_block_loop",
    "cipher_over_memcpy",
    "dicom_frames_per_s",
    "dicom_frame_of_many_over_few",
    "engine_over_bare_loop",
    "ciphertext_over_plaintext",
    "sealed_store_over_mapped",
    "sealed_store_in_memory_over_mapped",
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of small images and a small model: their figures are told apart by what they are of, not by how large."""
    experiment = bench._experiment

    def narrow(data: Path, keys: str, device: str) -> ExperimentConfig:
        config = experiment(data, keys, device)
        config.model.width, config.model.depth = 24, 1
        return config

    monkeypatch.setattr(bench, "_experiment", narrow)
    monkeypatch.setattr(bench, "_SIZE", 32)
    torch.set_num_threads(1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    whole = bench.bench
    monkeypatch.setattr(bench, "bench_cipher", lambda: bench_cipher(images=4, size=32, seconds=0.05))
    monkeypatch.setattr(bench, "bench_frames", lambda: bench_frames(few=2, many=4, turns=1))
    monkeypatch.setattr(bench, "bench", lambda device: whole(device=device, images=64, turns=1))


@pytest.mark.usefixtures("quick", "fresh_sites")
def test_the_figures_the_command_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["bench", "--device", "cpu", "--json", str(tmp_path / "bench.json")]) == 0
    figures = json.loads((tmp_path / "bench.json").read_text())
    table = capsys.readouterr().out
    for name in WANTED:
        assert figures[name] > 0
        assert name in table
    monkeypatch.setattr(bench, "bench", lambda device: figures)
    assert cli.main(["bench", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == figures
    for name in ("engine_over_bare_loop", "ciphertext_over_plaintext"):
        assert figures[f"{name}_median"] > 0
    assert figures["engine_over_bare_loop"] == pytest.approx(
        figures["engine_round_s"] / figures["bare_loop_round_s"], rel=1e-6
    )
    assert figures["environment"]["threads"] >= 1


def test_a_ratio_is_of_the_fastest_rounds_and_of_the_median_ones() -> None:
    assert bench._ratio("a_over_b", [2.0, 3.0, 9.0], [1.0, 4.0, 5.0]) == {"a_over_b": 2.0, "a_over_b_median": 0.75}


@pytest.mark.usefixtures("small", "fresh_sites")
def test_the_bare_loop_does_the_training_the_engine_does(tmp_path: Path) -> None:
    data = bench._write_images(tmp_path / "images.npz", 64)
    plan = bench._plan(data, "cpu", tmp_path / "run")
    loop = bench._BareLoop(plan)
    before = {name: tensor.clone() for name, tensor in loop.average.items()}
    loop.round(1)
    assert any(not before[name].equal(tensor) for name, tensor in loop.average.items())
    assert len(loop.images) == plan.sites.sites == 4


@pytest.mark.usefixtures("fresh_sites")
def test_rounds_of_more_sites_are_measured_and_sites_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Site] = []
    begin = Site.__init__

    def noted(site: Site, run: RunConfig, setup: SiteSetup) -> None:
        opened.append(site)
        begin(site, run, setup)

    monkeypatch.setattr(Site, "__init__", noted)
    monkeypatch.setattr(simulated_host, "_FEW_SITES", 2)
    found = bench_sites.measured(5, rounds=4, images=80, folder=tmp_path)
    assert sorted(site.setup.name for site in opened) == [f"site-{index}" for index in range(1, 6)]
    # Twelve images of 16 are trained on, eight a step.
    assert (found["sites"], found["rounds"], found["steps"]) == (5, 4, 10)
    assert found["round_s"] > 0
    assert found["round_cpu_s"] > 0
    assert found["memory_mb"] > 10
    # All sites hold one copy of what came, not one each.
    assert len({id(site.last.incoming) for site in opened if site.last is not None}) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--scale", "4,x"], "no list of numbers"),
        (["--scale", "4", "--rounds", "2"], "'--rounds' is 2"),
        (["--scale", "0"], "cannot be"),
        (["--scale", "4", "--images", "3"], "'--images' is 3"),
        (["--scale", "4", "--rounds", "2", "--dry-run"], "'--rounds' is 2"),
        (["--scale", "4", "--deployment"], "one after the other"),
        (["--scale", "4", "--device", "cpu"], "'--device' would do nothing; it is for the ratios or --gpu"),
        (["--deployment", "--device", "cpu"], "'--device' would do nothing"),
        (["--images", "48"], "'--images' would do nothing; it is for --scale or --deployment"),
        (["--rounds", "4", "--gpu"], "'--rounds' would do nothing"),
        (["--masked-sites", "3"], "'--masked-sites' would do nothing; it is for --deployment"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *words]) == 2
    assert why in capsys.readouterr().err


def test_a_machine_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["bench", "--gpu"]) == 2
    assert "there is no GPU here" in capsys.readouterr().err


def test_a_device_is_measured_beside_its_own_products() -> None:
    """Of a CPU, as what is counted is the same there."""
    torch.set_num_threads(1)
    tiny = ModelConfig(image_size=16, patch=8, channels=1, classes=2, width=16, depth=1, heads=2)
    found = bench_gpu.bench_device(torch.device("cpu"), batch=4, batches=2, edge=64, model=tiny)
    # Multiplications of one image, forward: patches, five tokens through the block, and the head.
    tokens, width = 5, 16
    linear = tokens * width * (3 * width + width + 8 * width)
    attention = 2 * tokens * tokens * width
    once = 2 * (4 * 64 * width + linear + attention + 2 * width)
    assert found["predict_over_roof"] * found["roof_flops_per_s"] / found["predict_images_per_s"] == pytest.approx(once)
    assert found["train_over_roof"] * found["roof_flops_per_s"] / found["train_images_per_s"] == pytest.approx(3 * once)
    assert (found["device"], found["dtype"]) == ("cpu", "float32")
