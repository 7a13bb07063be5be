"""What a hospital says about its images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fl_client.dicomweb.query import QueryConfig
from medveil import plugins
from medveil.errors import ConfigError

SOURCES = ("phantoms", "dicom", "images", "npz", "hidden", "formula", "dicomweb")
FORMULA, PACS = "formula", "dicomweb"
FORMULAS = ("contours", "fractals")
MOST_DRAWN = 10_000_000
AUGMENTS = ("none", "light", "standard")
SPLITS = ("official", "drawn")
SIZES = ("quantity", "linear", "square", "exponential")
"""Partitions whose sites differ in how many images they have, classes alike."""
PARTITIONS = ("iid", "dirichlet", "site", *SIZES, "shards", "pathological", "column")
TESTS = ("partitioned", "common")
NO_LABELS = "none"
"""As ``data.labels``: there are none."""
SIMILAR = "similar"
SIMILAR_FILE = "similar.json"
"""What folders keep of which images look alike (`fl_client.data.neighbours`)."""
"""As ``data.group_by``, alone or behind ``COLUMN+``: images that look alike stay together."""
_AND_SIMILAR = f"+{SIMILAR}"
_MOST_CLASSES = 4096


@dataclass
class PartitionConfig:
    """How one data set is dealt to simulated sites."""

    kind: str = field(
        default="iid",
        metadata={
            "help": "iid (alike), dirichlet (label skew), site (as the files say: InstitutionName, column site), "
            "quantity (sizes drawn by alpha), linear, square, exponential (sizes by the site's number), shards (pieces "
            "of the images sorted by class), pathological (some classes each) or column (values of 'by')."
        },
    )
    alpha: float = field(default=0.5, metadata={"help": "Concentration of the Dirichlet draw; smaller is more skewed."})
    shards: int = field(default=2, metadata={"help": "Shards of a site, for shards."})
    classes: int = field(default=2, metadata={"help": "Classes of a site, for pathological."})
    by: str | None = field(
        default=None,
        metadata={"help": "CSV column, DICOM attribute or npz key for column; its values are dealt whole."},
    )
    test: str = field(
        default="partitioned",
        metadata={
            "help": "partitioned: each site tests on its own share; common: every site tests on one held-out set."
        },
    )
    min_per_site: int = field(default=8, metadata={"help": "Fewest images a simulated site may be dealt."})
    pooled: int = field(
        default=0,
        metadata={
            "help": "Sites that images are dealt to and split at before one place has them all, part by part; 0: none."
        },
    )


@dataclass
class PhantomConfig:
    """The DICOM phantoms MedVeil draws for demonstrations and tests."""

    sites: int = field(default=4, metadata={"help": "Hospitals to draw, each with a scanner of its own."})
    images: int = field(default=240, metadata={"help": "Images per hospital."})
    classes: int = field(default=4, metadata={"help": "Lesion classes, 2 to 4: none, mass, ring, diffuse."})
    per_patient: int = field(default=2, metadata={"help": "Images per patient, all of the patient's class."})
    size: int = field(
        default=64, metadata={"help": "Side of the field of view in pixels before a scanner's own matrix."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the drawings."})


@dataclass
class FormulaConfig:
    """Images drawn by formula, to pre-train on: nobody's, and under no licence."""

    kind: str = field(default="contours", metadata={"help": "contours (arXiv 2206.09132) or fractals (2408.00677)."})
    classes: int = field(default=200, metadata={"help": "Formulas, each a class."})
    per_class: int = field(default=100, metadata={"help": "Images of each."})
    seed: int = field(default=0, metadata={"help": "Seed of formulas and images."})


@dataclass
class DataConfig:
    """Where a site's images are, how they are read, split and augmented."""

    source: str = field(
        default="phantoms",
        metadata={
            "help": "phantoms, dicom, images (PNG, JPEG, BMP, TIFF), npz (MedMNIST), hidden (by medveil-crypto), "
            "formula (drawn, for pre-training) or dicomweb (a PACS, at a site)."
        },
    )
    path: str | None = field(
        default=None,
        metadata={
            "help": "The folder or .npz file; for phantoms, the folder to make; for dicomweb, the server's file."
        },
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels images are resized to, aspect not kept; null: the npz's own, phantoms 64, else 224."
        },
    )
    channels: int | None = field(default=None, metadata={"help": "1 or 3; null: 3 if any image is in colour, else 1."})
    classes: list[str] | None = field(
        default=None,
        metadata={"help": "Ordered class names; another label is an error. null: the names found, sorted."},
    )
    labels: str | None = field(
        default=None,
        metadata={
            "help": "CSV (path,label[,more]) relative to data.path, for files; null: one folder a class; none: images "
            "without labels, for task masked-autoencoding. For dicomweb a CSV beside the server's file (accession, "
            "study, series or instance, label[,more]), or sr: Structured Reports say them."
        },
    )
    group_by: str | None = field(
        default=None,
        metadata={
            "help": "CSV column, DICOM attribute or npz key kept whole by every split; similar: images that look alike "
            "(data.similar), COLUMN+similar: both; null: PatientID for DICOM."
        },
    )
    similar: float = field(
        default=0.93,
        metadata={
            "help": "Correlation above which two images look alike, of their grey versions of 48x48 pixels: for "
            "data.group_by=similar, and for the count of test images that look like a training image."
        },
    )
    window: list[float] | None = field(
        default=None,
        metadata={
            "help": "[centre, width] of grey values, not of colour; null: a DICOM file's own, else percentiles 0.5 to "
            "99.5 of what is deeper than 8 bit, of an npz file those of all its images."
        },
    )
    min_side: int = field(default=16, metadata={"help": "Images with a shorter side, in pixels, are skipped by name."})
    limit: int | None = field(
        default=None, metadata={"help": "Use at most this many images, groups whole, classes alike."}
    )
    split: str | None = field(
        default=None,
        metadata={
            "help": "official (train, validation, test as folders, npz or column 'split' have it; what lacks is drawn) "
            "or drawn; null: official where there is one."
        },
    )
    folds: int = field(
        default=0,
        metadata={
            "help": "Cross-validation over groups: so many parts, of which a seed tests the one of its number modulo "
            "folds, in place of data.test; split_seed, or 0, draws them. 0: none."
        },
    )
    split_seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of what is drawn of the images, each site's share and its parts: the same images test under "
            "every 'seed'. null: the run's own seed."
        },
    )
    validation: float = field(default=0.15, metadata={"help": "Fraction of a site's images for validation."})
    test: float = field(default=0.15, metadata={"help": "Fraction of a site's images for the test."})
    views: int = field(
        default=1,
        metadata={
            "help": "Encrypted views per training image, the first unaugmented; 0: augment and encrypt on the fly."
        },
    )
    memory: int = field(
        default=512,
        metadata={
            "help": "MiB of images a site keeps in memory: decoded, where views are made on the fly, else opened from "
            "its sealed store, the first that fit; 0: each is read, or opened, whenever a batch wants it."
        },
    )
    augment: str = field(
        default="none", metadata={"help": "none, light or standard: rotate, shift, scale, brightness."}
    )
    flip: bool = field(default=False, metadata={"help": "Also flip at random; right for histology, wrong for anatomy."})
    query: QueryConfig = field(default_factory=QueryConfig, metadata={"help": "Images of a PACS, for dicomweb."})
    partition: PartitionConfig = field(default_factory=PartitionConfig, metadata={"help": "Simulated sites."})
    phantoms: PhantomConfig = field(default_factory=PhantomConfig, metadata={"help": "Drawn DICOM images."})
    formula: FormulaConfig = field(default_factory=FormulaConfig, metadata={"help": "Images drawn by formula."})


def check_data_config(config: DataConfig, level: str | None = "none") -> None:
    """Refuse settings that cannot be run, before any file is read.

    Parameters
    ----------
    config
        The settings.
    level
        Augmentation of the run, `train.augment`; None where no run is known yet, and views are not judged.

    Raises
    ------
    ConfigError
        A name is unknown, a number is out of range, or settings contradict each other.
    """
    if config.source not in SOURCES and plugins.find(plugins.SOURCES, config.source) is None:
        _one_of("data.source", config.source, SOURCES)
    _one_of("data.augment", config.augment, AUGMENTS)
    _one_of("data.partition.kind", config.partition.kind, PARTITIONS)
    _one_of("data.partition.test", config.partition.test, TESTS)
    if config.split is not None:
        _one_of("data.split", config.split, SPLITS)
    if not config.path and config.source != FORMULA:
        raise ConfigError("is not set", where="data.path", cure="give the folder or file of the images")
    if config.channels not in (None, 1, 3):
        raise ConfigError(f"is {config.channels}", where="data.channels", cure="1 or 3")
    _at_least("data.image_size", config.image_size, 4)
    _at_least("data.limit", config.limit, 1)
    if config.folds and (config.folds < 2 or config.partition.test == "common"):
        problem = f"is {config.folds}" if config.folds < 2 else "is set, and all sites test on one held-out set"
        raise ConfigError(problem, where="data.folds", cure="2 or more, with data.partition.test=partitioned; or 0")
    _at_least("data.split_seed", config.split_seed, 0)
    _at_least("data.min_side", config.min_side, 1)
    _at_least("data.memory", config.memory, 0)
    _at_least("data.partition.min_per_site", config.partition.min_per_site, 1)
    _at_least("data.partition.pooled", config.partition.pooled, 0)
    _at_least("data.partition.shards", config.partition.shards, 1)
    _at_least("data.partition.classes", config.partition.classes, 1)
    if (config.partition.kind == "column") != (config.partition.by is not None):
        problem = "and 'data.partition.by' go together"
        raise ConfigError(problem, where="data.partition.kind=column", cure="by=COLUMN for column, null for others")
    if not config.partition.alpha > 0:
        raise ConfigError(f"is {config.partition.alpha}", where="data.partition.alpha", cure="a number above 0")
    _check_similar(config)
    if config.window is not None and (
        len(config.window) != 2 or not all(map(math.isfinite, config.window)) or not config.window[1] > 0
    ):
        raise ConfigError(f"is {config.window}", where="data.window", cure="[centre, width] with a width above 0")
    if config.classes is not None and len(set(config.classes)) != len(config.classes):
        raise ConfigError("names a class twice", where="data.classes")
    if config.classes is not None and config.labels == NO_LABELS:
        raise ConfigError("names classes, and data.labels is none", where="data.classes", cure="null")
    _check_fractions(config)
    if config.views < 0:
        raise ConfigError(f"is {config.views}", where="data.views", cure="0 or more")
    if level is not None:
        _check_level(config, level)
        _check_views(config, level)
    config.query.check()
    _check_phantoms(config.phantoms)
    _check_formula(config.formula)


def named_group(config: DataConfig) -> str | None:
    """The column, attribute or key that ``data.group_by`` names, or ``none``; None where it names none."""
    if config.group_by == SIMILAR:
        return None
    return None if config.group_by is None else config.group_by.removesuffix(_AND_SIMILAR)


def sited_by(config: DataConfig) -> str:
    """The column that names an image's site: that of ``data.partition.by``, or ``site``."""
    return config.partition.by or "site"


def joins_similar(config: DataConfig) -> bool:
    """Whether ``data.group_by`` keeps images together that look alike."""
    return config.group_by == SIMILAR or (config.group_by or "").endswith(_AND_SIMILAR)


def _check_similar(config: DataConfig) -> None:
    if not 0 < config.similar < 1:
        cure = "a correlation above 0 and below 1, for example 0.93"
        raise ConfigError(f"is {config.similar}", where="data.similar", cure=cure)
    if config.group_by == _AND_SIMILAR:
        raise ConfigError(f"is '{_AND_SIMILAR}'", where="data.group_by", cure="similar, or COLUMN+similar")
    if config.source == "hidden" and joins_similar(config):
        cure = "group the originals before they are hidden, and name the column of the table"
        raise ConfigError("is similar, and hidden images show no likeness", where="data.group_by", cure=cure)


def _check_level(config: DataConfig, level: str) -> None:
    """Refuse a run's augmentation beside the site's own (ConfigError): which of them it is nobody could say."""
    if level != "none" and config.augment != "none":
        problem = "'data.augment' is set, and so is 'train.augment' of the run"
        raise ConfigError(problem, where="data.augment", cure="none: the run decides for all sites")


def _check_fractions(config: DataConfig) -> None:
    for name, value in (("data.validation", config.validation), ("data.test", config.test)):
        if not 0 <= value < 1:
            raise ConfigError(f"is {value}", where=name, cure="a fraction from 0 to below 1")
    if config.validation + config.test >= 1:
        raise ConfigError("data.validation and data.test leave nothing to train on", cure="let them sum to below 1")


def _check_views(config: DataConfig, level: str) -> None:
    augmented = config.augment != "none" or config.flip
    if config.views == 1 and augmented and level == "none":
        raise ConfigError(
            "is 1, and the first view is never augmented, yet augmentation is asked for",
            where="data.views",
            cure="0 (on the fly), 2 or more, or augment none without flip",
        )
    if config.views > 1 and not augmented and level == "none":
        raise ConfigError(
            f"is {config.views} copies of the same image",
            where="data.views",
            cure="choose data.augment or data.flip, or 1 view",
        )


def _check_phantoms(config: PhantomConfig) -> None:
    for name, value, least in (("sites", config.sites, 1), ("images", config.images, 1), ("size", config.size, 32)):
        _at_least(f"data.phantoms.{name}", value, least)
    _at_least("data.phantoms.per_patient", config.per_patient, 1)
    if not 2 <= config.classes <= 4:
        raise ConfigError(f"is {config.classes}", where="data.phantoms.classes", cure="2 to 4")


def _check_formula(config: FormulaConfig) -> None:
    _one_of("data.formula.kind", config.kind, FORMULAS)
    for name, least in (("classes", 2), ("per_class", 1), ("seed", 0)):
        _at_least(f"data.formula.{name}", getattr(config, name), least)
    if config.classes > _MOST_CLASSES:
        raise ConfigError(f"is {config.classes}", where="data.formula.classes", cure=f"at most {_MOST_CLASSES}")
    if config.classes * config.per_class > MOST_DRAWN:
        raise ConfigError("draw too many images", where="data.formula", cure=f"at most {MOST_DRAWN} in all")


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ConfigError(f"'{value}' is not known", where=name, cure=f"one of {', '.join(valid)}")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"is {value}", where=name, cure=f"at least {least}")
