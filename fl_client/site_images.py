"""The images a site has in a run: its source, and the encrypted store made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crypto.base import ImageCipher
from fl_client.data.hidden import check_hidden
from fl_client.data.partition import Parts, site_parts
from fl_client.data.source import Skipped, Source, open_source
from fl_client.data.standing import basis_at_site
from fl_client.data.store import EncryptedStore, is_of_split, open_store
from fl_client.data.stored import Views
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
    """

    source: Source
    store: EncryptedStore
    basis: SiteBasis
    skipped: tuple[Skipped, ...]


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
    source = open_source(setup.data) if setup.source is None else setup.source
    _refuse_others(source, run)
    if setup.judge is not None:
        setup.judge(len(source))
    parts = site_parts(source, setup.data, sites=setup.sites, index=setup.index, seed=run.seed)
    basis = _basis(run, setup, source, parts, weights)
    where: dict[str, Any] = {"folder": setup.folder, "seed": run.seed, "level": level_of(run)}
    # Before a store is built anew: who then puts back what was there finds the store as it was.
    basis.check(
        served=setup.served,
        agrees=lambda named: named == source.identity() and is_of_split(source, parts, cipher, setup.data, **where),
    )
    contents = basis.basis.parts[IMAGES]
    store = open_store(source, parts, cipher, setup.data, **where, verify=setup.verify, contents=contents)
    shared = set(source.skipped) if setup.sites > 1 else set()
    images = SiteImages(source, store, basis, tuple(each for each in store.skipped if each not in shared))
    _tell(images, setup, missing=parts.missing_classes)
    _describe(images, run, setup, cipher)
    return images


def level_of(run: RunConfig) -> str:
    """Augmentation of a run, for all its sites."""
    return str(run.train.get("augment", "none"))


def _basis(run: RunConfig, setup: SiteSetup, source: Source, parts: Parts, weights: str) -> SiteBasis:
    def look(folder: Path | None = None) -> Basis:
        dealt = {"seed": run.seed, "sites": setup.sites, "index": setup.index}
        return basis_at_site(source, parts, setup.data, **dealt, weights={WEIGHTS: weights}, folder=folder)

    found = look(setup.folder)
    if found.copies:
        told = f"{found.copies} validation and test images have the very contents of training images"
        _log.warning("%s: %s: figures of them say too much", setup.name, told)
    renew = None if Views.of(setup.data, level_of(run), run.seed).count else look
    return SiteBasis(setup.folder, run=run.run, basis=found, site=setup.name, renew=renew)


def _refuse_others(source: Source, run: RunConfig) -> None:
    check_hidden(
        source,
        keys=run.keys,
        block=int(run.cipher.get("block", 0)),
        level=level_of(run),
        views=int(run.predict.get("views", 1)),
    )
    if list(source.classes) != run.classes:
        raise ConfigError(
            f"this site has classes {list(source.classes)}", where="classes", cure=f"the run expects {run.classes}"
        )


def _tell(images: SiteImages, setup: SiteSetup, *, missing: tuple[str, ...]) -> None:
    site, source = setup.name, images.source
    if images.store.rebuilt:
        _log.warning("%s: built the store anew: %s", site, images.store.rebuilt)
    for skipped in images.skipped:
        _log.info("%s: left out %s: %s", site, skipped.path, skipped.reason)
    # Of a data set that several share, its remarks are its own, and said once.
    for warning in (*source.warnings, *(source.remarks if setup.sites == 1 else ())):
        _log.warning("%s: %s", site, warning)
    if missing:
        _log.warning("%s has no training image of %s", site, ", ".join(missing))


def _describe(images: SiteImages, run: RunConfig, setup: SiteSetup, cipher: ImageCipher) -> None:
    source, store = images.source, images.store
    write_description(
        setup.folder,
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
