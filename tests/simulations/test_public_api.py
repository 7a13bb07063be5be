"""The door from Python: what is public, and that it does what the commands do, without a word."""

from __future__ import annotations

import inspect
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import at_once
import numpy as np
import public_api
import pytest
import torch
from PIL import Image

from crypto import api as crypto_api
from crypto import sealed_file
from fl_client.data.source import open_source, read_many
from medveil.errors import ConfigError, FormatError, KeyMaterialError, PolicyError, StorageError
from models import api as models_api
from simulations import api, compare, side_by_side, statistics, sweep_calls
from simulations.cli import main

ROOT = Path(__file__).parents[2]
LISTED = ROOT / "docs" / "reference" / "public-api.txt"
CURE = "If it is meant: name it in CHANGELOG.md, and PYTHONPATH=. python tests/support/public_api.py > " + str(LISTED)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the ten lines of the page left, run as they stand there in an empty folder."""
    page = (ROOT / "docs" / "how-to" / "python.md").read_text()
    lines = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert len([line for line in lines.splitlines() if line]) <= 10
    folder = tmp_path_factory.mktemp("ten")
    printed: list[tuple[Any, ...]] = []
    names: dict[str, Any] = {"print": lambda *each: printed.append(each)}
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(lines, names)
    return {**names, "printed": printed, "folder": folder}


@pytest.fixture(scope="module")
def run(ten: dict[str, Any]) -> api.Run:
    return api.load_run(ten["folder"] / "RUN")


def test_what_is_public_is_what_is_listed() -> None:
    now, then = public_api.listing().splitlines(), LISTED.read_text().splitlines()
    gone, new = sorted({*then} - {*now}), sorted({*now} - {*then})
    assert now == then, f"The public interface changed.\nno longer: {gone}\nnew: {new}\n{CURE}"


def test_the_page_has_what_is_listed_and_nothing_else() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    assert re.findall(r"^::: (\S+)$", page, re.MULTILINE) == public_api.names(LISTED.read_text())


def test_every_public_name_says_what_it_does_gives_and_raises() -> None:
    for name in public_api.names(LISTED.read_text()):
        module, _, own = name.rpartition(".")
        thing = getattr(sys.modules[module], own)
        assert (thing.__doc__ or "").strip(), name
        if (
            callable(thing)
            and not isinstance(thing, type)
            and next(iter(inspect.signature(thing).parameters), "") == "folder"
        ):
            assert "Raises\n" in thing.__doc__, name


def test_a_setting_under_a_wrong_name_is_refused_however_it_is_given(tmp_path: Path) -> None:
    out = tmp_path / "out"
    misspelt: Any = api.experiment("demo")
    misspelt.train.learning_rat = 1e-3
    calls: list[Any] = [api.run, api.compare, api.ablate, api.pays]
    for call in calls:
        with pytest.raises(ConfigError, match=r"unknown key 'train\.learning_rat'"):
            call(misspelt, out)
    mistyped: Any = api.experiment("demo")
    mistyped.rounds = "3"
    with pytest.raises(ConfigError, match="'rounds' has a value of the wrong type: it is text; expected int"):
        api.run(mistyped, out)
    none: Any = "demo"
    with pytest.raises(ConfigError, match=r"run\(config=\.\.\.\): is 'demo'; api\.experiment\(\.\.\.\) makes one"):
        api.run(none, out)
    with pytest.raises(ConfigError, match=r"settings: 'train\.lr' is in a section; train=\{'lr': \.\.\.\}"):
        api.experiment("demo", **{"train.lr": 1e-3})
    assert not out.exists()


@pytest.mark.parametrize("value", ["shared", 1, None, 2.5, ["shared"], ("shared", "none")])
def test_one_value_of_a_swept_setting_is_one_and_not_its_letters(value: Any) -> None:
    wanted = tuple(value) if isinstance(value, list | tuple) else (value,)
    assert sweep_calls._axes({"keys.policy": value}) == {"keys.policy": wanted}


def test_ten_lines_are_an_experiment(ten: dict[str, Any], run: api.Run) -> None:
    first, curve, verdict = ten["printed"]
    assert first[0] == run.status == "finished"
    assert first[1] == run.summary["auroc"]
    assert (ten["folder"] / first[2]).is_file()
    assert curve[0][-1] == pytest.approx(run.summary["auroc"])
    # One known pair opens the rest, here as in any trial.
    assert verdict[0] == "succeeds"
    assert verdict[1]["target"] > verdict[1]["chance"]
    assert "known-plaintext" in run.report.read_text()


def test_what_a_run_has_not_is_refused_by_what_it_has(run: api.Run) -> None:
    wrong: Any = "a"
    with pytest.raises(ConfigError, match=r"^Run\.checkpoint\(round=\.\.\.\): is 'a'; expected int or None$"):
        run.checkpoint(wrong)
    with pytest.raises(StorageError, match=r": has no checkpoint of round -1; one of 1, 2$"):
        run.checkpoint(-1)
    with pytest.raises(ConfigError, match=r": has no predictions of a site 'site-9'; one of site-1, site-2$"):
        run.predictions()["site-9"]
    with pytest.raises(ConfigError, match=r"is not empty; .*replace=True.*resume\)$"):
        api.run(api.experiment("demo"), run.folder)


def test_a_run_is_read_as_it_was_written(run: api.Run) -> None:
    assert run.rounds() == [1, 2]
    assert run.checkpoint().round == 2
    first = run.checkpoint(1)
    assert first.tensors
    assert all(array.dtype == np.float32 for array in first.tensors.values())
    assert run.experiment.rounds == 2
    assert run.experiment.data.image_size == 32
    records = run.records()
    assert {(each["round"], each["phase"]) for each in records if each["site"] == "all"} >= {(1, "train"), (2, "test")}
    assert not run.partial
    assert run.left_out == []
    for wrong, kind in ((run.folder / "sites", ConfigError), (run.folder / "gone", ConfigError)):
        with pytest.raises(kind, match="is not a run folder"):
            api.load_run(wrong)
    with pytest.raises(StorageError):
        run.checkpoint(7)


def test_records_are_a_frame_where_pandas_is_installed(run: api.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    found = run.metrics()
    assert isinstance(found, pandas.DataFrame)
    assert found.to_dict("records")[0]["site"] == run.records()[0]["site"]
    assert len(found) == len(run.records())


def test_without_pandas_it_is_said_what_to_install(run: api.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"needs pandas; install the extra: pip install 'medveil\[pandas\]'; or take"):
        run.metrics()
    made = SimpleNamespace(DataFrame=SimpleNamespace(from_records=lambda rows: rows))
    monkeypatch.setitem(sys.modules, "pandas", made)
    assert run.metrics() == run.records()


def test_the_loaded_model_is_timms_and_answers_on_plain_images_as_the_run_did_on_hidden_ones(
    ten: dict[str, Any], run: api.Run, tmp_path: Path
) -> None:
    model = ten["model"]
    assert type(model).__module__ == "timm.models.vision_transformer"
    assert not model.training
    said = run.predictions()["site-2"]
    source = open_source(run.experiment.data)
    places = {item.id: at for at, item in enumerate(source.items)}
    pixels = torch.from_numpy(read_many(source, [places[each] for each in said.ids]))
    own = api.load_model(run.folder, site="site-2")
    with torch.no_grad():
        found = own(models_api.normalise(pixels)).softmax(-1).numpy()
    assert np.allclose(found, said.probabilities, atol=1e-4)
    # The other site's stem was trained apart.
    assert not np.allclose(model(models_api.normalise(pixels)).softmax(-1).detach().numpy(), found, atol=1e-6)
    again = api.load_model(api.export(run.folder, tmp_path / "model", site="site-2"))
    assert type(again).__module__ == "timm.models.vision_transformer"
    with torch.no_grad():
        assert torch.equal(again(models_api.normalise(pixels)), own(models_api.normalise(pixels)))


def test_what_cannot_be_loaded_is_refused_by_name(run: api.Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'elsewhere' is no domain; 'plain' or 'hidden'"):
        api.load_model(run.folder, domain="elsewhere")
    with pytest.raises(ConfigError, match="no site is called 'site-9'"):
        api.load_model(run.folder, site="site-9")
    with pytest.raises(ConfigError, match="is not a run folder"):
        api.load_model(tmp_path)
    assert issubclass(PolicyError, ConfigError)


def test_nothing_is_printed_and_records_are_heard_as_they_come(
    run: api.Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    root = logging.getLogger("medveil")
    monkeypatch.setattr(root, "handlers", [logging.NullHandler()])
    longer = tmp_path / "RUN"
    shutil.copytree(run.folder, longer)
    heard: list[dict[str, Any]] = []

    def listen(record: dict[str, Any]) -> None:
        heard.append(record)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        api.resume(longer, rounds=3, progress=listen)
    # It was told once, the run went on to its end, and what the run had measured before was not told again.
    assert [each["round"] for each in heard] == [3]
    assert api.load_run(longer).rounds() == [1, 2, 3]
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    with pytest.raises(ConfigError, match="cannot both be told"):
        api.resume(longer, rounds=4, quiet=False, progress=heard.append)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"raunds": 2}, "did you mean 'rounds'"),
        ({"data": {"image_size": "large"}}, "image_size"),
        ({"keys": {"policy": "per-site"}, "stem": {"train": "averaged"}}, "publishes the key"),
        ({"model": {"name": "vit_base_patch16_224"}}, "would be cut to"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_runs(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        api.run(api.experiment("demo", **settings), tmp_path / "RUN")
    assert not (tmp_path / "RUN").exists()


def test_settings_of_a_program_are_those_of_a_command_line() -> None:
    from simulations.experiments import load_experiment  # noqa: PLC0415

    typed = load_experiment(
        "pneumonia", ["data.path=a.npz", "train.lr=0.003", "keys.policy=shared", "model.width=null"]
    )
    called = api.experiment(
        "pneumonia",
        data={"path": Path("a.npz")},
        train={"lr": 0.003},
        keys={"policy": "shared"},
        model={"width": None},
    )
    assert called == typed


@pytest.fixture
def compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[api.Comparison]:
    monkeypatch.setattr(side_by_side, "run_tied", at_once.run_tied)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    monkeypatch.setattr("simulations.cli.report_of", lambda page: (page / "report.html").write_text("") or page)
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(40) % 2)
    small = {"width": 16, "depth": 1, "heads": 2}
    experiment = api.experiment(
        None,
        sites=1,
        rounds=1,
        threads=1,
        data={"source": "npz", "path": tmp_path / "d.npz"},
        cipher={"block": 8},
        model=small,
    )
    before = api.experiment(None).compare.arms
    yield api.compare(experiment, tmp_path / "COMPARISON", arms=["plain", "fedper"], seeds=[3])
    assert experiment.compare.arms == before


def test_a_comparison_is_a_table_and_says_nothing(compared: api.Comparison, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = compared.records()
    assert (first["arm"], second["arm"], first["seeds"]) == ("plain", "fedper", 1)
    assert 0 <= first["accuracy"] <= 1
    (folder,) = compared.runs("fedper")
    assert api.load_run(folder).summary["accuracy"] == pytest.approx(second["accuracy"])
    assert compared.failed == ()
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    with pytest.raises(ConfigError, match="has no arm 'best'; one of plain, fedper"):
        compared.runs("best")


def test_finished_runs_of_a_comparison_are_packed(compared: api.Comparison, tmp_path: Path) -> None:
    packed = api.pack(compared.folder, tmp_path / "results.zip")
    assert sorted(each.split("/")[0] for each in packed.packed) == ["fedper", "plain"]
    assert (packed.unfinished, packed.unnamed) == ([], [])
    with pytest.raises(ConfigError, match="holds no finished run"):
        api.pack(tmp_path, tmp_path / "other.zip")


def test_a_table_of_what_is_not_measured_yet_says_how_much_is_missing(tmp_path: Path) -> None:
    asked = {"policies": ["none.public.averaged"], "scopes": ["full"], "layers": ["plain"], "attacks": ["span"]}
    made = api.matrix(api.experiment("demo"), tmp_path / "matrix", **asked, views=["diagnostic"], minutes=0)
    assert made.missing == 2
    assert made.report.is_file()
    assert {each["attack"] for each in made.records()} <= {"span"}
    with pytest.raises(ConfigError, match="policies"):
        api.matrix(api.experiment("demo"), tmp_path / "matrix", policies=["none.secret.averaged"], minutes=0)


def test_what_pays_nothing_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.minutes"):
        api.pays(api.experiment("demo"), tmp_path / "pays")
    with pytest.raises(ConfigError, match=r"pays\(trunks=\.\.\.\)"):
        api.pays(api.experiment("demo"), tmp_path / "pays", trunks=["by-heart"])
    assert not (tmp_path / "pays").exists()


def test_an_ablation_of_no_switch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ablate\(switches=\.\.\.\): names no switch"):
        api.ablate(api.experiment("demo"), tmp_path / "ablation", switches=[])
    assert not (tmp_path / "ablation").exists()


def test_names_are_those_the_commands_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attacks"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(api.attacks())
    assert list(api.arms()) == list(compare.ARMS)
    assert models_api.policy("per-site") in models_api.policies()
    with pytest.raises(ConfigError, match="is no attack"):
        api.attack("jigsav", images=Path(), cipher="none", out=Path("x"))


def test_files_are_hidden_shown_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    scans, words = tmp_path / "scans", "seven horses correct the battery"
    scans.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(scans / "a.png")
    (scans / "notes.txt").write_text("no image")
    keys = crypto_api.new_key("mercy", tmp_path / "mercy.key", words)
    with pytest.raises(StorageError, match="is there already"):
        crypto_api.new_key("mercy", tmp_path / "mercy.key", words)
    done = crypto_api.hide(scans, tmp_path / "hidden", keys=keys, purpose="archive")
    assert (done.files, done.failures, done.passed_over) == (1, 0, 1)
    assert crypto_api.hide(scans, tmp_path / "hidden", keys=keys, purpose="archive").before == 1
    hidden = tmp_path / "hidden" / "a.png"
    assert crypto_api.describe(hidden)["fingerprint"] == keys.current.fingerprint
    opened = crypto_api.open_keys(tmp_path / "mercy.key", words)
    assert crypto_api.verify(tmp_path / "hidden", keys=opened).files == 1
    shown = crypto_api.show(hidden, tmp_path / "a.png", keys=opened)
    assert np.array_equal(np.asarray(Image.open(shown.target)), pixels)
    other = crypto_api.new_key("other", tmp_path / "other.key", words)
    with pytest.raises(KeyMaterialError):
        crypto_api.show(hidden, tmp_path / "b.png", keys=other)
    with pytest.raises(FormatError, match="is not a hidden file"):
        crypto_api.describe(scans / "a.png")
    with pytest.raises(ConfigError, match="is no purpose"):
        crypto_api.hide(scans, tmp_path / "x", keys=keys, purpose="fun")


def test_a_stem_follows_a_key(tmp_path: Path) -> None:
    config = models_api.ModelConfig(image_size=16, patch=8, channels=1, classes=2, width=16, depth=1, heads=2)
    plain, moved = (models_api.build(config, seed=3).eval() for _ in range(2))
    assert models_api.describe(plain, config)["width"] == 16
    geometry = {"channels": 1, "height": 16, "width": 16}
    made = crypto_api.CipherConfig(block=8, negate=True)
    cipher = crypto_api.make_cipher(made, crypto_api.SimulatedKey(0, "site-1"), **geometry)
    moves = cipher.stem_permutation()._asdict()
    models_api.adapt(moved, **moves)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 16, 16), dtype=np.uint8)
    with torch.no_grad():
        wanted = plain(models_api.normalise(torch.from_numpy(pixels)))
        hidden = models_api.normalise(torch.from_numpy(cipher.encrypt(pixels)))
        assert torch.allclose(moved(hidden), wanted, atol=1e-5)
        models_api.restore(moved, **moves)
        assert torch.equal(moved(models_api.normalise(torch.from_numpy(pixels))), wanted)
