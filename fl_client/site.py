"""What one hospital has in one run: hidden images, a cipher, the public model, and tensors that stay at home.

What it does with them when a server asks is `fl_client.work`.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from crypto.cipher import ImageCipher, make_cipher
from crypto.config import config_of_run
from crypto.derivation import encode_fields, hkdf
from crypto.keys import Key, SimulatedKey
from fl_client.batches import generator
from fl_client.config import TrainConfig
from fl_client.data.opened_store import EncryptedStore
from fl_client.data.source import Source
from fl_client.last import Last
from fl_client.privacy.budget import make_budget
from fl_client.privacy.chance import SEED_BYTES
from fl_client.privacy.gradients import check_apart
from fl_client.privacy.ledger import FILE, Ledger
from fl_client.site_images import open_images
from fl_client.site_setup import SiteSetup
from fl_client.stems import StemVault
from fl_client.workbench import workbench
from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import FederationError
from medveil.log import logger
from medveil.personal import DITTO
from medveil.predicting import PredictConfig
from models.policy import Policy, check_policy
from models.stem import stem_names
from models.suited import check_stem
from models.trains import check_masked
from models.travel import trainable, travelling

MOMENTS, PERSONAL = "moments", "personal"
"""Folders of what optimisers remember, and of a model beside the shared one, in the site's own."""
_log = logger("site")


class SiteInRun:
    """A hospital in one run, whatever that asks of it.

    Parameters
    ----------
    run
        What the server asks for.
    setup
        What the site brings.
    """

    def __init__(self, run: RunConfig, setup: SiteSetup) -> None:
        self.run, self.setup = run, setup


class Site(SiteInRun):
    """A hospital ready to work with a model; opening it builds the sealed store when there is none.

    Parameters
    ----------
    run
        What the server asks for.
    setup
        What the site brings.

    Attributes
    ----------
    train_config : TrainConfig
        Local training, from the run; under masks a step takes no more than half of a real site's images.
    masked : MaskedConfig or None
        How patches are masked where pixels are learned, and no classes.
    evaluated : EvaluateConfig or None
        Which images are measured where nothing trains.
    policy : Policy
        Of the run.
    bench : Workbench
        The model the process works with, and the public tensors it starts from.
    cipher : ImageCipher
        What hides this site's images.
    travelling : list of str
        Tensors that come from the server and go back to it.
    trainable : list of str
        Tensors that training changes.
    private : list of str
        Tensors that never leave the site.
    vault : StemVault
        Where those rest, sealed.
    moments : StemVault or None
        Where what the optimiser remembers rests, sealed likewise; None where each round begins fresh.
    personal : StemVault or None
        Where a model of the site's own beside the shared one rests, sealed likewise; None where it has none.
    images : SiteImages
        Source and store.
    ledger : Ledger
        What training has cost these images, in all runs.
    budget : Budget or None
        What this run may cost them; None where it promises nothing.

    Raises
    ------
    DataError, StorageError, KeyMaterialError, PolicyError, ConfigError
        The data, disk, key or settings cannot serve this run.
    """

    def __init__(self, run: RunConfig, setup: SiteSetup) -> None:
        super().__init__(run, setup)
        self.last: Last | None = None
        self.train_config = from_mapping(TrainConfig, run.train, where="train")
        self.train_config.check()
        self.masked, self.evaluated = run.masked, run.evaluated
        self.policy = Policy(run.keys, run.stem_init, run.stem_train)
        self.cipher = self.cipher_under(setup.cipher_key)
        check_policy(self.policy, scheme=self.cipher.scheme, stem_rule=self.cipher.stem_rule)
        predict = from_mapping(PredictConfig, run.predict, where="predict")
        check_masked(run, self.train_config, predict, stem_rule=self.cipher.stem_rule)
        self.bench = workbench(run, setup.device)
        check_stem(self.bench.model, self.policy)
        self.travelling = travelling(
            self.bench.model, self.policy, self.train_config.scope, personal=self.train_config.personal
        )
        self.trainable = trainable(self.bench.model, self.policy, self.train_config.scope)
        self.private = self._private_names()
        state = setup.key.subkey("state")
        self.vault = StemVault(setup.folder / "stems", run=run.run, subkey=state)
        kept = self.train_config.state == "kept"
        self.moments = StemVault(setup.folder / MOMENTS, run=run.run, subkey=state, holds="moments") if kept else None
        own = self.train_config.personal == DITTO
        self.personal = StemVault(setup.folder / PERSONAL, run=run.run, subkey=state, holds="personal") if own else None
        self.images = open_images(run, setup, self.cipher, weights=self.bench.hash)
        self.ledger = Ledger(setup.folder / FILE, repeats=self._simulated)
        part = self.store.part(self.used)
        self.train_config = self._of_some(self.train_config, len(part))
        self.budget = make_budget(run, self.train_config, self.source, part, self.ledger, limit=setup.epsilon_limit)
        if self.budget is not None:
            check_apart(self.bench.model)
            self.ledger.begin(run.run, served=setup.served)

    @property
    def store(self) -> EncryptedStore:
        """The images, hidden."""
        return self.images.store

    @property
    def source(self) -> Source:
        """The images the store was made of."""
        return self.images.source

    def labels(self, part: str) -> npt.NDArray[np.int64]:
        """Class of each image of a part, int64 (n,): all alike where the run learns no classes."""
        found: npt.NDArray[np.int64] = self.store.part(part).labels
        return found if self.masked is None else np.zeros_like(found)

    @property
    def used(self) -> str:
        """The part of its images that a run is about: those it trains on, or, where nothing trains, measures."""
        return "train" if self.evaluated is None else "test"

    def cipher_under(self, key: Key | None) -> ImageCipher:
        """The run's cipher for images of this run, under a key."""
        size = self.run.image_size
        config = config_of_run(self.run.cipher)
        return make_cipher(config, key, channels=self.run.channels, height=size, width=size)

    def drawing(self, *where: str | int, attempt: int = 0) -> np.random.Generator:
        """A generator for one purpose in this run, the same whenever it is asked for.

        With a real key nobody else can tell what it draws: who repeats a run or a round without this site, or has it
        alone begin the round from another stem, to take its update from the difference, finds all other updates
        different too. Simulated ones repeat with their seed alone.

        Parameters
        ----------
        where
            What it is for, for example ``"train", round``.
        attempt
            Of the sum it is for, under masks: a round of the same sites may be opened twice.
        """
        key, about = self.setup.key, [where[0], self.setup.name, *where[1:]]
        if self._simulated:
            return generator(self.run.seed, *about)
        again = [f"attempt {attempt}"] if attempt else []
        fields = encode_fields(["medveil", "1", self.run.run, *map(str, where), *again])
        return generator(self.run.seed, *about, hkdf(key.subkey("train"), fields).hex())

    def seed(self, round_: int) -> bytes:
        """What noise and steps of a private round are drawn from: fresh from the operating system, and never again.

        A simulated key's is the same whenever it is asked for.
        """
        return self.drawing("private", round_).bytes(SEED_BYTES) if self._simulated else secrets.token_bytes(SEED_BYTES)

    def note_no_noise(self) -> None:
        """Write down that the run trains without noise; of a simulation's images nobody is told."""
        if not self._simulated:
            self.ledger.without(self.run.run)

    @property
    def _simulated(self) -> bool:
        return isinstance(self.setup.key, SimulatedKey)

    def _of_some(self, config: TrainConfig, images: int) -> TrainConfig:
        """The same, but that no step takes more than half of the images where chance is to tell runs apart.

        A step over all images draws nothing: the sums of two runs, one without this site, would differ by its update.
        """
        most = max(1, -(-images // 2))
        chance = self.run.trains and self.run.secagg.on and self.run.private is None and not self._simulated
        if not chance or config.batch_size <= most:
            return config
        _log.info("%s: %d images a step, half of what there is, so that no two runs train alike", self.setup.name, most)
        return replace(config, batch_size=most)

    def _private_names(self) -> list[str]:
        kept = [] if self.policy.train == "averaged" else stem_names(self.bench.model)
        trained = [name for name in self.trainable if name not in self.travelling]
        return list(dict.fromkeys([*kept, *trained]))


def with_model(site: SiteInRun) -> Site:
    """The same, where its run has a model (FederationError where it has none)."""
    if not isinstance(site, Site):
        cure = "server and site need the same MedVeil"
        raise FederationError("this run counts images: it has no model, and trains nothing", where="task", cure=cure)
    return site
