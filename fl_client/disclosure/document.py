"""A disclosure: what was tried on a site's own images and settings, as one document that the site's identity signs.

What is signed is the document's digest, the page's, and what both are about (`fl_client.disclosure.subject`). A
disclosure says what was found by whom; it says of nothing that it is safe.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medveil.audit import canonical
from medveil.bounded import MIB, Bounds
from medveil.errors import FormatError, IntegrityError, SignatureError
from medveil.files import write_json
from medveil.shapes import check_shape, read_chosen
from medveil.signing import Signed, SigningKey, verified

FORMAT, VERSION = "medveil-disclosure", 1
PAGE, JSON = ".html", ".json"
MOST = Bounds(length=8 * MIB, depth=16, values=200_000)
_CURE = "name what 'medveil-site disclose --out' wrote, the page or the JSON beside it"
_NUMBER = (float, None)
_FIGURE = {
    "target": _NUMBER,
    "control": _NUMBER,
    "chance": _NUMBER,
    "ci95": {str: (list, None)},
    "unit": str,
    "direction": str,
    "text": str,
}
TRIED = {
    "attack": str,
    "text": str,
    "has": [str],
    "model": str,
    "verdict": str,
    "main": str,
    "margin": float,
    "figures": {str: _FIGURE},
    "keys": int,
    "n": int,
    "notes": [str],
    "seconds": float,
}
"""What was measured: the figures beside their chance and control, and what the attacker was given."""
UNTRIED = {"attack": str, "text": str, "has": [str], "kind": str, "reason": str}
"""What was not, and why."""
BROKEN = "broken attack"
"""The verdict on an attack that fails on its own control."""
TELLING = ("succeeds", "above chance", "at chance")
"""Verdicts on attacks that do not."""
INAPPLICABLE, UNFINISHED, FAILED, UNBUILT = "does not apply", "not finished", "failed", "not built"
OUTSIDE = (
    {
        "attack": "attacks on hidden images",
        "text": "They begin from images as they rest, hidden under a key.",
        "has": ["ciphertexts"],
        "kind": INAPPLICABLE,
        "reason": "hidden images do not leave this site in a run",
    },
    {
        "attack": "images out of this very model",
        "text": "Membership alone is asked of the model at hand; other attacks train models of their own, under the "
        "same settings and on images of this site.",
        "has": ["the model that leaves"],
        "kind": UNBUILT,
        "reason": "no attack here makes images of the numbers of a model at hand",
    },
    {
        "attack": "what nobody built here",
        "text": "Attacks that are published, and those that are not.",
        "has": [],
        "kind": UNBUILT,
        "reason": "how many there are is not known",
    },
)
"""What no disclosure tries, said in each."""
_SHAPE = {
    "site": str,
    "made": str,
    "medveil": str,
    "about": {"run": str, "name": str, "settings": str, "model": (str, None)},
    "contract": {str: (str, int, float, bool, None)},
    "situation": str,
    "privacy": {"run": (dict, None), "spent": (dict, None)},
    "limits": dict,
    "effort": {"minutes": float, "seconds": float, "keys": int, "short": bool},
    "tried": [TRIED],
    "untried": [UNTRIED],
}


@dataclass(frozen=True)
class Disclosure:
    """A document and the statement that its site signed."""

    document: dict[str, Any]
    signed: Signed

    @property
    def digest(self) -> str:
        """SHA-256 of the document: 64 hex digits."""
        return digest_of(self.document)

    @property
    def site(self) -> str:
        """Whose it is."""
        return str(self.document["site"])

    @property
    def settings(self) -> str:
        """Digest of the settings it is about."""
        return str(self.document["about"]["settings"])

    @property
    def model(self) -> str | None:
        """Digest of the model it is about; None where there was none yet."""
        found = self.document["about"]["model"]
        return None if found is None else str(found)

    @property
    def made(self) -> datetime:
        """When."""
        return datetime.fromisoformat(self.document["made"])

    @property
    def tried(self) -> int:
        """How many attacks were measured."""
        return len(self.document["tried"])

    @property
    def broken(self) -> list[str]:
        """The attacks that failed where nothing is hidden: of a site's images they say nothing."""
        return [each["attack"] for each in self.document["tried"] if each["verdict"] == BROKEN]

    @property
    def counts(self) -> bool:
        """Whether an attack was measured that recovers something where nothing is hidden, and so can tell."""
        return any(each["verdict"] in TELLING for each in self.document["tried"])

    @property
    def succeeded(self) -> list[str]:
        """The attacks that recovered something by their own rule."""
        return [each["attack"] for each in self.document["tried"] if each["verdict"] == "succeeds"]

    @property
    def unfinished(self) -> list[str]:
        """The attacks that apply and gave no figure."""
        return [each["attack"] for each in self.document["untried"] if each["kind"] in (UNFINISHED, FAILED)]

    @property
    def said(self) -> str:
        """What it comes to, in a clause."""
        found = self.succeeded
        more = f": {', '.join(found)}" if found else ""
        failed = f"; {', '.join(self.broken)} failed where nothing is hidden, and tell nothing" if self.broken else ""
        return f"{len(found)} of {self.tried} attacks that were tried succeed{more}{failed}"

    def write(self, path: Path) -> None:
        """Write it (StorageError where the disk refuses)."""
        statement = {"statement": self.signed.statement, "signature": self.signed.signature}
        write_json(path, {"format": FORMAT, "version": VERSION, **statement, "document": self.document}, mode=0o600)


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 of a document as it is signed: 64 hex digits."""
    return hashlib.sha256(canonical(document)).hexdigest()


def signed_by(identity: SigningKey, document: dict[str, Any], page: bytes) -> Disclosure:
    """Sign a document and its page."""
    return Disclosure(document, identity.sign(FORMAT, VERSION, _statement(document, hashlib.sha256(page).hexdigest())))


def read_disclosure(path: Path) -> Disclosure:
    """Read a disclosure that somebody named, by its page or its JSON; nothing of it is believed yet.

    Raises
    ------
    StorageError, FormatError, IntegrityError
        It is missing, is none, or has other fields than one has.
    """
    found = path.with_suffix(JSON) if path.suffix == PAGE else path
    document = read_chosen(found, name=FORMAT, newest=VERSION, cure=_CURE, bounds=MOST)
    shape = {"statement": str, "signature": str, "document": _SHAPE}
    check_shape(document, shape, where=found, cure="ask who sent it for a whole copy")
    made = Disclosure(document["document"], Signed(document["statement"], document["signature"]))
    if not _is_moment(made.document["made"]):
        raise FormatError("'made' is no moment", where=found, cure=_CURE)
    return made


def check_signed(given: Disclosure, public: str, *, where: Path, page: bytes | None = None) -> None:
    """Refuse a disclosure that was not signed as it stands.

    Parameters
    ----------
    given
        The disclosure.
    public
        The public half of the identity that must have signed it.
    where
        Its file, for errors.
    page
        Its page, where that is at hand.

    Raises
    ------
    SignatureError
        Another key signed it, or it is a statement of something else.
    IntegrityError
        Document or page are others than were signed.
    """
    try:
        fields = verified(given.signed, public, domain=FORMAT, newest=VERSION)
    except SignatureError as error:
        cure = "it is not this site's, or was changed: medveil-site disclose"
        raise SignatureError(error.problem, reason=error.reason, where=where, cure=cure) from None
    if {**fields, "page": ""} != _statement(given.document, ""):
        raise IntegrityError("the document is another than was signed", where=where, cure="ask for the one that was")
    if page is not None and hashlib.sha256(page).hexdigest() != fields["page"]:
        problem = "the page is another than was signed"
        raise IntegrityError(problem, where=where.with_suffix(PAGE), cure="ask for the one that was")


def now() -> str:
    """The moment, as a document has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _statement(document: dict[str, Any], page: str) -> dict[str, Any]:
    about = document["about"]
    return {
        "document": digest_of(document),
        "page": page,
        "site": document["site"],
        "made": document["made"],
        "settings": about["settings"],
        "model": about["model"],
    }
