"""What a disclosure is about: the settings of a run, and a model.

Settings are told apart by a digest of everything in a run's contract but what runs of the same settings differ in: its
identity, its name, its seed and the roster of a day. The contents of the weights file that it begins from are part of
it. So a disclosure counts for every run of its settings, and for none of others. A model is told apart by its tensors,
or by the ``config.json`` of its exported folder, which holds the digests of the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_weights import file_of
from fl_client.export.described import parsed
from fl_client.export.held import MODELS, SUFFIX, held
from medveil.audit import canonical
from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, PolicyError, StorageError
from medveil.files import make_folder, read_bytes, read_head, sha256_file, write_bytes, write_json
from medveil.shapes import read_document
from models.exported import CONFIG, PLAIN
from models.hashes import tensors_hash

if TYPE_CHECKING:
    from fl_client.export.kept import KeptModel

ASKED, VERSION = "medveil-asked-run", 1
"""Format of what a server's run was, as this site judged it."""
_FILE = "asked.json"
_OWN = ("run", "name", "seed", "roster")
_LARGEST_CONFIG = 2**20


class Subject(NamedTuple):
    """A run as it was judged here, the digest of a model, and what writes that to a folder, moved to plain images.

    Both are None where there is no model yet.
    """

    run: RunConfig
    model: str | None
    hand: Callable[[Path], None] | None = None

    @property
    def settings(self) -> str:
        """The digest of its settings."""
        return settings_digest(self.run)


def settings_digest(run: RunConfig) -> str:
    """SHA-256 of what decides what a run gives away, the weights it begins from among it: 64 hex digits.

    Parameters
    ----------
    run
        As a site judged it, every section in full.
    """
    told = {name: value for name, value in dataclasses.asdict(run).items() if name not in _OWN}
    # A site's own path; the contract names the file.
    told["model"] = {**told["model"], "pretrained": Path(str(told["model"].get("pretrained", ""))).name}
    path = file_of(run)
    if path is not None and path.is_file():
        # Under one name there may be others tomorrow, and of those nothing was disclosed.
        told["weights"] = sha256_file(path)
    return hashlib.sha256(canonical(told)).hexdigest()


def model_digest(kept: KeptModel) -> str:
    """SHA-256 of a kept model's tensors: 64 hex digits."""
    return tensors_hash(kept.tensors)


def remember(files: OwnFiles, run: RunConfig) -> None:
    """Write down what a server asked to run, once: a person may disclose it before the site takes part.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    path = _folder(files) / run.run / _FILE
    if not path.exists():
        at = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(
            path, {"format": ASKED, "version": VERSION, "at": at, "settings": dataclasses.asdict(run)}, mode=0o600
        )


def asked_run(files: OwnFiles, named: str | None) -> RunConfig:
    """A run that was asked of this site, by the first characters of its identity; the newest without a name.

    Raises
    ------
    ConfigError
        There is none, or the name fits several.
    IntegrityError, FormatError
        Its file is not whole, or of a newer version.
    """
    found = sorted(_folder(files).glob(f"*/{_FILE}"), key=lambda path: (path.stat().st_mtime_ns, path.parent.name))
    fitting = [path for path in found if named is None or (named and path.parent.name.startswith(named))]
    if not fitting:
        listed = ", ".join(path.parent.name[:8] for path in found[-8:])
        cure = f"the newest are {listed}" if found else "the server asks first: 'medveil-server run' there"
        raise ConfigError("no such run was asked of this site", where="--run", cure=cure)
    if named is not None and len(fitting) > 1:
        raise ConfigError("fits several runs", where="--run", cure=", ".join(path.parent.name for path in fitting[:8]))
    return _read(fitting[-1])


def asked_or_kept(files: OwnFiles, named: str | None) -> tuple[RunConfig | None, Path | None]:
    """A run as it was asked here, and the file of its model; the run is None where an older MedVeil kept a model of it.

    Raises
    ------
    ConfigError
        Neither is there, or the name fits several.
    IntegrityError, FormatError
        A file is not whole, or of a newer version.
    """
    models = files.own / MODELS
    try:
        run = asked_run(files, named)
    except ConfigError:
        older = [each.path for each in held(models) if named and each.run.startswith(named)]
        if len(older) != 1:
            raise
        return None, older[0]
    path = models / f"{run.run}{SUFFIX}"
    return run, path if path.is_file() else None


def exported(files: OwnFiles, folder: Path) -> Subject:
    """An exported model, and the run it came of, which was asked of this site.

    Raises
    ------
    StorageError, FormatError, IntegrityError
        It is no exported model, or not whole.
    ConfigError
        The run was not asked of this site.
    """
    config = folder / CONFIG
    if not config.is_file():
        raise StorageError("no such file", where=config, cure="--model names a folder that 'medveil-site export' wrote")
    described, document = parsed(read_head(config, _LARGEST_CONFIG), where=config)
    for name, digest in document["sha256"].items():
        if sha256_file(folder / name) != digest:
            raise StorageError(f"is not the one {CONFIG} describes", where=folder / name, cure="export it anew")

    def hand(target: Path) -> None:
        if described.domain != PLAIN:
            raise PolicyError("it reads hidden images, and leaves sealed", where=folder)
        make_folder(target, mode=0o700)
        for name in (CONFIG, *document["sha256"]):
            write_bytes(target / name, read_bytes(folder / name), mode=0o600)

    return Subject(asked_run(files, described.run), sha256_file(config), hand)


def _folder(files: OwnFiles) -> Path:
    return files.state / "runs"


def _read(path: Path) -> RunConfig:
    document = read_document(path, {"at": str, "settings": dict}, name=ASKED, newest=VERSION)
    return from_mapping(RunConfig, document["settings"], where=str(path))
