"""What client and server agree on: the run's configuration, the record keys and the message fields.

`RunConfig` travels as one JSON string in Flower's run config (which takes no lists), under `RUN_KEY`. Sections that
belong to a package (`model`, `train`, `cipher`) travel as plain data; the package that owns them validates them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from medveil.bounded import parse_json
from medveil.config import from_mapping
from medveil.counting import CLASSES, MOST_CLASSES, STATISTICS, StatisticsConfig, check_statistics
from medveil.errors import ConfigError
from medveil.evaluating import EVALUATE, EvaluateConfig, check_evaluate
from medveil.evaluating import Terms as EvaluateTerms
from medveil.files import check_format
from medveil.personal import check_shared
from medveil.pretraining import MASKED, SINGLE_LABEL, MaskedConfig
from medveil.privacy import PrivacyConfig, Terms, check_private
from medveil.secagg.config import SecAggConfig
from medveil.training import TrainConfig
from medveil.wire import KINDS, WIRES

FORMAT = "medveil-run"
VERSION = 3
TASKS = (SINGLE_LABEL, MASKED, EVALUATE, STATISTICS)
IMAGE_NDIMS = (2,)

RUN_KEY = "medveil-run"
"""Run-config key of the `RunConfig` JSON."""
SERVER_KEY = "medveil-server"
"""Run-config key of the server's own settings (JSON); sites ignore it."""
SITES_KEY = "medveil-sites"
"""Run-config key of the settings of simulated sites (JSON); real sites have their own and ignore it."""

ARRAYS = "arrays"
PACKED = "packed"
"""Name of the one array that carries all tensors where a run packs them (`medveil.wire.pack`)."""
METRICS = "metrics"
CONFIG = "config"
SITE = "site"
BASIS = "basis"
"""In a reply's record `SITE`: digest of what the site stands on (`medveil.basis`), under a key of the site's own."""

ROUND = "server-round"
KEEP_ROUND = "keep-round"
"""The round whose model may be the one that is left: sites keep what they have of it."""
MEASURE = "measure"
"""What of `PHASES` an evaluation is to measure; without it, all that a run ends with."""
NUM_EXAMPLES = "num-examples"
EPSILON = "epsilon"
"""Of a run with `privacy`: the most it cost a unit of the site's training images; a real site tells the promise."""
SECONDS = "seconds"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"[A-Za-z0-9_-]{0,64}")
_LONGEST = 64
_LONGEST_CLASS = 256
_MOST_CLASSES = 4096
_NAMES = f"1 to {_LONGEST} printable characters, without slashes and without a dot in front"

PHASES = ("train", "validation", "test", "wrong-key", "public-stem")
"""What a measurement was made on; the last two are the thief's."""
MEASURES = ("loss", "accuracy", "balanced-accuracy", "auroc", "n")


@dataclass
class RunConfig:
    """One federated run, as server and every site see it.

    Version 2 added `least_sites` and `packed`; a run of version 1 promised 1 and packed nothing. Version 3 added
    `predict`, `pretrain`, `evaluate` and `statistics` with their tasks, `secagg` with its `roster`, `privacy`,
    `proximal_mu`, and what fits small data to `model` and `train`, the light scopes with their `rank` too; a run of
    version 2 has none of it.
    """

    run: str = field(default="", metadata={"help": "UUID of the run; a resumed run keeps it."})
    name: str = field(default="run", metadata={"help": "Name of the experiment."})
    seed: int = field(default=0, metadata={"help": "Seed of weights, splits and batches; never of a key."})
    rounds: int = field(default=1, metadata={"help": "Federated rounds."})
    classes: list[str] = field(default_factory=list, metadata={"help": "Class names in the order of the logits."})
    task: str = field(
        default=SINGLE_LABEL,
        metadata={
            "help": "single-label; masked-autoencoding, without classes; evaluate, which trains nothing; or "
            "statistics, which counts and has no model."
        },
    )
    pretrain: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "medveil.pretraining.MaskedConfig as data, for masked-autoencoding."}
    )
    evaluate: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "medveil.evaluating.EvaluateConfig as data, for evaluate."}
    )
    statistics: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "medveil.counting.StatisticsConfig as data, for statistics."}
    )
    image_ndim: int = field(default=2, metadata={"help": "Spatial dimensions of an image."})
    channels: int = field(default=1, metadata={"help": "Channels of an image."})
    image_size: int = field(default=64, metadata={"help": "Height and width in pixels, before padding to blocks."})
    model: dict[str, Any] = field(default_factory=dict, metadata={"help": "models.config.ModelConfig as data."})
    train: dict[str, Any] = field(default_factory=dict, metadata={"help": "fl_client.config.TrainConfig as data."})
    predict: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "medveil.predicting.PredictConfig as data; without it, images alone."}
    )
    privacy: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "medveil.privacy.PrivacyConfig as data; without it, no noise."}
    )
    cipher: dict[str, Any] = field(default_factory=dict, metadata={"help": "crypto.config.CipherConfig as data."})
    keys: str = field(default="none", metadata={"help": "Key policy: none, shared or per-site."})
    stem_init: str = field(default="public", metadata={"help": "Stem at round 1: public, adapted or secret."})
    stem_train: str = field(default="averaged", metadata={"help": "Stem in training: averaged, local or frozen."})
    stem_warmup: int = field(default=0, metadata={"help": "Epochs that fit a secret stem before round 1."})
    wire: str = field(default="fp32", metadata={"help": "Wire format of tensors: fp32 or bf16."})
    kind: str = field(default="weights", metadata={"help": "What sites send: weights or delta."})
    packed: bool = field(
        default=False, metadata={"help": "Send all tensors as one: between machines, many small ones take long."}
    )
    least_sites: int = field(
        default=1, metadata={"help": "Fewest sites whose updates the server makes a model of; sites may ask for more."}
    )
    proximal_mu: float = field(
        default=0.0, metadata={"help": "Weight of fedprox's pull at the sites; no message asks for another."}
    )
    evaluate_first: bool = field(default=True, metadata={"help": "Measure the incoming model in the train message."})
    secagg: SecAggConfig = field(default_factory=SecAggConfig, metadata={"help": "Whether updates are summed masked."})
    roster: str = field(
        default="",
        metadata={"help": "Digest of the roster whose sites take part, with secagg.on; else empty."},
    )

    @property
    def masked(self) -> MaskedConfig | None:
        """How patches are masked, where that is what the run learns by; else None (ConfigError where it is no such)."""
        return from_mapping(MaskedConfig, self.pretrain, where="pretrain") if self.task == MASKED else None

    @property
    def evaluated(self) -> EvaluateConfig | None:
        """Which images are measured, where nothing trains; else None (ConfigError where it is no such)."""
        return from_mapping(EvaluateConfig, self.evaluate, where="evaluate") if self.task == EVALUATE else None

    @property
    def counted(self) -> StatisticsConfig | None:
        """What is counted, where there is no model; else None (ConfigError where it is no such)."""
        return from_mapping(StatisticsConfig, self.statistics, where=STATISTICS) if self.task == STATISTICS else None

    @property
    def trains(self) -> bool:
        """Whether anything is learned at the sites."""
        return self.task not in {EVALUATE, STATISTICS}

    @property
    def private(self) -> PrivacyConfig | None:
        """What the run promises a unit of each site's images; None for nothing (ConfigError where it is no such)."""
        made = from_mapping(PrivacyConfig, self.privacy, where="privacy")
        return made if made.on else None

    def to_json(self) -> str:
        """The run as one JSON string with its format and version."""
        return json.dumps({"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, where: str = "run config") -> RunConfig:
        """Read and check what `to_json` wrote.

        Raises
        ------
        ConfigError
            The text is not JSON, a field is unknown or of the wrong type, or a value is not supported.
        FormatError
            It is of another format or a newer version.
        """
        values = parse_json(text, where=where)
        check_format(values, name=FORMAT, newest=VERSION, where=where)
        run = from_mapping(cls, {k: v for k, v in values.items() if k not in {"format", "version"}}, where=where)
        run.check(where=where)
        return run

    def check(self, *, where: str = "run config") -> None:
        """Refuse by name what this version does not do.

        Raises
        ------
        ConfigError
            A value is out of its range or not supported.
        """
        self.check_settings(where=where)
        self._check_classes(where)

    def check_settings(self, *, where: str = "run config") -> None:
        """The same of everything but the classes, which may not be known yet."""
        _one_of(self.task, TASKS, "task", where)
        _one_of(self.image_ndim, IMAGE_NDIMS, "image_ndim", where)
        if self.masked is not None:
            self.masked.check(where=f"{where}, pretrain")
            check_shared(from_mapping(TrainConfig, self.train, where="train").personal, where=where)
        self._check_evaluate(where)
        self._check_counted(where)
        self._check_privacy(where)
        _one_of(self.wire, WIRES, "wire", where)
        _one_of(self.kind, KINDS, "kind", where)
        for name in ("rounds", "least_sites"):
            _check(getattr(self, name) >= 1, name, "is below 1", "at least 1", where)
        # Both become parts of paths, at the server and at the sites.
        right = _RUN.fullmatch(self.run) is not None
        _check(right, "run", "is no identity of a run", f"up to {_LONGEST} letters, digits and dashes", where)
        _check(_is_name(self.name), "name", "is no name", _NAMES, where)
        _check(0 <= self.seed < 2**63, "seed", "is out of its range", "0 or more, below 2^63", where)
        right = 0 <= self.proximal_mu < math.inf
        _check(right, "server.proximal_mu", "is out of its range", "0 or more, finite", where)
        _check(self.stem_warmup >= 0, "stem.warmup", "is below 0", "0 or more epochs", where)
        self._check_secagg(where)
        own = self.stem_train != "averaged" and (self.keys, self.stem_train) != ("shared", "frozen")
        problem = (
            f"is {self.stem_warmup} epochs, which would fit each site's own stem, and the policy {self.keys}, "
            f"{self.stem_init}, {self.stem_train} gives the sites one and the same"
        )
        cure = "set stem.warmup=0, or stem.train=local for stems that stay at their sites"
        _check(own or not self.stem_warmup, "stem.warmup", problem, cure, where)

    def _check_secagg(self, where: str) -> None:
        self.secagg.check(where=where)
        if not self.secagg.on:
            return
        problem = "is not delta, and with secagg.on what is summed is what training changed"
        _check(self.kind == "delta", "kind", problem, "set kind=delta", where)
        right = not self.roster or _DIGEST.fullmatch(self.roster) is not None
        _check(right, "roster", "is no digest of a roster", "64 hex digits", where)

    def _check_evaluate(self, where: str) -> None:
        if self.evaluated is None:
            return
        self.evaluated.check(where=f"{where}, evaluate")
        terms = EvaluateTerms(
            rounds=self.rounds,
            pretrained=str(self.model.get("pretrained", "false")),
            keys=self.keys,
            stem_init=self.stem_init,
            stem_warmup=self.stem_warmup,
            private=self.private is not None,
            train=from_mapping(TrainConfig, self.train, where="train"),
        )
        check_evaluate(terms, where=where)

    def _check_counted(self, where: str) -> None:
        if self.counted is None:
            return
        self.counted.check(where=f"{where}, {STATISTICS}")
        keys = "" if self.keys == "none" else self.keys
        sections = {"model": self.model, "train": self.train, "predict": self.predict, "cipher": self.cipher}
        private = self.private is not None
        check_statistics({**sections, "keys": keys}, rounds=self.rounds, private=private, where=where)

    def _check_privacy(self, where: str) -> None:
        from_mapping(PrivacyConfig, self.privacy, where="privacy").check(where=f"{where}, privacy")
        if self.private is not None:
            train = from_mapping(TrainConfig, self.train, where="train")
            terms = Terms(self.task, self.stem_train, self.stem_warmup, self.evaluate_first, train)
            check_private(terms, where=where)

    def _check_classes(self, where: str) -> None:
        if self.task == MASKED:
            _check(not self.classes, "classes", "names classes, and the task has none", "an empty list", where)
            return
        if self.counted is not None and CLASSES not in self.counted.histograms:
            _check(not self.classes, "classes", "names classes, and none are counted", "an empty list", where)
            return
        most = _MOST_CLASSES if self.counted is None else MOST_CLASSES
        right = 2 <= len(self.classes) <= most and len(set(self.classes)) == len(self.classes)
        _check(right, "classes", "is no list of classes", f"2 to {most} different names", where)
        named = all(name.isprintable() and 0 < len(name) <= _LONGEST_CLASS for name in self.classes)
        cure = f"1 to {_LONGEST_CLASS} printable characters"
        _check(named, "classes", "has a name that cannot be", cure, where)


def measure_key(phase: str, measure: str) -> str:
    """Key of a measurement in a reply's MetricRecord, for example ``"validation-auroc"``.

    A measurement that is undefined (AUROC of a single class) is sent as NaN; one that was not made is left out.
    """
    return f"{phase}-{measure}"


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and text.isprintable() and text[0] != "." and not set(text) & set("/\\")


def _one_of(value: object, allowed: tuple[object, ...], name: str, where: str) -> None:
    listed = ", ".join(str(each) for each in allowed)
    _check(value in allowed, name, "is not supported", f"supported: {listed}", where)


def _check(right: bool, name: str, problem: str, cure: str, where: str) -> None:
    """Refuse a field by its name: its value may be anybody's, and goes into no error."""
    if not right:
        raise ConfigError(f"'{name}' {problem}", where=where, cure=cure)
