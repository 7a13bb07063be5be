"""A release's files: ``python .ci/release.py OUT`` writes wheel, sdist, software bill of materials and SHA256SUMS.

Both are built from what git tracks, in a folder of their own, so that nothing else that lies in a checkout gets in.

The bill of materials is CycloneDX 1.6: MedVeil and what it needs to run, without extras, at the versions of the
environment that this runs in, which is the one that was tested. It is checked against the standard's schema.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]
NAME = "medveil"
SUMS = "SHA256SUMS"
SPEC = "1.6"
BESIDE = ("docs", "tests", ".ci", ".github")
"""Folders that the sdist holds beside the packages: enough to test it, and to build the documentation."""


def needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The canonical names of what an installed package needs to run, all the way down, itself left out.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        Something of it is not installed.
    """
    found: set[str] = set()
    done: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, extras)]
    while waiting:
        package, asked = waiting.pop()
        if (package, asked) in done:
            continue
        done.add((package, asked))
        for text in metadata.requires(package) or []:
            requirement = Requirement(text)
            if _applies(requirement, asked):
                inner = canonicalize_name(requirement.name)
                found.add(inner)
                waiting.append((inner, frozenset(requirement.extras)))
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def bill_of(environment: dict[str, Any], kept: set[str], files: list[Path]) -> dict[str, Any]:
    """A bill of an environment, of which only some packages stay, with the digests of a release's files.

    Parameters
    ----------
    environment
        As `cyclonedx-py environment` makes it.
    kept
        Canonical names.
    files
        What the release consists of.

    Raises
    ------
    ValueError
        The environment lacks one of them.
    """
    parts = [each for each in environment["components"] if canonicalize_name(each["name"]) in kept]
    missing = kept - {canonicalize_name(each["name"]) for each in parts}
    if missing:
        raise ValueError(f"not in the bill of the environment: {', '.join(sorted(missing))}")
    root = environment["metadata"]["component"]
    refs = {each["bom-ref"] for each in parts} | {root["bom-ref"]}
    graph = [
        {**each, "dependsOn": [ref for ref in each["dependsOn"] if ref in refs]} if "dependsOn" in each else each
        for each in environment["dependencies"]
        if each["ref"] in refs
    ]
    released = [
        {
            "type": "distribution",
            "url": file.name,
            "hashes": [{"alg": "SHA-256", "content": digest(file)}],
        }
        for file in files
    ]
    named = {**root, "purl": f"pkg:pypi/{NAME}@{root['version']}", "externalReferences": released}
    return {
        **environment,
        "components": parts,
        "dependencies": graph,
        "metadata": {**environment["metadata"], "component": named},
    }


def digest(file: Path) -> str:
    """SHA-256 as 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_invalid(text: str) -> None:
    """Refuse a bill that the standard's schema does not allow (ValueError)."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    error = JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(text)
    if error is not None:
        raise ValueError(f"is no valid CycloneDX {SPEC}: {str(error)[:500]}")


def copy_tracked(checkout: Path, folder: Path) -> None:
    """Copy what git tracks, as it lies there, and name for setuptools what an sdist holds beside the packages."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=checkout, check=True, capture_output=True, text=True)
    tracked = [name for name in listed.stdout.split("\0") if name]
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, folder / name)
    files = sorted(name for name in tracked if "/" not in name)
    lines = [f"include {' '.join(files)}", *(f"graft {each}" for each in BESIDE)]
    (folder / "MANIFEST.in").write_text("\n".join(lines) + "\n")


def sums_of(files: list[Path]) -> str:
    """As ``sha256sum -c`` reads them."""
    return "".join(f"{digest(file)}  {file.name}\n" for file in sorted(files))


def main(argv: list[str]) -> int:
    """Write a release's files into a folder, which must be new or empty."""
    if len(argv) != 1:
        print("usage: python .ci/release.py OUT", file=sys.stderr)
        return 2
    out = Path(argv[0])
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        print(f"error: {out}: is not empty; name another folder", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        copy_tracked(CHECKOUT, Path(folder))
        _run("-m", "build", "--outdir", str(out), folder)
    files = sorted(out.iterdir())
    whole = out / "environment.json"
    of = ("--pyproject", str(CHECKOUT / "pyproject.toml"), "--mc-type", "application")
    form = ("--output-reproducible", "--spec-version", SPEC, "--output-format", "JSON", "--output-file", str(whole))
    _run("-m", "cyclonedx_py", "environment", *of, *form, sys.executable)
    bill = bill_of(json.loads(whole.read_text()), needed(NAME), files)
    whole.unlink()
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    refuse_invalid(text)
    files.append(out / f"{NAME}-{bill['metadata']['component']['version']}.cdx.json")
    files[-1].write_text(text)
    (out / SUMS).write_text(sums_of(files))
    for file in [*files, out / SUMS]:
        print(file)
    print(f"{len(bill['components'])} packages in the bill of materials, valid CycloneDX {SPEC}")
    return 0


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
