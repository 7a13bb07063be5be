"""A site's private tensors at rest: sealed, one file a round, the newest three kept. Stems, and optimisers' moments.

The file of round r is what training of round r ended with; round 0 is the stem before round 1. Training of round r
starts from the newest file of a round before r, so that a resumed run repeats what the interrupted one would have
done.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from crypto.sealed import seal, unseal
from medveil.errors import FederationError, IntegrityError, MedVeilError
from medveil.files import make_folder, read_bytes, write_bytes
from medveil.log import logger

KEPT = 3
_NAME = re.compile(r"^round-(\d{4,})\.sealed$")
_log = logger("stems")


class StemVault:
    """Sealed private tensors of one site in one run.

    Parameters
    ----------
    folder
        Where the files lie; the run's UUID becomes a folder below it.
    run
        UUID of the run, bound to every file.
    subkey
        32 bytes, the site key's subkey for purpose ``state``.
    holds
        What the files hold, bound to each of them: one of stems opens as nothing else.
    """

    def __init__(self, folder: Path, *, run: str, subkey: bytes, holds: str = "stem") -> None:
        self._holds = holds
        self.folder = folder / run
        self._run = run
        self._subkey = subkey

    def save(self, round_: int, tensors: dict[str, Tensor], *, keep: int | None = None) -> None:
        """Seal the tensors of a round and drop all but the newest three files.

        Parameters
        ----------
        round_, tensors
            The round, and what its training ended with.
        keep
            A round whose model may be needed again: the file that it would be made from stays too.

        Raises
        ------
        FederationError
            A value is not finite; the older files stay.
        StorageError
            The disk refuses the write.
        """
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise FederationError(f"private tensor '{name}' of round {round_} is not finite")
        make_folder(self.folder, mode=0o700)
        plain = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        write_bytes(self._path(round_), seal(self._subkey, plain, associated=self._bound(round_)), mode=0o600)
        rounds = self.rounds()
        needed = max((each for each in rounds if keep is not None and each <= keep), default=None)
        for old in [each for each in rounds[:-KEPT] if each != needed]:
            self._path(old).unlink(missing_ok=True)

    def load(self, *, before: int) -> tuple[int, dict[str, Tensor]] | None:
        """The newest readable tensors of a round before `before`, with their round; None where there are none.

        A damaged file is passed over with a warning, and the one before it is used.

        Raises
        ------
        IntegrityError, FormatError
            There are files, and none of a round before `before` is left or opens with this key.
        """
        refused: MedVeilError | None = None
        rounds = self.rounds()
        if rounds and rounds[0] >= before:
            # Beginning anew from the initial stem would look like going on.
            raise IntegrityError(
                f"holds rounds {rounds[0]} to {rounds[-1]}, none before {before}",
                where=self.folder,
                cure="start a new run",
            )
        for round_ in reversed([each for each in rounds if each < before]):
            try:
                return round_, self._open(round_)
            except MedVeilError as error:
                _log.warning("%s; using the one before it", error)
                refused = error
        if refused is not None:
            raise refused
        return None

    def rounds(self) -> list[int]:
        """Rounds that have a file, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(found[1]) for each in self.folder.iterdir() if (found := _NAME.match(each.name)))

    def _open(self, round_: int) -> dict[str, Tensor]:
        path = self._path(round_)
        sealed = read_bytes(path)
        try:
            plain = unseal(self._subkey, sealed, associated=self._bound(round_))
        except MedVeilError as error:
            raise type(error)(error.problem, where=path, cure=error.cure) from None
        try:
            return dict(load(plain))
        except Exception as error:
            raise IntegrityError("does not hold tensors", where=path) from error

    def _path(self, round_: int) -> Path:
        return self.folder / f"round-{round_:04d}.sealed"

    def _bound(self, round_: int) -> bytes:
        return f"medveil-{self._holds}/1/{self._run}/{round_}".encode()
