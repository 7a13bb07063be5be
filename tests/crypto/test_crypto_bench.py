from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from crypto import bench
from crypto.bench import bench_cipher, bench_schemes, block_loop, fastest_turns, seal_each
from crypto.bench_tree import STAGES, bench_tree, draw_tree
from crypto.cipher import SCHEMES, make_cipher
from crypto.commands.bench import add_bench_command
from crypto.config import CipherConfig
from crypto.keys import SiteKey
from medveil.cli import guarded, parser
from medveil.errors import ConfigError

QUICK: dict[str, Any] = {"images": 2, "size": 16, "channels": 1, "block": 4, "seconds": 0.01}


def test_the_loop_it_is_measured_against_does_the_same_work() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 48), dtype=np.uint8)
    config = CipherConfig(block=16, negate=True)
    cipher = make_cipher(config, SiteKey.generate("bench"), channels=3, height=32, width=48)
    rho, pi, mask = cipher.stem_permutation()
    looped = block_loop(images, rho, pi, mask.astype(np.uint8) * np.uint8(255), block=16)
    np.testing.assert_array_equal(looped, cipher.encrypt(images))


def test_sealing_seals_each_image_with_its_tag() -> None:
    images = np.zeros((3, 1, 4, 4), np.uint8)
    sealed = seal_each(images)
    assert [len(each) for each in sealed] == [16 + 16] * 3
    assert len(set(sealed)) == 3


def test_its_figures_are_rates_and_their_ratios() -> None:
    found = bench_cipher(images=4, size=64, seconds=0.05)
    assert all(value > 0 for value in found.values())
    for rival in ("block_loop", "memcpy", "aes_gcm"):
        ratio = found["cipher_images_per_s"] / found[f"{rival}_images_per_s"]
        assert found[f"cipher_over_{rival}"] == pytest.approx(ratio)
    for alone, name in (("cipher", "woven"), ("cipher", "threads"), ("woven", "woven_threads")):
        if f"{name}_images_per_s" in found:
            ratio = found[f"{name}_images_per_s"] / found[f"{alone}_images_per_s"]
            assert found[f"{name}_over_{alone}"] == pytest.approx(ratio)
    assert ("threads_over_cipher" in found) == ("cores" in found)


def test_the_cipher_is_well_ahead_of_a_loop_over_blocks() -> None:
    # `medveil-sim bench` shows the figure; this floor also holds on a busy machine.
    assert bench_cipher(images=16, size=224, seconds=0.5)["cipher_over_block_loop"] > 4


def test_the_fastest_of_turns_in_turn_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    clock = iter([0.0, *(now for lasts in (3, 5, 1, 9, 2, 4) for now in (10.0, 10.0 + lasts))])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock, 100.0))
    rivals = {name: lambda name=name: called.append(name) for name in "ab"}
    assert fastest_turns(rivals, 0.0) == {"a": 1.0, "b": 4.0}
    assert "".join(called) == "aabb" * 3, "three rounds of turns, each after one that is not timed"


def test_every_scheme_is_measured_beside_its_rivals() -> None:
    found = bench_schemes(**QUICK)
    assert list(found["schemes"]) == list(SCHEMES)
    for figures in found["schemes"].values():
        assert all(value > 0 for value in figures.values())
        speed = figures["encrypt_gb_per_s"]
        assert figures["encrypt_images_per_s"] == pytest.approx(speed * 1e9 / 256)
        assert figures["encrypt_over_memcpy"] == pytest.approx(speed / found["memcpy_gb_per_s"])
        assert figures["encrypt_over_aes_gcm"] == pytest.approx(speed / found["aes_gcm_gb_per_s"])


def test_a_scheme_that_takes_no_such_block_is_left_out_with_the_reason() -> None:
    found = bench_schemes(**QUICK | {"size": 64, "block": 64, "schemes": ["orthogonal", "etc"]})
    assert "blocks of 4096 values" in found["schemes"]["orthogonal"]["refused"]
    assert found["schemes"]["etc"]["encrypt_gb_per_s"] > 0


@pytest.mark.parametrize("wrong", [{"images": 0}, {"size": 0}, {"schemes": ["rot13"]}])
def test_what_cannot_be_measured_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        bench_schemes(**QUICK | wrong)


def run(*words: str) -> int:
    top = parser("medveil-crypto", "for this test", "none")
    add_bench_command(top.add_subparsers(required=True))

    def body() -> int:
        arguments: argparse.Namespace = top.parse_args(["bench", *words])
        code: int = arguments.command(arguments)
        return code

    return guarded(body)


SMALL = ("--images", "2", "--size", "16", "--channels", "1", "--block", "4", "--seconds", "0.01", "--files", "3")


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL) == 0
    table = capsys.readouterr().out
    for name in (*SCHEMES, "memcpy", "AES-256-GCM", "2 images of 16x16x1", "3 DICOM files in", "deidentify"):
        assert name in table
    assert run(*SMALL, "--json", "--scheme", "etc", "--scheme", "none") == 0
    assert list(json.loads(capsys.readouterr().out)["schemes"]) == ["etc", "none"]


def test_what_the_time_of_a_tree_goes_to(tmp_path: Path) -> None:
    tree = draw_tree(tmp_path / "ct", 12)
    assert len(list(tree.rglob("*.dcm"))) == 12
    assert dcmread(tree / "patient-3" / "00003.dcm").pixel_array.shape == (512, 512)
    found = bench_tree(tree)
    assert (found["files"], found["failed"]) == (12, 0)
    assert found["bytes_read"] > 12 * 512 * 512 * 2
    assert set(found["stage_shares"]) == set(STAGES)
    assert sum(found["stage_shares"].values()) == pytest.approx(1)
    assert sum(found["stage_seconds"].values()) <= found["seconds"]
    assert len(list(tree.rglob("*"))) == 12 + 10


@pytest.mark.parametrize("wrong", [("--scheme", "etx"), ("--block", "0"), ("--size", "many")])
def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str], wrong: tuple[str, ...]) -> None:
    assert run(*SMALL, *wrong) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
