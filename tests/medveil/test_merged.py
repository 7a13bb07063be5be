"""On a disk that ignores case our `crypto` and pycryptodome's `Crypto` are one folder: nothing runs out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medveil import merged
from medveil.errors import ConfigError
from medveil.merged import refuse_merged
from simulations.cli import main


def test_this_installation_is_not_merged_and_nothing_of_ours_looks_like_it() -> None:
    refuse_merged()
    ours = {path.name.lower() for path in (merged._PACKAGES / "crypto").iterdir()}
    assert not ours & {name.lower() for name in merged._THEIRS}


def test_the_folders_it_looks_for_are_pycryptodomes() -> None:
    theirs = pytest.importorskip("Crypto")
    assert all((Path(theirs.__file__).parent / name).is_dir() for name in merged._THEIRS)


def test_a_merged_folder_is_refused_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crypto" / "Cipher").mkdir(parents=True)
    with pytest.raises(ConfigError, match="this disk ignores case"):
        refuse_merged(tmp_path)
    monkeypatch.setattr("medveil.cli.refuse_merged", lambda: refuse_merged(tmp_path))
    assert main(["init", "--list"]) == 2
    assert "pip install -e" in capsys.readouterr().err
