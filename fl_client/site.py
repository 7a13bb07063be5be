"""One hospital in one run: its store, its private tensors, and the three things a server may ask of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from crypto.cipher import ImageCipher, make_cipher
from crypto.config import FIRST_DERIVATION, config_of_run
from crypto.derivation import normals
from crypto.keys import Key
from fl_client.batches import generator
from fl_client.config import TrainConfig
from fl_client.data.config import DataConfig
from fl_client.data.hidden import check_hidden
from fl_client.data.partition import site_parts
from fl_client.data.source import Skipped, Source, open_source, read_many
from fl_client.data.store import EncryptedStore, open_store
from fl_client.export.facts import Predicted, facts_of
from fl_client.export.held import MODELS
from fl_client.export.kept import KeptModel, keep
from fl_client.leaving import Leaving
from fl_client.site_files import refuse_changed_images, write_description, write_predictions
from fl_client.stems import StemVault
from fl_client.thief import Loot, under_wrong_key, with_public_stem
from fl_client.training import RoundPlan, predict, train_round
from fl_client.warmup import warm_up
from fl_client.workbench import workbench
from medveil.config import from_mapping
from medveil.contract import NUM_EXAMPLES, SECONDS, RunConfig
from medveil.errors import ConfigError, DataError, StorageError
from medveil.log import logger
from medveil.versions import medveil_version
from medveil.wire import Tensors
from models.policy import ORTHOGONAL, Policy, check_policy
from models.stem import adapt, rotate, secret_size, set_secret, stem_names
from models.travel import load_tensors, tensors, trainable, travelling

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

PARTS = ("train", "validation", "test")
_log = logger("site")


@dataclass(frozen=True, kw_only=True)
class SiteSetup:
    """What a site brings to a run; none of it comes from the server.

    Parameters
    ----------
    name
        The site's name.
    index, sites
        Which share of a partitioned data set is this site's (0 of 1 for a real hospital).
    key
        Seals private state, and draws a secret stem where no cipher key does.
    cipher_key
        Hides images; None under the key policy ``none``.
    thief_key
        Another key, for measuring what a wrong key gives.
    data
        The site's images.
    folder
        Where the site keeps its store and private state.
    device
        Where it trains.
    keep_model
        Whether to keep, sealed, the whole model a run ends with: a hospital uses it, a simulation does not.
    verify
        Compare an existing store with its checksums before it is used, which reads all of it.
    judge
        Told the number of images before any is hidden; raises where a store of them is too much.
    leaving
        What is told of the images; of classes with few, nothing unless told otherwise.
    """

    name: str
    index: int
    sites: int
    key: Key
    cipher_key: Key | None
    thief_key: Key
    data: DataConfig
    folder: Path
    device: torch.device
    keep_model: bool = False
    verify: bool = False
    judge: Callable[[int], None] | None = None
    leaving: Leaving = field(default_factory=Leaving)


class Site:
    """A hospital ready to work; opening it builds the encrypted store when there is none.

    Raises
    ------
    DataError, StorageError, KeyMaterialError, PolicyError, ConfigError
        The data, disk, key or settings cannot serve this run.
    """

    def __init__(self, run: RunConfig, setup: SiteSetup) -> None:
        self.run, self.setup = run, setup
        self.train_config = from_mapping(TrainConfig, run.train, where="train")
        self.train_config.check()
        self.policy = Policy(run.keys, run.stem_init, run.stem_train)
        self.bench = workbench(run, setup.device)
        self.cipher = self._cipher(setup.cipher_key)
        check_policy(self.policy, scheme=self.cipher.scheme, stem_rule=self.cipher.stem_rule)
        self.travelling = travelling(self.bench.model, self.policy, self.train_config.scope)
        self.trainable = trainable(self.bench.model, self.policy, self.train_config.scope)
        self.private = self._private_names()
        state = setup.key.subkey("state")
        self.vault = StemVault(setup.folder / "stems", run=run.run, subkey=state)
        self.store = self._open_store()

    # -- what a server may ask ---------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The site's row of the preflight table: plain values; what is told of small classes, `leaving` decides."""
        leaving, labels = self.setup.leaving, {part: self.store.part(part).labels for part in PARTS}
        counts = leaving.counts(labels["train"], len(self.run.classes))
        return {
            "site": self.setup.name,
            "classes": list(self.run.classes),
            "counts": counts,
            "missing": [name for name, count in zip(self.run.classes, counts, strict=True) if not count],
            "n-train": leaving.weight(labels["train"]),
            **{f"n-{part}": leaving.size(labels[part]) for part in ("validation", "test")},
            "skipped": leaving.count(len(self._skipped(self.store))),
            "model-hash": self.bench.hash,
            "scheme": self.cipher.scheme,
            "block": int(self.run.cipher.get("block", 0)),
            "negate": bool(self.run.cipher.get("negate", False)),
            "derivation": int(self.run.cipher.get("derivation", FIRST_DERIVATION)),
            "fingerprint": self.cipher.fingerprint,
            "version": medveil_version(),
        }

    def train(self, round_: int, incoming: Tensors, *, proximal_mu: float = 0.0) -> tuple[Tensors, dict[str, float]]:
        """Train one round from the incoming tensors.

        Returns
        -------
        tuple
            The travelling tensors after training (fp32) and the measures.
        """
        started = time.monotonic()
        model = self._model(incoming, before=round_)
        metrics: dict[str, float] = {}
        if self.run.evaluate_first:
            metrics |= self._measured(model, "validation")
        part = self.store.part("train")
        plan = RoundPlan(
            round=round_,
            rounds=self.run.rounds,
            seed=int(generator(self.run.seed, "torch", self.setup.name, round_).integers(2**63)),
            rng=generator(self.run.seed, "train", self.setup.name, round_),
            proximal_mu=proximal_mu,
        )
        result = train_round(model, part, self.train_config, plan, trainable=self.trainable)
        if self.private:
            self.vault.save(round_, tensors(model, self.private))
        metrics |= {
            NUM_EXAMPLES: self.setup.leaving.weight(part.labels),
            SECONDS: time.monotonic() - started,
            **self.setup.leaving.training(loss=result.loss, accuracy=result.accuracy, n=result.n),
        }
        return self._outgoing(model), metrics

    def evaluate(self, round_: int, incoming: Tensors) -> dict[str, float]:
        """Measure the model after `round_` on validation and test images, and what it is worth to a thief.

        Class probabilities of the test images stay at the site, in ``predictions.npz``; so does the whole model, where
        the site keeps it.
        """
        started = time.monotonic()
        model = self.model_after(round_, incoming)
        whole = tensors(model, model.state_dict()) if self.setup.keep_model else {}
        part, validation = self.store.part("test"), self.store.part("validation")
        probabilities = predict(model, part, self.train_config)
        write_predictions(self.setup.folder, ids=part.ids, labels=part.labels, probabilities=probabilities)
        validated = predict(model, validation, self.train_config)
        leaving = self.setup.leaving
        metrics = leaving.measured("validation", validation.labels, validated)
        metrics |= leaving.measured("test", part.labels, probabilities) | leaving.majority(part.labels)
        metrics |= self._thief(model)
        if whole:
            self._keep_model(round_, whole, metrics, {"validation": validated, "test": probabilities})
        return metrics | {NUM_EXAMPLES: leaving.size(part.labels), SECONDS: time.monotonic() - started}

    def model_after(self, round_: int, incoming: Tensors) -> VisionTransformer:
        """The site's model as it stood after a round, from the travelling tensors and those it kept."""
        return self._model(incoming, before=round_ + 1)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _cipher(self, key: Key | None) -> ImageCipher:
        config = config_of_run(self.run.cipher)
        size = self.run.image_size
        return make_cipher(config, key, channels=self.run.channels, height=size, width=size)

    def _open_store(self) -> EncryptedStore:
        source = self._source
        check_hidden(source, keys=self.run.keys, block=int(self.run.cipher.get("block", 0)))
        if list(source.classes) != self.run.classes:
            raise ConfigError(
                f"this site has classes {list(source.classes)}",
                where="classes",
                cure=f"the run expects {self.run.classes}",
            )
        if self.setup.judge is not None:
            self.setup.judge(len(source))
        store = open_store(
            source,
            self._parts,
            self.cipher,
            self.setup.data,
            folder=self.setup.folder,
            seed=self.run.seed,
            verify=self.setup.verify,
        )
        refuse_changed_images(self.setup.folder, run=self.run.run, source=source.identity(), site=self.setup.name)
        if store.rebuilt:
            _log.warning("%s: built the store anew: %s", self.setup.name, store.rebuilt)
        for skipped in self._skipped(store):
            _log.info("%s: left out %s: %s", self.setup.name, skipped.path, skipped.reason)
        # Of a data set that several share, its remarks are its own, and said once.
        for warning in (*source.warnings, *(source.remarks if self.setup.sites == 1 else ())):
            _log.warning("%s: %s", self.setup.name, warning)
        if self._parts.missing_classes:
            _log.warning("%s has no training image of %s", self.setup.name, ", ".join(self._parts.missing_classes))
        self._keep_description(store)
        return store

    def _skipped(self, store: EncryptedStore) -> tuple[Skipped, ...]:
        """Files left out at this site; of a data set that several share, only those of its own share."""
        shared = set(self._source.skipped) if self.setup.sites > 1 else set()
        return tuple(each for each in store.skipped if each not in shared)

    @property
    def source(self) -> Source:
        """The images the store was made of."""
        return self._source

    @functools.cached_property
    def _source(self) -> Source:
        return open_source(self.setup.data)

    @functools.cached_property
    def _parts(self) -> Any:
        setup = self.setup
        return site_parts(self._source, setup.data, sites=setup.sites, index=setup.index, seed=self.run.seed)

    def _private_names(self) -> list[str]:
        kept = [] if self.policy.train == "averaged" else stem_names(self.bench.model)
        trained = [name for name in self.trainable if name not in self.travelling]
        return list(dict.fromkeys([*kept, *trained]))

    def _model(self, incoming: Tensors, *, before: int) -> VisionTransformer:
        model = self.bench.reset()
        given = {name: torch.from_numpy(np.array(array)).to(self.bench.dtype) for name, array in incoming.items()}
        load_tensors(model, given, expected=self.travelling)
        if not self.private:
            return model
        found = self.vault.load(before=before)
        if found is None:
            self._initial_stem(model)
            self.vault.save(0, tensors(model, self.private))
        else:
            load_tensors(model, found[1], expected=self.private)
        return model

    def _initial_stem(self, model: VisionTransformer) -> None:
        if self.policy.init == "adapted":
            follow(model, self.cipher)
        elif self.policy.init == "secret":
            key = self.setup.cipher_key or self.setup.key
            set_secret(model, normals(key.subkey("stem"), secret_size(model)))
        if self.run.stem_warmup:
            rng = generator(self.run.seed, "warmup", self.setup.name)
            part = self.store.part("train")
            warm_up(model, part, self.train_config, epochs=self.run.stem_warmup, seed=self.run.seed, rng=rng)

    def _measured(self, model: VisionTransformer, phase: str) -> dict[str, float]:
        part = self.store.part(phase)
        return self.setup.leaving.measured(phase, part.labels, predict(model, part, self.train_config))

    def _outgoing(self, model: VisionTransformer) -> Tensors:
        found: dict[str, Tensor] = tensors(model, self.travelling)
        return {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in found.items()}

    def _thief(self, model: VisionTransformer) -> dict[str, float]:
        if self._source.hidden is not None or (self.policy.keys == "none" and self.policy.train == "averaged"):
            return {}
        part = self.store.part("test")
        if not len(part):
            return {}
        try:
            loot = Loot(read_many(self._source, part.indices), part.labels)
        except DataError as error:
            # The owner's own evaluation reads the store and does not need the file.
            _log.warning("%s: what a thief gets was not measured: %s", self.setup.name, error)
            return {}
        metrics: dict[str, float] = {}
        if self.setup.cipher_key is not None:
            cipher = self._cipher(self.setup.thief_key)
            metrics |= under_wrong_key(model, loot, cipher, self.train_config, self.setup.leaving)
        size, leaving = self.cipher.padded, self.setup.leaving
        return metrics | with_public_stem(
            model, loot, public=self.bench.public, size=size, config=self.train_config, leaving=leaving
        )

    def _keep_model(self, round_: int, whole: dict[str, Tensor], metrics: dict[str, float], said: Predicted) -> None:
        made = KeptModel(whole, facts_of(self, round_, metrics, said))
        try:
            keep(self.setup.folder / MODELS, self.setup.key, made)
        except StorageError as error:
            # The run can do without; the hospital reads in its log that it has no model to use.
            _log.error("%s: the model of round %d was not kept: %s", self.setup.name, round_, error)

    def _keep_description(self, store: EncryptedStore) -> None:
        write_description(
            self.setup.folder,
            {
                "site": self.setup.name,
                "run": self.run.run,
                "source": self._source.identity(),
                "fingerprint": self.cipher.fingerprint,
                "store": store.rebuilt or ("built" if store.built else "opened"),
                "parts": {part: len(store.part(part).labels) for part in PARTS},
                "skipped": [each._asdict() for each in self._skipped(store)],
                "shared_skipped": [] if self.setup.sites == 1 else [each._asdict() for each in self._source.skipped],
            },
        )


def follow(model: VisionTransformer, cipher: ImageCipher) -> None:
    """Move a public stem into the domain of a cipher's key, in place."""
    if cipher.stem_rule == ORTHOGONAL:
        turn = cipher.stem_rotation()
        rotate(model, matrix=turn.matrix, pi=turn.pi)
        return
    moves = cipher.stem_permutation()
    adapt(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)
