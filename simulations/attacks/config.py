"""What to attack, as configuration: images and a cipher, or those of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crypto.cipher import check_scheme
from crypto.config import CipherConfig, resolve
from fl_client.data.beside import group_column
from fl_client.data.config import DataConfig
from fl_client.data.source import open_source
from fl_client.data.table import read_table
from medveil.config import from_mapping
from medveil.errors import ConfigError
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, UpdateConfig
from simulations.attacks.study.material import Material
from simulations.attacks.study.stolen import stolen

if TYPE_CHECKING:
    from simulations.config import ExperimentConfig

_SMALLEST = 11
STANDARD_IMAGES = 100
QUICK_KEYS, QUICK_IMAGES, QUICK_SIZE = 2, 20, 64
"""What a quick trial takes unless told otherwise; images larger than that are made smaller."""


@dataclass
class AttackConfig:
    """A measurement of attacks."""

    data: DataConfig = field(default_factory=DataConfig, metadata={"help": "Images."})
    cipher: CipherConfig = field(default_factory=CipherConfig, metadata={"help": "What hides them."})
    keys: int = field(default=10, metadata={"help": "Keys; fewer than 10 are a trial, and the result says so."})
    images: int | None = field(
        default=None,
        metadata={
            "help": "Images under each key at most, for every attack; fewer than 100 are a trial, likewise. "
            "null: 100, and as many more as an attack was made for."
        },
    )
    quick: bool = field(
        default=False,
        metadata={"help": "A trial in minutes: small images and little effort in what is slow; results say so."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of keys and draws."})
    stolen: bool = field(
        default=False, metadata={"help": "Attack images as a thief of a site's disk finds them: in a sealed store."}
    )
    update: UpdateConfig = field(
        default_factory=UpdateConfig, metadata={"help": "Of attacks on updates: how sites train, what is read."}
    )
    public: str | None = field(
        default=None,
        metadata={"help": "Folder or .npz file of the attacker's public images; null: half of the data's."},
    )


class Prepared(NamedTuple):
    """A setting, and what a reader of its results must know."""

    setting: UpdateSetting
    notes: list[str]


def prepare(config: AttackConfig, *, run: Path | None = None) -> Prepared:
    """Open the images and put the setting together.

    The images get the size of the data, or ``data.image_size``, rounded up to whole blocks: attacks look at blocks, and
    the padding a cipher may add is no part of an image.

    Parameters
    ----------
    config
        Images, cipher, keys.
    run
        The run folder they are those of, if they are.

    Raises
    ------
    ConfigError
        A setting is invalid.
    DataError
        The images cannot be used.
    """
    check_scheme(config.cipher.scheme)
    cipher = resolve(config.cipher)
    if cipher.block < 1:
        raise ConfigError(f"'cipher.block' is {cipher.block}", cure="at least 1")
    if config.seed < 0:
        raise ConfigError(f"'seed' is {config.seed}", cure="0 or more")
    source = open_source(config.data)
    notes = []
    if config.quick:
        source.size = min(source.size, max(QUICK_SIZE, cipher.block))
        notes.append(
            f"A quick trial: {config.keys} keys, images of at most {QUICK_SIZE} pixels, small networks and short "
            "searches. It shows that an attack works where it succeeds, and nothing where it does not."
        )
    whole = -(-source.size // cipher.block) * cipher.block
    if whole != source.size:
        notes.append(f"Images are resized to {whole} pixels, whole blocks, instead of {source.size}.")
        source.size = whole
    if source.size < _SMALLEST:
        raise ConfigError(f"images of {source.size} pixels", cure=f"at least {_SMALLEST}, for SSIM")
    material = Material(source, seed=config.seed)
    if not material.grouped:
        notes.append("The data name no groups: images of one patient may be on both sides of a split.")
    if config.stolen:
        notes.append("What is attacked lies in a sealed store, as a thief of the disk finds it without a key.")
    setting = UpdateSetting(
        material,
        cipher,
        keys=config.keys,
        images=STANDARD_IMAGES if config.images is None else config.images,
        at_most=config.images,
        seed=config.seed,
        run=run,
        kind=stolen(cipher.scheme) if config.stolen else None,
        update=config.update,
        elsewhere=None if config.public is None else _elsewhere(Path(config.public), material),
    )
    return Prepared(setting, notes)


def _elsewhere(path: Path, like: Material) -> Material:
    """Images of another source, in the shape of the attacked ones."""
    given = {**of_folder(path), "image_size": like.size, "channels": like.channels}
    return Material(open_source(from_mapping(DataConfig, given, where="public")), seed=0)


def of_folder(path: Path) -> dict[str, object]:
    """Data settings a folder or file of images asks for: its kind, and ``labels.csv`` with its groups if there."""
    if not path.exists():
        raise ConfigError("no such folder or file", where=path, cure="give a folder of images or an .npz file")
    if path.is_file():
        return {"source": "npz", "path": str(path)}
    if any(path.rglob("*.dcm")):
        return {"source": "dicom", "path": str(path)}
    made: dict[str, object] = {"source": "images", "path": str(path)}
    table = path / "labels.csv"
    if table.is_file():
        made["labels"] = table.name
        column = group_column(read_table(table))
        if column is not None:
            made["group_by"] = column
    return made


def of_run(run: Path) -> AttackConfig:
    """The images and the cipher of a run.

    Raises
    ------
    ConfigError
        It is no run, or medveil-sim did not make it.
    """
    from simulations.config import ExperimentConfig  # noqa: PLC0415 - flwr is slow to import
    from simulations.run import MANIFEST, read_manifest  # noqa: PLC0415

    manifest = read_manifest(run)
    if manifest.get("experiment") is None:
        raise ConfigError("was not made by medveil-sim", where=run, cure="name its images and cipher in its place")
    experiment = from_mapping(ExperimentConfig, manifest["experiment"], where=str(run / MANIFEST))
    return AttackConfig(
        data=experiment.data, cipher=experiment.cipher, seed=experiment.seed, update=update_of(experiment)
    )


def update_of(experiment: ExperimentConfig) -> UpdateConfig:
    """How a run trains and what is read of it, in its first round and with its own model."""
    train = experiment.train
    return UpdateConfig(
        mode=DEPLOYMENT,
        keys=experiment.keys.policy,
        stem_init=experiment.stem.init,
        stem_train=experiment.stem.train,
        scope=train.scope,
        rank=train.rank,
        personal=train.personal,
        batch=train.batch_size,
        epochs=train.epochs,
        optimizer=train.optimizer,
        lr=train.lr,
        wire=experiment.wire,
        kind=experiment.kind,
        sites=experiment.sites if experiment.secagg.on else 1,
        rounds=experiment.rounds,
        epsilon=experiment.privacy.epsilon if experiment.privacy.on else 0.0,
        task=experiment.task,
        model=experiment.model,
    )
