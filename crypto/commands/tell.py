"""What the commands for files print: a result for people or as JSON, tables of what failed or wants a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crypto.files.header import HiddenHeader
from crypto.files.recipe import ARCHIVE, TRAINING
from crypto.tree.dry import Forecast
from crypto.tree.index import FAILED, SKIPPED, WARNED, Reason
from crypto.tree.paths import REPORT
from crypto.tree.plan import Plan
from crypto.tree.run import Result
from crypto.tree.said import ADVICE, said_of_header, said_of_sealed
from medveil.plain import shown, tell, tell_json

RECODED = (
    "{} JPEG or BMP files were decoded and hidden as PNG (NAME.jpg.png): a cipher does not survive JPEG, "
    "and a hidden PNG that is saved as JPEG cannot be shown again"
)
_WIDTH = 60


def tell_result(plan: Plan, result: Result, *, as_json: bool) -> None:
    """Print what a run over a tree came to."""
    summary = result.summary
    if as_json:
        rows = {"failures": _rows(result.failed), "warnings": _rows(result.warned)}
        report = str(plan.target / REPORT)
        print_json({"action": plan.action, **_purpose(plan), **summary.as_json(), **rows, "report": report})
        return
    done = "hidden" if plan.recipe is not None else "shown"
    size = f"{summary.frames} images, {_bytes(summary.bytes_read)}"
    seconds = summary.as_json()["seconds"]
    rate = summary.as_json()["files_per_second"]
    pace = f"{rate:.0f}" if rate >= 1 else f"{rate:.1f}"
    tell(f"{done}: {summary.done} files, {size} in {seconds:.1f} s ({pace} files/s)")
    if summary.already:
        tell(f"done before: {summary.already} files")
    if summary.kinds:
        tell(f"kinds: {_counted(summary.kinds)}")
    if summary.skipped:
        tell(f"passed over, not images: {summary.skipped}, named in {plan.target / REPORT}")
    if plan.recipe is not None and (summary.done or summary.already):
        tell(f"{plan.recipe.purpose}: {ADVICE[plan.recipe.purpose]}")
    recoded = summary.kinds["jpeg"] + summary.kinds["bmp"]
    if plan.recipe is not None and recoded:
        _note(RECODED.format(recoded))
    tell_reasons("look at", result.reasons.get(WARNED, []), result.warnings)
    tell_reasons("failed", result.reasons.get(FAILED, []), summary.failed)


def tell_forecast(plan: Plan, found: Forecast, *, as_json: bool) -> None:
    """Print what a run would do."""
    if as_json:
        counts = {
            "would_do": sum(found.files.values()),
            "kinds": dict(sorted(found.files.items())),
            "bytes": sum(found.sizes.values()),
            "already_done": found.summary.already,
            "would_fail": found.summary.failed,
            "skipped": found.summary.skipped,
        }
        said = {"warnings": [found.mixed] if found.mixed else [], "failures": _rows(found.failed)}
        print_json({"action": plan.action, **_purpose(plan), **counts, **said})
        return
    doing = "hide" if plan.recipe is not None else "show"
    tell(f"would {doing}: {sum(found.files.values())} files, {_bytes(sum(found.sizes.values()))}")
    for kind, count in sorted(found.files.items()):
        tell(f"  {kind:<8} {count} files, {_bytes(found.sizes[kind])}")
    if found.summary.already:
        tell(f"done before: {found.summary.already} files")
    if found.summary.skipped:
        tell(f"would pass over, not images: {found.summary.skipped}")
    if found.mixed:
        tell(f"look at: {found.mixed}")
    tell_reasons("would pass over", found.reasons.get(SKIPPED, []), found.summary.skipped)
    tell_reasons("would fail", found.reasons.get(FAILED, []), found.summary.failed)


def tell_check(root: Path, result: Result, *, as_json: bool) -> None:
    """Print what a check of a tree found."""
    if as_json:
        counts = {"whole": result.summary.done, "failed": result.summary.failed}
        print_json({"action": "verify", **counts, "failures": _rows(result.failed)})
        return
    tell(f"whole: {result.summary.done} files, as {root} was written")
    tell_reasons("failed", result.reasons.get(FAILED, []), result.summary.failed)


def tell_header(file: str, header: HiddenHeader, identity: tuple[str, str] | None, *, as_json: bool) -> None:
    """Print what a hidden file says of itself, and where it is DICOM what became of the identity in it."""
    values = said_of_header(file, header, identity)
    if as_json:
        print_json(values)
        return
    shape = f"{header.channels} x {header.height} x {header.width}, {header.bits} bit{' signed' * header.signed}"
    frames = f"{header.frames} x ({shape})" if header.frames != 1 else shape
    negated = ", negated" if header.negate else ""
    tell_values(
        {
            "file": shown(file),
            "kind": header.kind,
            "purpose": f"{header.purpose}: {ADVICE[header.purpose]}",
            "scheme": f"{header.scheme}, block {header.block}{negated}",
            "shape": frames,
            **({} if header.purpose != TRAINING else {"prepared": _prepared(header)}),
            **({} if identity is None else {"identity": identity[1]}),
            "fingerprint": header.fingerprint,
        }
    )


def _prepared(header: HiddenHeader) -> str:
    return f"in way {header.preparation} of MedVeil's" if header.preparation else "in a way that is not said"


def tell_sealed(file: str, fingerprint: str, *, as_json: bool) -> None:
    """Print what a sealed file says of itself: only whose it is."""
    if as_json:
        print_json(said_of_sealed(file, fingerprint))
        return
    purpose = f"{ARCHIVE}: {ADVICE[ARCHIVE]}; what it holds is sealed"
    identity = "sealed, with everything else in it"
    values = {"file": shown(file), "kind": "sealed", "purpose": purpose, "identity": identity}
    tell_values({**values, "fingerprint": fingerprint})


def tell_values(values: dict[str, Any]) -> None:
    """Print names and values, one a line."""
    for name, value in values.items():
        tell(f"{name:<12} {value}")


def tell_reasons(title: str, reasons: Sequence[Reason], total: int) -> None:
    """Print what is said of which files on stderr: a row a file, or a row for all of whom the same is said.

    Parameters
    ----------
    title
        What it is a table of.
    reasons
        As `crypto.tree.index.Index.reasons` has them.
    total
        How many rows the report has; nothing is printed where there are none.
    """
    if not total:
        return
    _note(f"{title}: {total}")
    listed = [row for reason in reasons for row in _named(reason)]
    width = min(_WIDTH, max((len(name) for name, _ in listed), default=0))
    for name, text in listed:
        _note(f"  {name:<{width}}  {text}")
    more = total - sum(reason.files for reason in reasons)
    if more > 0:
        _note(f"  ... and {more} more")


def _named(reason: Reason) -> Iterator[tuple[str, str]]:
    if reason.files == len(reason.names):
        yield from ((shown(name), reason.text) for name in reason.names)
        return
    first = ", ".join(shown(name, most=_WIDTH) for name in reason.names)
    yield f"{reason.files} files", f"{reason.text} ({first} and {reason.files - len(reason.names)} more)"


def print_json(values: dict[str, Any]) -> None:
    """Print a result as JSON; names that cannot be encoded are escaped."""
    tell_json(values)


def _note(text: str) -> None:
    tell(text, error=True)


def _purpose(plan: Plan) -> dict[str, Any]:
    return {} if plan.recipe is None else {"purpose": plan.recipe.purpose, "advice": ADVICE[plan.recipe.purpose]}


def _rows(rows: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"file": name, "what": text} for name, text in rows]


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))


def _bytes(n: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} bytes"
