"""A site's row of the preflight table, as it says it of itself: bounded, printable, and held to its own name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flwr.app import Message

from fl_server.collect import Reply
from fl_server.faults import reading
from medveil.contract import SITE, RunConfig
from medveil.errors import FederationError
from medveil.secagg.members import MEMBER, Join, join_in
from medveil.values import shown_value

_LARGEST = 2**63 - 1
"""What Flower's records hold at most."""
_LONGEST_NAME = 64
_LONGEST_WORD = 128
_WORDS = f"at most {_LONGEST_WORD} printable ASCII letters"
_NAMES = (
    f"wanted a printable name of at most {_LONGEST_NAME} letters, without slashes and dots in front, that is not 'all'"
)


_JOIN = "join"
_FIRST_DERIVATION = 1
_UNSAID = {"derivation": _FIRST_DERIVATION}
"""What a site of an older MedVeil means by saying nothing: it knows one way from a key to a cipher."""


@dataclass(frozen=True)
class SiteRow:
    """What a site said of itself: one row of the preflight table. Small counts come from the site as 0."""

    node: int
    site: str
    classes: list[str]
    counts: list[int]
    n_train: int
    n_validation: int
    n_test: int
    skipped: int
    missing: list[str]
    model_hash: str
    scheme: str
    block: int
    negate: bool
    derivation: int
    fingerprint: str
    version: str
    join: Join | None = None
    """Its signature that it takes part, which the other sites are shown; None where it approved no roster."""

    def as_data(self) -> dict[str, Any]:
        """The row as plain data, for the manifest."""
        return {name: value for name, value in asdict(self).items() if name != _JOIN}


def read_row(reply: Reply, *, run: RunConfig, model_hash: str, registered: str | None) -> SiteRow:
    """Read a site's row, and compare what it says with what the run says.

    Parameters
    ----------
    reply
        What the site answered, with content.
    run
        What the site must agree with.
    model_hash
        Hash of the server's own initial model.
    registered
        The name the site was admitted under; None where nobody admitted it.

    Raises
    ------
    FederationError
        A field is missing, of another type or not printable, or disagrees: site and field are named, with what is
        wanted.
    """
    assert reply.message is not None  # Callers hand over replies with content only.
    with reading(reply.site):
        said: Mapping[str, Any] = reply.message.content.config_records.get(SITE) or {}
        where = named(reply, registered)
        row = SiteRow(node=reply.node, **_values(said, where), join=_join(reply.message, where))
        _check(row, where, run=run, model_hash=model_hash, registered=registered)
        return row


def named(reply: Reply, registered: str | None) -> str:
    """Whose reply it is: by the name the site was admitted under; without one by its own word for itself."""
    record = None if reply.message is None else reply.message.content.config_records.get(SITE)
    own = None if record is None else record.get("site")
    return registered or (own if isinstance(own, str) and is_name(own) else reply.site)


def is_name(text: str) -> bool:
    """Whether a text can be a site's name: it becomes a line of a table and a part of a path."""
    printable = 0 < len(text) <= _LONGEST_NAME and text.isprintable()
    return printable and text != "all" and text[0] != "." and not set(text) & set("/\\")


def _join(message: Message, where: str) -> Join | None:
    record = message.content.config_records.get(MEMBER)
    return None if record is None else join_in(dict(record), where)


def _values(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, kind in SiteRow.__annotations__.items():
        if name in ("node", _JOIN):
            continue
        key = name.replace("_", "-")
        value = said.get(key, _UNSAID.get(key))
        if not _is(value, kind):
            raise FederationError(f"'{key}' is {shown_value(value)}", where=where, cure=f"wanted {kind}")
        values[name] = list(value) if isinstance(value, list) else value
    return values


def _is(value: object, kind: str) -> bool:
    if kind.startswith("list"):
        inner = kind.removeprefix("list[").removesuffix("]")
        return isinstance(value, list) and all(_is(each, inner) for each in value)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    return isinstance(value, {"str": str, "bool": bool}[kind])


def _check(row: SiteRow, where: str, *, run: RunConfig, model_hash: str, registered: str | None) -> None:
    def refuse(field: str, value: object, cure: str) -> None:
        raise FederationError(f"'{field}' is {shown_value(value)}", where=where, cure=cure)

    if not is_name(row.site):
        refuse("site", row.site, _NAMES)
    if registered and row.site != registered:
        # Under its key the consortium knows it by its own name.
        refuse("site", row.site, f"wanted '{registered}', as it was admitted")
    for name in ("model_hash", "scheme", "fingerprint", "version"):
        word: str = getattr(row, name)
        if not (word.isascii() and word.isprintable() and len(word) <= _LONGEST_WORD):
            refuse(name.replace("_", "-"), word, f"wanted {_WORDS}")
    for name, (found, right) in _compared(row, run, model_hash).items():
        if found != right:
            refuse(name, found, f"wanted {shown_value(right)}")
    if len(row.counts) != len(run.classes):
        refuse("counts", row.counts, f"wanted one for each of {len(run.classes)} classes")
    if not set(row.missing) <= set(run.classes):
        refuse("missing", row.missing, "wanted names of classes")
    used, what = ("train", "to train on") if run.trains else ("test", "to measure that it tells of")
    number = int(getattr(row, f"n_{used}"))
    if row.join is not None and row.join.examples != number:
        refuse(f"n-{used}", number, "wanted the number it signed for the other sites")
    if number < 1:
        refuse(f"n-{used}", number, f"wanted at least one image {what}")


def _compared(row: SiteRow, run: RunConfig, model_hash: str) -> dict[str, tuple[object, object]]:
    """By field, what the site says and what is right."""
    return {
        "classes": (row.classes, list(run.classes)),
        "model-hash": (row.model_hash, model_hash),
        "scheme": (row.scheme, run.cipher.get("scheme", row.scheme)),
        "block": (row.block, run.cipher.get("block", row.block)),
        "negate": (row.negate, run.cipher.get("negate", row.negate)),
        "derivation": (row.derivation, run.cipher.get("derivation", _FIRST_DERIVATION)),
    }
