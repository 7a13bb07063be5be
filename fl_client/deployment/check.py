"""Whether a site is ready, point by point, each with its cure. Nothing is changed; nothing is sent but a greeting."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fl_client.data.config import PACS
from fl_client.data.items import OneClassError
from fl_client.deployment.added import added
from fl_client.deployment.check_server import authority, of_door, server_key
from fl_client.deployment.check_terms import terms
from fl_client.deployment.door import refuse_full_disk, refuse_no_images
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.points import FAILED, OK, WARNING, Point, point_of
from fl_client.deployment.signatures import open_identity, refuse_unsigned
from medveil import node_keys
from medveil.errors import ConfigError, DataError, MedVeilError, StorageError
from medveil.flower import TESTED
from medveil.versions import environment
from medveil.written import setting

if TYPE_CHECKING:
    from fl_client.data.source import Source

_TRIED = 3
_SIDE = 224
_SPARE = 10**9
_ANOTHER = "another class"


def check(files: OwnFiles, read: Callable[[Path | None], str]) -> list[Point]:
    """Look at everything a run needs.

    Parameters
    ----------
    files
        The site.
    read
        Gives passphrases, as `crypto.passphrase.read_passphrase`.
    """
    points: list[tuple[str, Callable[[], Point]]] = [
        ("data", lambda: _data(files, read)),
        ("key", lambda: _key(files, read)),
        ("model", lambda: _model(files)),
        ("node key", lambda: _node_key(files)),
        ("identity", lambda: _identity(files, read)),
        ("server key", lambda: server_key(files)),
        ("authority", lambda: authority(files)),
        ("disk", lambda: _disk(files, read)),
        ("state folder", lambda: _state(files)),
        ("versions", _versions),
        *([("plugins", lambda: Point("plugins", WARNING, *added(files.config)))] if files.config.plugins else []),
        *terms(files),
    ]
    looked = [point_of(what, look) for what, look in points]
    before = next(i for i, point in enumerate(looked) if point.what == "disk")
    return [*looked[:before], *of_door(files), *looked[before:]]


def _data(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    from fl_client.data.partition import site_parts  # noqa: PLC0415
    from fl_client.deployment.limits import check_images  # noqa: PLC0415

    refuse_no_images(files)
    source, alone = _opened(files, read)
    unread = 0
    for index in range(min(_TRIED, len(source))):
        try:
            source.read(index)
        except DataError:
            unread += 1
    # The coordinator writes it into the run's file: nobody but the sites sees how their classes are called.
    classes = list(source.classes) if alone is None else [alone]
    found = f"{len(source)} images, for the run's file: {setting('data.classes', classes, most=len(classes))}"
    # As a run's own seed will deal them, but for which images: how many there are is the same.
    parts = site_parts(source, files.data, sites=1, index=0, seed=0)
    if len(parts.train) < files.config.limits.least_images:
        found += f"; {len(parts.train)} of them to train on"
    try:
        check_images(len(parts.train), files.config.limits)
    except ConfigError as error:
        cure = "more images, a smaller data.test or data.validation, or a lower 'limits.least_images'"
        return Point("data", FAILED, f"{found}: {error.problem}", cure, DataError.exit_code)
    if not len(parts.test):
        found += "; no test image: nothing is measured here"
    if unread or source.skipped:
        found += f"; {len(source.skipped)} files left out, {unread} of the first {_TRIED} images unreadable"
        return Point(
            "data",
            WARNING,
            found,
            "when a store is built, the site's log says why, and 'medveil-site unseal site' names every file left out",
        )
    if alone is not None:
        cure = "the run's file must name the other classes too, as other sites call them"
        return Point("data", WARNING, f"{found}; all of one class", cure)
    if source.remarks:
        return Point("data", WARNING, f"{found}; {'; '.join(source.remarks)}", "see that it is meant so")
    return Point("data", OK, found)


def _opened(files: OwnFiles, read: Callable[[Path | None], str]) -> tuple[Source, str | None]:
    """The site's images as a run opens them, which names all classes; and the class, where they are of one alone."""
    from fl_client.data.documents import Documents  # noqa: PLC0415
    from fl_client.data.source import open_source  # noqa: PLC0415

    kept: list[Documents] = []
    if files.data.source == PACS:
        # What was pulled is sealed; nothing else here needs a key.
        ring = open_keys(files, read, serving=False).own
        kept = [Documents.of(files.own, ring.current, ring.retired)]
    try:
        return open_source(files.data, kept_in=kept), None
    except OneClassError as error:
        return open_source(replace(files.data, classes=[error.found, _ANOTHER]), kept_in=kept), error.found


def _key(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    keys = open_keys(files, read, serving=False)
    shared = "" if keys.shared is None else f"; shared {keys.shared.current.fingerprint}"
    return Point("key", OK, f"opens: {keys.own.current.fingerprint}{shared}")


def _model(files: OwnFiles) -> Point:
    from fl_client.workbench import pick_device  # noqa: PLC0415
    from models.config import ModelConfig  # noqa: PLC0415
    from models.vit import build_vit, model_hash  # noqa: PLC0415

    device = pick_device(files.config.device)
    sizes = ModelConfig(image_size=32, patch=8, channels=1, classes=2, width=32, depth=1, heads=2)
    built = build_vit(sizes, seed=0)
    return Point("model", OK, f"a small one builds ({model_hash(built)[:12]}); trains on {device}")


def _node_key(files: OwnFiles) -> Point:
    config = files.config
    path = files.path(config.node_key)
    half = node_keys.public_half(node_keys.load_private(path), config.name)
    public = path.with_suffix(".pub")
    if public.exists() and node_keys.load_public(public).encoded != half.encoded:
        raise ConfigError(f"{public.name} is another key's half", where=path, cure="send the half that belongs to it")
    return Point("node key", OK, f"P-384, {half.fingerprint}")


def _identity(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    refuse_unsigned(files)
    identity, config = open_identity(files, read), files.config
    # What is wrong with the node key is its own point's.
    public = files.path(config.node_key).with_suffix(".pub")
    if not public.exists():
        return Point("identity", OK, f"opens: {identity.fingerprint}")
    halves = node_keys.load_public(public)
    if halves.identity != identity.public:
        cure = "'medveil-site rejoin' writes the right one; the coordinator admits it"
        raise ConfigError(f"{public.name} names another identity", where=files.path(config.identity), cure=cure)
    return Point("identity", OK, f"opens; node key and identity together are {halves.fingerprint}")


def _disk(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    try:
        source, _ = _opened(files, read)
        needed = len(source) * source.channels * max(source.size, _SIDE) ** 2 * max(1, files.config.data.views)
    except MedVeilError:
        needed = 0
    free = refuse_full_disk(files, needed=needed)
    found = f"{free.bytes / 1e9:.1f} GB free at {free.place}, a store of {_SIDE} pixels takes {needed / 1e9:.2f} GB"
    cure = "free some space, or name another 'state_dir'"
    enough = free.bytes > needed + _SPARE
    return Point("disk", OK if enough else WARNING, found, "" if enough else cure)


def _state(files: OwnFiles) -> Point:
    if not files.state.exists():
        return Point("state folder", OK, f"{files.state} will be made")
    mode = stat.S_IMODE(files.state.stat().st_mode)
    if not os.access(files.state, os.W_OK | os.X_OK):
        raise StorageError("cannot be written", where=files.state, cure="run this as the site's own account")
    if mode & 0o077:
        return Point("state folder", WARNING, f"others may read {files.state}", f"chmod 700 {files.state}")
    return Point("state folder", OK, str(files.state))


def _versions() -> Point:
    found = environment()
    text = ", ".join(f"{name} {found[name]}" for name in ("medveil", "flwr", "torch", "python"))
    if not found["flwr"].startswith(TESTED):
        tried = " or ".join(f"{begins}x" for begins in TESTED)
        cure = f"install Flower {tried}: pip install -c constraints.txt; 'start --stock' does without its inside"
        return Point("versions", FAILED, text, cure, ConfigError.exit_code)
    return Point("versions", OK, text)
