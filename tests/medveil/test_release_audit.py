"""`.ci/audit.py`: which pinned versions OSV's advisories name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import audit
import pytest
from packaging.version import Version


def advisory(name: str = "Some_Package", **part: Any) -> dict[str, Any]:
    return {"id": "PYSEC-1", "affected": [{"package": {"ecosystem": "PyPI", "name": name}, **part}]}


def within(*events: dict[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}


@pytest.mark.parametrize(
    ("version", "part", "affected"),
    [
        ("1.2", {"versions": ["1.1", "1.2.0"]}, True),
        ("1.3", {"versions": ["1.1", "1.2"]}, False),
        ("1.2+cpu", {"versions": ["1.2"]}, True),
        ("1.2", within({"introduced": "0"}, {"fixed": "1.2"}), False),
        ("1.2rc1", within({"introduced": "0"}, {"fixed": "1.2"}), True),
        ("1.1", within({"introduced": "0"}, {"fixed": "1.2"}), True),
        ("1.9", within({"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "1.5"}), True),
        ("1.3", within({"fixed": "1.2"}, {"introduced": "1.5"}, {"introduced": "0"}), False),
        ("1.5", within({"introduced": "1.5"}, {"last_affected": "1.5"}), True),
        ("1.6", within({"introduced": "1.5"}, {"last_affected": "1.5"}), False),
        ("1.2", {"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, False),
    ],
)
def test_a_version_is_affected_as_the_schema_says(version: str, part: dict[str, Any], affected: bool) -> None:
    assert bool(audit.audit({"some-package": Version(version)}, [advisory(**part)])) == affected


def test_the_tested_set_is_read_and_what_is_affected_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = audit.pinned_in(audit.PINNED.read_text())
    assert len(pinned) > 50
    known = [advisory("torch", **within({"introduced": "0"})), {**advisory("flwr", versions=[str(pinned["flwr"])])}]
    known[1] |= {"id": "PYSEC-2", "withdrawn": "2026-01-01T00:00:00Z"}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number, each in enumerate(known):
            archive.writestr(f"{number}.json", json.dumps(each))
    assert audit.main([str(tmp_path / "all.zip")]) == 1
    said = capsys.readouterr().out
    assert f"torch {pinned['torch']}: PYSEC-1" in said
    assert "flwr" not in said
    (tmp_path / "none.zip").write_text("no archive")
    assert audit.main([str(tmp_path / "none.zip")]) == 2
    with pytest.raises(ValueError, match="not pinned"):
        audit.pinned_in("numpy>=2\n")
