"""What a run stands on at a site: fixed by its first round there, and compared at every start and every round after.

A run that went on over other images, labels, groups, settings or weights would test on images it was trained on, and
nothing in its figures would show it. So a site refuses, whoever asks and whatever was restarted. What it stands on is
kept in the site's own folder and never leaves it: a digest of labels or names can be guessed by whoever has a list.

A run that an older MedVeil began has no such record. What that wrote down (ids, sizes and times of files; and in the
store classes, labels and split) is compared, and where it agrees the run goes on, with a warning of what cannot be
compared: contents, groups, and the weights it began with. Where nothing is left to compare, or it disagrees, the run is
refused: nobody can say any more which images it was trained on, and a figure that may be wrong is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fl_client.data.documents import Documents
from fl_client.data.left_open import LiesOpenError
from fl_client.site_files import DESCRIPTION, FORMAT, VERSION
from medveil.basis import FORMAT as BASIS_FORMAT
from medveil.basis import (
    IMAGES,
    LABELS,
    SETTINGS,
    SHAPE,
    SPLIT,
    Basis,
    basis_document,
    basis_of_document,
    changed,
    differences,
    refuse_change,
)
from medveil.basis import VERSION as BASIS_VERSION
from medveil.errors import BasisError
from medveil.files import locked, make_folder
from medveil.log import logger

FOLDER = "basis"
OTHER_MEDVEIL = "go on with it by the MedVeil that began it (its manifest names the version), or start a new run"
CURE = "put back what it began with and start again, or start a new run"
_log = logger("site")


class SiteBasis:
    """What one run stands on at one site.

    Parameters
    ----------
    documents
        What the site keeps beside its store.
    run
        Identity of the run.
    basis
        What it would stand on now.
    site
        Name of the site.
    renew
        Looks again, at every round: for images that are read anew in every epoch, and lie in no store.
    """

    def __init__(
        self, documents: Documents, *, run: str, basis: Basis, site: str, renew: Callable[[], Basis] | None = None
    ) -> None:
        self.basis, self._site, self._run, self._documents = basis, site, run, documents
        self._renew = renew
        self._name = f"{FOLDER}/{run}.json"

    @property
    def older(self) -> bool:
        """Whether an older MedVeil began the run, so that not all of what it began with is known."""
        return self._documents.find(self._name) is not None and self._begun().older

    def check(self, *, served: bool, agrees: Callable[[str], bool], otherwise: Callable[[], str] = lambda: "") -> None:
        """Refuse to open a run over something else than it began with.

        Parameters
        ----------
        served
            Whether the run is known to have trained here.
        agrees
            Whether the images, by what an older MedVeil called their source, and its store are what there is now.
        otherwise
            In which other way an older MedVeil prepared them, as its store says; empty for in none.

        Raises
        ------
        BasisError
            Says what differs.
        IntegrityError, FormatError, StorageError
            What was written down cannot be read.
        """
        if self._documents.find(self._name) is not None:
            refuse_change(self._begun(), self.basis, where=self._site, cure=CURE)
            return
        trained = served or (self._documents.folder / "stems" / self._run).is_dir()
        described = self._described(trained=trained)
        if described is not None and "basis" not in described:
            self._take_over(described.get("source", ""), agrees, otherwise)
        elif trained and described is None:
            problem = "the run has trained here, and what it stood on is not known any more"
            raise BasisError(problem, where=self._site, cure="start a new run", parts=("unknown",))
        elif trained and described is not None:
            # The record is gone, and its digests are left: what differs is named, and not how much of it.
            differing = differences(described["basis"], self.basis.parts)
            if differing:
                raise changed(differing, where=self._site, cure=CURE)

    def hold(self) -> None:
        """At a round: fix what the run stands on if this is its first here, and refuse it if it is another.

        Raises
        ------
        BasisError
            Says what differs.
        IntegrityError, FormatError, StorageError
            What was written down cannot be read, or cannot be written.
        """
        if self._documents.find(self._name) is None:
            make_folder(self._documents.folder / FOLDER, mode=0o700)
            with locked(self._documents.folder / self._name):
                if self._documents.find(self._name) is None:
                    self._begin(self.basis)
        now = self.basis if self._renew is None else self._renew()
        refuse_change(self._begun(), now, where=self._site, cure=CURE)

    def keyed(self, key: bytes) -> str:
        """The digest under a key of the site's own, for its audit log: a reader learns whether it changed, no more."""
        return self.basis.keyed(key, self._run)

    def _described(self, *, trained: bool) -> dict[str, Any] | None:
        """What ``site.json`` says of this run; None where it tells of another, or is not there.

        One that lies open where this site seals is refused for a run that trained here, and is none for a new one.
        """
        if self._documents.find(DESCRIPTION) is None:
            return None
        shape = {"run?": str, "basis?": {str: str}}
        try:
            found = self._documents.read(DESCRIPTION, shape, format_=FORMAT, newest=VERSION)
        except LiesOpenError:
            if trained:
                raise
            return None
        return found if found.get("run") == self._run else None

    def _take_over(self, source: object, agrees: Callable[[str], bool], otherwise: Callable[[], str]) -> None:
        if not agrees(str(source)):
            prepared = otherwise()
            if prepared:
                problem = f"an older MedVeil began this run: {prepared}"
                raise BasisError(problem, where=self._site, cure=OTHER_MEDVEIL, parts=(SETTINGS,))
            problem = "the images changed since the run began, or their labels, classes, settings or split"
            raise BasisError(problem, where=self._site, cure=CURE, parts=(IMAGES, LABELS, SPLIT))
        told = "an older MedVeil began this run: contents and groups of its images, and the weights it began with"
        _log.warning("%s: %s, cannot be compared; all else agrees, and from now on all is compared", self._site, told)
        self._begin(replace(self.basis, older=True))

    def _begin(self, basis: Basis) -> None:
        self._documents.write(self._name, basis_document(basis, run=self._run))

    def _begun(self) -> Basis:
        document = self._documents.read(self._name, SHAPE, format_=BASIS_FORMAT, newest=BASIS_VERSION)
        return basis_of_document(document, where=self._documents.folder / self._name)
