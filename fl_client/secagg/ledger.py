"""What a site remembers of the sums it helped to open, for as long as it has its state: one set of sites a round.

Two sums of one round, over two sets, are one site's update as their difference. So the set is written down before the
site signs it, and is the round's for ever: a round may be attempted again, and its sum opened, over the same set alone.
So is the model it begins from: a site that was sent another, alone, would go on from another stem than the others do.
An attempt is written down before its shares leave, and comes once. The file is sealed, and replaced whole or not at
all; it also holds the run's key that shares are sealed to, until the run has ended.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from crypto.sealed import seal, unseal
from medveil.bounded import DOCUMENT, parse_json
from medveil.errors import AggregationError, FormatError, IntegrityError, MedVeilError
from medveil.files import changing, check_format, read_bytes, write_bytes
from medveil.log import logger
from medveil.shapes import check_shape

FORMAT = "medveil-aggregation-ledger"
VERSION = 1
SUFFIX = ".sealed"
_ROUND = {"attempt": int, "transcript": str, "agreed": str, "survivors": [str], "model?": str}
_SHAPE = {"key": str, "ended": bool, "rounds": {str: _ROUND}}
_LARGEST = 2**24
_log = logger("site")


@dataclass(frozen=True)
class Opened:
    """One round.

    Parameters
    ----------
    attempt
        The newest attempt that was offered for.
    transcript
        Of what was masked in it, 64 hex digits; empty until then.
    agreed
        The transcript whose sum this site helps to open; empty until it signed one.
    survivors
        The sites whose sum it is, sorted: of every attempt of this round.
    model
        Digest of the tensors it began from: of every attempt too; empty where there were none.
    """

    attempt: int
    transcript: str = ""
    agreed: str = ""
    survivors: tuple[str, ...] = ()
    model: str = ""


@dataclass
class _Pages:
    key: str = ""
    ended: bool = False
    rounds: dict[int, Opened] = field(default_factory=dict)


class Ledger:
    """One run's, on disk. Every change is on disk before the method returns.

    Parameters
    ----------
    path
        The file; where there is none the run has just begun.
    run
        UUID of the run, bound to the file.
    subkey
        32 bytes, the site key's subkey for purpose ``state``.
    former
        Those of keys that the site had before it: what was sealed under them is read.
    """

    def __init__(self, path: Path, *, run: str, subkey: bytes, former: Sequence[bytes] = ()) -> None:
        self._path, self._run, self._subkey, self._former = path, run, subkey, tuple(former)

    def seal_key(self) -> X25519PrivateKey:
        """The run's key that shares are sealed to; drawn when it is first asked for.

        Raises
        ------
        AggregationError
            The run has ended here, and its key was erased.
        StorageError, IntegrityError, FormatError
            The file cannot be written, or is not whole.
        """
        with self._changing() as pages:
            if pages.ended:
                raise AggregationError("the run has ended at this site", where=self._run, reason="ended")
            if not pages.key:
                pages.key = X25519PrivateKey.generate().private_bytes_raw().hex()
                self._write(pages)
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(pages.key))

    def of(self, number: int) -> Opened | None:
        """What is known of a round; None where nothing was ever offered for it."""
        return self._read().rounds.get(number)

    def rounds(self) -> dict[int, Opened]:
        """What is known of all of them, by number."""
        return self._read().rounds

    def offering(self, number: int, attempt: int, model: str = "") -> None:
        """Begin an attempt at a round, from a model that is named by its digest.

        Raises
        ------
        AggregationError
            It was begun before (``attempt``).
        """
        with self._changing() as pages:
            known = pages.rounds.get(number)
            if known is not None and attempt <= known.attempt:
                problem = f"this site made its offer for attempt {attempt} of round {number} before"
                raise AggregationError(
                    problem, where=self._run, cure="a new attempt has a number above", reason="attempt"
                )
            known = known or Opened(attempt)
            # A ledger of an older MedVeil names no model: it is held to the next one.
            first = known.model or model
            pages.rounds[number] = replace(known, attempt=attempt, transcript="", model=first)
            self._write(pages)

    def masking(self, number: int, attempt: int, transcript: bytes) -> None:
        """Note what is masked; an attempt is masked once (AggregationError, ``order``)."""
        with self._changing() as pages:
            known = pages.rounds.get(number)
            if known is None or known.attempt != attempt or known.transcript:
                raise AggregationError("this site masks once, after its offer", where=self._run, reason="order")
            pages.rounds[number] = replace(known, transcript=transcript.hex())
            self._write(pages)

    def agreeing(self, number: int, transcript: bytes, survivors: list[str]) -> None:
        """Note the one set of sites whose sum of this round is opened; the same again changes nothing.

        Raises
        ------
        AggregationError
            This site masked nothing of the kind (``order``), or agreed to another set in this round (``set``).
        """
        with self._changing() as pages:
            known = pages.rounds.get(number)
            if known is None or known.transcript != transcript.hex():
                raise AggregationError(
                    "this site masked nothing in what is to be opened", where=self._run, reason="order"
                )
            wanted = tuple(sorted(survivors))
            if known.survivors and known.survivors != wanted:
                problem = f"this site agreed to another set of sites in round {number}, and a round has one"
                cure = "have the same sites take part, or begin a new run"
                raise AggregationError(problem, where=self._run, cure=cure, reason="set")
            pages.rounds[number] = replace(known, agreed=transcript.hex(), survivors=wanted)
            self._write(pages)

    def end(self) -> None:
        """Erase the run's key: what was sealed to it in this run opens for nobody any more, this site included."""
        with self._changing() as pages:
            if not pages.ended:
                pages.key, pages.ended = "", True
                self._write(pages)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _changing(self) -> AbstractContextManager[_Pages]:
        return changing(self._path, self._read)

    def _read(self) -> _Pages:
        if not self._path.exists():
            return _Pages()
        sealed = read_bytes(self._path, most=_LARGEST)
        document = parse_json(self._unsealed(sealed), where=self._path, bounds=DOCUMENT)
        check_format(document, name=FORMAT, newest=VERSION, where=self._path)
        check_shape(document, _SHAPE, where=self._path)
        rounds = {int(number): _opened(values) for number, values in document["rounds"].items()}
        return _Pages(document["key"], document["ended"], rounds)

    def _unsealed(self, sealed: bytes) -> bytes:
        for subkey in self._former:
            with contextlib.suppress(IntegrityError):
                return unseal(subkey, sealed, associated=self._bound)
        try:
            return unseal(self._subkey, sealed, associated=self._bound)
        except MedVeilError as error:
            raise type(error)(error.problem, where=self._path, cure=error.cure) from None

    def _write(self, pages: _Pages) -> None:
        rounds = {str(number): asdict(each) for number, each in sorted(pages.rounds.items())}
        document = {"format": FORMAT, "version": VERSION, "key": pages.key, "ended": pages.ended, "rounds": rounds}
        write_bytes(self._path, seal(self._subkey, json.dumps(document).encode(), associated=self._bound), mode=0o600)

    @property
    def _bound(self) -> bytes:
        return f"aggregation ledger/{self._run}".encode()


def end_former(folder: Path, *, subkey: bytes, former: Sequence[bytes] = (), keep: int) -> None:
    """Erase the keys of runs that others followed at this site, but for those whose ledgers changed last.

    A run cannot say that it will not be taken up again; that others have begun since says so well enough.

    Parameters
    ----------
    folder
        Of the ledgers, each called after its run.
    subkey, former
        As for `Ledger`. One that none of them opens is left, and told: what is in it opens for nobody here.
    keep
        How many runs keep theirs.
    """
    changed = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in changed[keep:]:
        try:
            Ledger(path, run=path.name.removesuffix(SUFFIX), subkey=subkey, former=former).end()
        except (IntegrityError, FormatError) as error:
            _log.warning("the key of a former run is not erased: %s", error)


def _opened(values: dict[str, Any]) -> Opened:
    survivors = tuple(values["survivors"])
    return Opened(values["attempt"], values["transcript"], values["agreed"], survivors, values.get("model", ""))
