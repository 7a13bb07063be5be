"""What `make release` says of a release: what it needs to run, and digests that a tool can check."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from release import bill_of, needed, refuse_invalid, sums_of


def test_what_medveil_needs_to_run_is_all_of_it_and_nothing_of_its_tests() -> None:
    found = needed("medveil")
    # Directly, and through others.
    assert {"torch", "flwr", "cryptography", "grpcio", "cffi"} <= found
    assert not {"pytest", "ruff", "mypy", "mkdocs", "medveil", "opacus"} & found
    with pytest.raises(metadata.PackageNotFoundError):
        needed("medveil-that-nobody-installed")


def environment() -> dict[str, Any]:
    parts = [
        {"bom-ref": f"{name}==1", "name": name, "type": "library", "version": "1"} for name in ("A_b", "c", "other")
    ]
    root = {"bom-ref": "root", "name": "medveil", "type": "application", "version": "0.1"}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": parts,
        "dependencies": [
            {"ref": "root", "dependsOn": ["A_b==1", "other==1"]},
            {"ref": "A_b==1", "dependsOn": ["c==1"]},
        ],
    }


def test_a_bill_keeps_what_is_needed_and_names_the_releases_files(tmp_path: Path) -> None:
    wheel = tmp_path / "medveil.whl"
    wheel.write_bytes(b"wheel")
    made = bill_of(environment(), {"a-b", "c"}, [wheel])
    assert [each["name"] for each in made["components"]] == ["A_b", "c"]
    assert made["dependencies"][0]["dependsOn"] == ["A_b==1"]
    (file,) = made["metadata"]["component"]["externalReferences"]
    (line,) = sums_of([wheel]).splitlines()
    assert line.split() == [file["hashes"][0]["content"], file["url"]]
    with pytest.raises(ValueError, match="not in the bill of the environment: gone"):
        bill_of(environment(), {"a-b", "gone"}, [wheel])
    (tmp_path / "SHA256SUMS").write_text(sums_of([wheel]))
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    wheel.write_bytes(b"another")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode != 0


def test_a_bill_that_the_standard_does_not_allow_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="needs the extra: medveil[release]")
    wheel = tmp_path / "medveil.whl"
    wheel.write_bytes(b"wheel")
    made = bill_of(environment(), {"a-b", "c"}, [wheel])
    refuse_invalid(json.dumps(made))
    made["components"][0]["type"] = "no such type"
    with pytest.raises(ValueError, match=r"is no valid CycloneDX 1\.6"):
        refuse_invalid(json.dumps(made))
