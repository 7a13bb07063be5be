"""The images a site has in a run: its source, and the sealed store made of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crypto.base import ImageCipher
from fl_client.data.alike import in_two_classes, said_of_classes
from fl_client.data.documents import Documents
from fl_client.data.hidden import check_hidden
from fl_client.data.items import by_reason
from fl_client.data.neighbours import Near, near_training
from fl_client.data.opened_store import EncryptedStore
from fl_client.data.partition import Parts, measured_parts, site_parts
from fl_client.data.source import Skipped, Source, open_source
from fl_client.data.standing import basis_at_site
from fl_client.data.store import is_of_split, open_store, prepared_before
from fl_client.data.store_build import COPY
from fl_client.data.stored import Views
from fl_client.data.task import check_task
from fl_client.site_basis import SiteBasis
from fl_client.site_files import write_description
from fl_client.site_setup import SiteSetup
from medveil.basis import IMAGES, WEIGHTS, Basis
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from medveil.log import logger

_log = logger("site")


@dataclass(frozen=True)
class SiteImages:
    """A site's images, hidden.

    Attributes
    ----------
    source : Source
        What the store was made of.
    store : EncryptedStore
        What is trained on.
    basis : SiteBasis
        What the run stands on here.
    skipped : tuple of Skipped
        Files left out at this site; of a data set that several share, only those of its own share.
    near : callable
        Counts the test images of this site that look like one it trains on.
    """

    source: Source
    store: EncryptedStore
    basis: SiteBasis
    skipped: tuple[Skipped, ...]
    near: Callable[[], Near | None]

    @property
    def copies_judged(self) -> bool:
        """Whether validation or test images have the contents of training images: in stores of an older MedVeil."""
        return bool(self.basis.basis.copies) and not self.store.without_copies


def open_images(run: RunConfig, setup: SiteSetup, cipher: ImageCipher, *, weights: str) -> SiteImages:
    """Open a site's images for a run, build the store where there is none, and leave ``site.json`` beside it.

    Parameters
    ----------
    run, setup, cipher
        The run, what the site brings, and what hides its images.
    weights
        Hash of the model the run begins with.

    Raises
    ------
    ConfigError, DataError, StorageError, KeyMaterialError
        The site's images, settings, disk or key cannot serve this run, or the images changed since it began.
    """
    documents = setup.documents
    source = open_source(setup.data, kept_in=(documents,)) if setup.source is None else setup.source
    _refuse_others(source, run)
    if setup.judge is not None:
        setup.judge(len(source))
    # What several sites share, none of them keeps digests of: each would keep all.
    kept = documents if setup.sites == 1 else None
    parts = _parts(run, setup, source, kept)
    basis = _basis(run, setup, source, parts, weights)
    where: dict[str, Any] = {"key": setup.key, "folder": setup.folder, "seed": run.seed, "level": level_of(run)}
    # Before a store is built anew: who then puts back what was there finds the store as it was.
    basis.check(
        served=setup.served,
        agrees=lambda named: named == source.identity() and is_of_split(source, parts, cipher, setup.data, **where),
        otherwise=lambda: prepared_before(setup.data, cipher, folder=setup.folder),
    )
    contents = basis.basis.parts[IMAGES]
    trains = run.evaluated is None
    store = open_store(
        source, parts, cipher, setup.data, **where, verify=setup.verify, contents=contents, trains=trains
    )
    shared = set(source.skipped) if setup.sites > 1 else set()
    copies = (Skipped(source.items[i].id, COPY) for i in parts.copies)
    skipped = tuple(each for each in (*store.skipped, *copies) if each not in shared)
    held = dataclasses.replace(parts, train=store.part("train").indices, test=store.part("test").indices)
    near = functools.partial(near_training, source, [held], setup.data, kept_in=(documents,))
    images = SiteImages(source, store, basis, skipped, near)
    _tell(images, setup, missing=parts.missing_classes, use="to train on" if trains else "to measure")
    _describe(images, run, setup, cipher)
    return images


def _parts(run: RunConfig, setup: SiteSetup, source: Source, kept: Documents | None) -> Parts:
    dealt = {"sites": setup.sites, "index": setup.index, "seed": run.seed}
    if run.evaluated is None:
        return site_parts(source, setup.data, **dealt, kept=kept)
    return measured_parts(source, setup.data, **dealt, images=run.evaluated.images, kept=kept)


def level_of(run: RunConfig) -> str:
    """Augmentation of a run, for all its sites."""
    return str(run.train.get("augment", "none"))


def _basis(run: RunConfig, setup: SiteSetup, source: Source, parts: Parts, weights: str) -> SiteBasis:
    def look(kept: Documents | None = None) -> Basis:
        dealt = {"seed": run.seed, "sites": setup.sites, "index": setup.index}
        return basis_at_site(source, parts, setup.data, **dealt, weights={WEIGHTS: weights}, kept=kept)

    renew = None if Views.of(setup.data, level_of(run), run.seed).count else look
    return SiteBasis(setup.documents, run=run.run, basis=look(setup.documents), site=setup.name, renew=renew)


def _refuse_others(source: Source, run: RunConfig) -> None:
    check_hidden(
        source,
        keys=run.keys,
        block=int(run.cipher.get("block", 0)),
        level=level_of(run),
        views=int(run.predict.get("views", 1)),
    )
    check_task(source, masked=run.masked is not None)
    if run.masked is None and list(source.classes) != run.classes:
        raise ConfigError(
            f"this site has classes {list(source.classes)}", where="classes", cure=f"the run expects {run.classes}"
        )


def _tell(images: SiteImages, setup: SiteSetup, *, missing: tuple[str, ...], use: str) -> None:
    site, source = setup.name, images.source
    if images.store.rebuilt:
        _log.warning("%s: built the store anew: %s", site, images.store.rebuilt)
    if not images.store.sealed:
        told = "lies open with its names and labels, as an older MedVeil built it: 'medveil-site seal' seals it"
        _log.warning("%s: the store %s", site, told)
    if images.copies_judged:
        told = "have the very contents of training images, and an older MedVeil built the store"
        _log.warning("%s: some validation and test images %s: figures of them say too much", site, told)
    alike = sum(each.reason == COPY for each in images.skipped)
    if alike:
        told = "validation and test images of which the run trains on a copy"
        _log.warning("%s: left out %d %s", site, alike, told)
    for told in by_reason(images.skipped):
        _log.info("%s: left out %s", site, told)
    # A simulation opens the images for its sites: it has told of them, and counts over all sites.
    own = setup.source is None
    # Of a data set that several share, its remarks are its own, and said once.
    for warning in (*source.warnings, *(source.remarks if setup.sites == 1 else ())) if own else ():
        _log.warning("%s: %s", site, warning)
    _tell_alike(images, setup)
    near = images.near() if own and len(images.store.part("train")) else None
    if near is not None and (near.near or near.skipped):
        _log.warning("%s: %s", site, near)
    if missing:
        _log.warning("%s has no image %s of %s", site, use, ", ".join(missing))


def _tell_alike(images: SiteImages, setup: SiteSetup) -> None:
    """Tell of pictures that are there twice, but for what was told of them by their files."""
    alike, basis = images.store.alike, images.basis.basis
    # Of a data set that several share, files of the same contents are told of once, over all sites.
    known = in_two_classes(basis) if setup.sites > 1 else 0
    if alike["classes"] > known:
        _log.warning("%s: %s", setup.name, said_of_classes(alike["classes"], alike["named"]))


def _describe(images: SiteImages, run: RunConfig, setup: SiteSetup, cipher: ImageCipher) -> None:
    source, store = images.source, images.store
    write_description(
        setup.documents,
        {
            "site": setup.name,
            "run": run.run,
            "source": source.identity(),
            "basis": images.basis.basis.parts,
            "fingerprint": cipher.fingerprint,
            "store": store.rebuilt or ("built" if store.built else "opened"),
            "parts": {name: len(part.labels) for name, part in store.parts.items()},
            "skipped": [each._asdict() for each in images.skipped],
            "shared_skipped": [] if setup.sites == 1 else [each._asdict() for each in source.skipped],
        },
    )
