"""Known vulnerabilities of the tested set, without a network: ``python .ci/audit.py OSV.zip [CONSTRAINTS]``.

OSV.zip is what OSV publishes of PyPI (https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip): an advisory a
file, as JSON of https://ossf.github.io/osv-schema/. Exit code 1 where a pinned version is affected.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PINNED = Path(__file__).resolve().parents[1] / "constraints.txt"
_MOST_BYTES = 8 * 2**20
"""Of one advisory."""


class Found(NamedTuple):
    """A pinned version that an advisory names."""

    package: str
    version: str
    advisory: str
    summary: str


def pinned_in(text: str) -> dict[str, Version]:
    """Versions by canonical name of what is pinned by ``==``; comments and options are passed over.

    Raises
    ------
    ValueError
        A requirement is not pinned to one version.
    """
    found: dict[str, Version] = {}
    for line in (each.partition("#")[0].strip() for each in text.splitlines()):
        if not line or line.startswith("-"):
            continue
        requirement = Requirement(line)
        said = list(requirement.specifier)
        if len(said) != 1 or said[0].operator != "==":
            raise ValueError(f"'{line}' is not pinned by ==")
        found[canonicalize_name(requirement.name)] = Version(said[0].version)
    return found


def advisories(archive: Path) -> Iterator[dict[str, Any]]:
    """Every advisory of OSV's archive that was not withdrawn.

    Raises
    ------
    ValueError
        One is no advisory, or larger than 8 MiB.
    """
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if not entry.filename.endswith(".json"):
                continue
            with opened.open(entry) as stream:
                data = stream.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise ValueError(f"{entry.filename} is larger than {_MOST_BYTES} bytes")
            document = json.loads(data)
            if not (isinstance(document, dict) and "id" in document):
                raise ValueError(f"{entry.filename} is no advisory")
            if not document.get("withdrawn"):
                yield document


def audit(pinned: dict[str, Version], known: Iterable[dict[str, Any]]) -> list[Found]:
    """What of the pinned is affected, sorted."""
    found = set()
    for advisory in known:
        for part in advisory.get("affected", []):
            package = part.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            if package.get("ecosystem") == "PyPI" and name in pinned and is_affected(pinned[name], part):
                found.add(Found(name, str(pinned[name]), str(advisory["id"]), str(advisory.get("summary", ""))[:100]))
    return sorted(found)


def is_affected(version: Version, part: dict[str, Any]) -> bool:
    """Whether a version is listed, or within a range; a local label (``+cpu``) is that of the same source."""
    plain = Version(version.public)
    if any(_version(each) == plain for each in part.get("versions", [])):
        return True
    ranges = (each for each in part.get("ranges", []) if each.get("type") == "ECOSYSTEM")
    return any(_is_within(plain, each.get("events", [])) for each in ranges)


def _is_within(version: Version, events: list[dict[str, str]]) -> bool:
    """As the schema evaluates events: in the order of versions, the last one passed decides."""
    said = [(_version(text) or Version("0.dev0"), kind) for event in events for kind, text in event.items()]
    affected = False
    for at, kind in sorted(said, key=lambda each: each[0]):
        if kind == "introduced" and version >= at:
            affected = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            affected = False
    return affected


def _version(text: str) -> Version | None:
    """A version, None for one that PyPI would not have; ``0`` stands for the first of all."""
    try:
        return Version("0.dev0") if text == "0" else Version(text)
    except InvalidVersion:
        return None


def main(argv: list[str]) -> int:
    """Print what is affected."""
    if len(argv) not in {1, 2}:
        print("usage: python .ci/audit.py OSV.zip [CONSTRAINTS]", file=sys.stderr)
        return 2
    pinned = pinned_in(Path(argv[1] if len(argv) > 1 else PINNED).read_text(encoding="utf-8"))
    try:
        known = list(advisories(Path(argv[0])))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        print(f"error: {argv[0]}: {error}; OSV's archive of PyPI is wanted", file=sys.stderr)
        return 2
    found = audit(pinned, known)
    for each in found:
        print(f"{each.package} {each.version}: {each.advisory}: {each.summary!r}")
    print(f"{len(found)} of {len(pinned)} pinned versions by {len(known)} advisories")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
