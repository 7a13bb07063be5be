"""The models a site kept: seen, and removed one at a time."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from crypto import sealed_file
from crypto.passphrase import forget
from fl_client.cli import main
from fl_client.deployment.own_files import load_site
from fl_client.export.held import MODELS, find_kept, held
from medveil.audit_verify import verify
from medveil.errors import ConfigError

RUNS = ("0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", "0f2d0000-5b6e-4a8c-9e1b-0123456789ab", "77777777-aaaa")


class Terminal(io.StringIO):
    """Someone who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", "seven horses")
    file = tmp_path / "enrol" / "site.yaml"
    words = ["server=127.0.0.1:9092", f"data.path={tmp_path}", "data.source=dicom", "device=cpu"]
    assert main(["enroll", "--name", "st-anna", "--out", str(file.parent), *words]) == 0
    # Nothing here needs the key.
    monkeypatch.delenv("MEDVEIL_PASSPHRASE", raising=False)
    forget()
    return ["--site", str(file)]


@pytest.fixture
def folder(site: list[str]) -> Path:
    """Three models, kept a day apart, the last run's first."""
    made = load_site(Path(site[1])).own / MODELS
    made.mkdir(parents=True)
    for number, run in enumerate(reversed(RUNS)):
        path = made / f"{run}.sealed"
        path.write_bytes(bytes(1_000_000 * (number + 1)))
        os.utime(path, (1_790_000_000 + 86_400 * number,) * 2)
    (made / ".half.sealed.x.part").write_bytes(b"left by a killed writer")
    return made


def test_status_shows_how_many_and_of_which_runs(
    site: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *site]) == 0
    assert "kept models: 3, 6.0 MB, of the runs 77777777, 0f2d0000, 0f2c7cf0" in capsys.readouterr().out
    assert main(["status", "--json", *site]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [(each["run"], each["bytes"]) for each in models] == [
        (run, 1_000_000 * (number + 1)) for number, run in enumerate(reversed(RUNS))
    ]
    assert main(["models", *site]) == 0
    said = capsys.readouterr().out
    assert all(run in said for run in RUNS)
    assert main(["models", "--json", *site]) == 0
    assert json.loads(capsys.readouterr().out) == models


def test_a_site_that_kept_none_says_so(site: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "models"):
        assert main([command, *site]) == 0
        assert "kept models: none" in capsys.readouterr().out
    assert main(["models", "--remove", "0f", "--yes", *site]) == 2
    assert "no model is kept here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "typed", "says"),
    [
        ("0f2", "y\n", "'0f2' fits several"),
        ("", "y\n", "no such model is kept here"),
        ("*", "y\n", "no such model is kept here"),
        ("../models/777", "y\n", "no such model is kept here"),
        ("77", "\n", "nothing was removed"),
        ("77", "n\n", "nothing was removed"),
        ("77", "", "nothing was removed"),
        ("77", None, "no terminal to ask on; --yes removes it without being asked"),
    ],
)
def test_none_is_removed_by_mistake(
    site: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    named: str,
    typed: str | None,
    says: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n") if typed is None else Terminal(typed))
    assert main(["models", f"--remove={named}", *site]) == 2
    assert says in capsys.readouterr().err
    assert len(held(folder)) == 3


def test_one_is_removed_when_it_is_named_and_meant(
    site: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert main(["models", "--remove", "0f2d", *site]) == 0
    asked = capsys.readouterr()
    assert f"remove the model of run {RUNS[1]}, kept 2026-09-22" in asked.err
    assert [each.run for each in held(folder)] == [RUNS[2], RUNS[0]]
    assert main(["models", "--remove", "777", "--yes", "--json", *site]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [RUNS[2]]
    assert [each.run for each in held(folder)] == [RUNS[0]]
    records = verify(load_site(Path(site[1])).audit.path).records
    assert [each["details"]["run"] for each in records if each["event"] == "model-removed"] == [RUNS[1], RUNS[2]]


def test_the_newest_is_the_one_without_a_name(folder: Path) -> None:
    assert find_kept(folder, None).stem == RUNS[0]
    assert find_kept(folder, "7").stem == RUNS[2]
    with pytest.raises(ConfigError, match="fits several"):
        find_kept(folder, "0f")
