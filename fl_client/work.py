"""The three things a server may ask of a site: what it brings, a round of training, and what a model is worth there."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from crypto.config import FIRST_DERIVATION
from fl_client.batches import generator
from fl_client.bounded_update import within
from fl_client.counting_site import CountingSite
from fl_client.data.source import read_many
from fl_client.export.facts import Predicted, facts_of
from fl_client.export.held import MODELS
from fl_client.export.kept import KeptModel, keep
from fl_client.masked import reconstructed
from fl_client.optimizers import Moments
from fl_client.personal import own_after, own_before, train_own
from fl_client.predicted import predicted
from fl_client.privacy.training import train_hidden
from fl_client.site import Site, SiteInRun
from fl_client.site_files import write_predictions
from fl_client.site_model import model_after, model_before, patch_order
from fl_client.thief import Loot, under_wrong_key, with_public_stem
from fl_client.training import RoundPlan, predict, train_round
from medveil.contract import EPSILON, NUM_EXAMPLES, SECONDS
from medveil.errors import DataError, FederationError, StorageError
from medveil.log import logger
from medveil.versions import medveil_version
from medveil.wire import Tensors, encode, pack
from models.light import plain_tensors
from models.travel import tensors

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_log = logger("site")


def described(site: SiteInRun) -> dict[str, Any]:
    """The row of any site, as `describe`; of one that counts, nothing but how many images it has is told before."""
    if not isinstance(site, CountingSite):
        assert isinstance(site, Site)  # There is no third kind.
        return describe(site)
    classes = list(site.run.classes)
    return {
        "site": site.setup.name,
        "classes": classes,
        "counts": [0] * len(classes),
        "missing": [],
        "n-train": 0,
        "n-validation": 0,
        "n-test": site.setup.leaving.weight(site.labels),
        "skipped": 0,
        **dict.fromkeys(("model-hash", "scheme", "fingerprint"), ""),
        "block": 0,
        "negate": False,
        "derivation": FIRST_DERIVATION,
        "version": medveil_version(),
    }


def describe(site: Site) -> dict[str, Any]:
    """The site's row of the preflight table: plain values; what is told of small classes, its `leaving` decides."""
    run, leaving = site.run, site.setup.leaving
    labels = {name: site.labels(name) for name in site.store.parts}
    counts = leaving.counts(labels[site.used], len(run.classes)) if run.classes else []
    return {
        "site": site.setup.name,
        "classes": list(run.classes),
        "counts": counts,
        "missing": [name for name, count in zip(run.classes, counts, strict=True) if not count],
        "n-train": leaving.weight(labels["train"]) if site.evaluated is None else 0,
        **{f"n-{part}": leaving.size(labels[part]) for part in ("validation", "test")},
        "skipped": leaving.count(len(site.images.skipped)),
        "model-hash": site.bench.hash,
        "scheme": site.cipher.scheme,
        "block": int(run.cipher.get("block", 0)),
        "negate": bool(run.cipher.get("negate", False)),
        "derivation": int(run.cipher.get("derivation", FIRST_DERIVATION)),
        "fingerprint": site.cipher.fingerprint,
        "version": medveil_version(),
    }


def train(
    site: Site,
    round_: int,
    incoming: Tensors,
    *,
    proximal_mu: float = 0.0,
    keep_round: int | None = None,
    attempt: int = 0,
) -> tuple[Tensors, dict[str, float]]:
    """Train one round from the incoming tensors; what stays at the site is sealed there.

    Parameters
    ----------
    site
        The site.
    round_
        The round, from 1.
    incoming
        The travelling tensors, fp32.
    proximal_mu
        Weight of FedProx's term.
    keep_round
        The round whose model may be the one that is left, as far as the server knows.
    attempt
        Under masks: of the sum that the update is for.

    Returns
    -------
    tuple
        The travelling tensors after training (fp32) and the measures.

    Raises
    ------
    BasisError
        The run began over other images, labels, settings or weights.
    FederationError
        The tensors are not those that travel, or training came to values that are not finite.
    IntegrityError, FormatError, StorageError
        Private tensors or store cannot be read, or the disk refuses.
    """
    started = time.monotonic()
    site.images.basis.hold()
    metrics: dict[str, float] = {}
    if site.run.evaluate_first:
        metrics |= _measured(site, own_before(site, round_, incoming), "validation")
    model = model_before(site, round_, incoming)
    part = site.store.part("train")
    moments, plan = _moments_before(site, round_), _plan(site, round_, proximal_mu, attempt)
    if site.budget is None:
        site.note_no_noise()
        result = train_round(model, part, site.train_config, plan, trainable=site.trainable, moments=moments)
    else:
        hidden = site.budget.hide(round_, lambda: site.seed(round_))
        train_hidden(model, part, site.train_config, plan, hidden, trainable=site.trainable, moments=moments)
        result = None
    if site.private:
        site.vault.save(round_, tensors(site.bench.state, site.private), keep=keep_round)
    if site.moments is not None and moments is not None:
        site.moments.save(round_, moments)
    outgoing = _outgoing(site)
    train_own(site, _plan(site, round_, site.train_config.personal_mu, attempt, "own-"), incoming, keep=keep_round)
    leaving = site.setup.leaving
    metrics |= {
        NUM_EXAMPLES: leaving.weight(site.labels("train")),
        SECONDS: time.monotonic() - started,
        **({} if result is None else leaving.training(loss=result.loss, accuracy=result.accuracy, n=result.n)),
    }
    return within(site.setup.clip, incoming, outgoing, site=site.setup.name, round_=round_), metrics


def validate(site: Site, round_: int, incoming: Tensors) -> dict[str, float]:
    """Measure the model after a round on validation images alone, so that a round can be chosen; errors as `train`."""
    started = time.monotonic()
    if site.budget is not None:
        raise _no_other()
    site.images.basis.hold()
    metrics = _measured(site, own_after(site, round_, incoming), "validation")
    n = site.setup.leaving.size(site.labels("validation"))
    return metrics | {NUM_EXAMPLES: n, SECONDS: time.monotonic() - started}


def _no_other() -> FederationError:
    problem = "measures no model but its last: no noise covers what is told of the others"
    return FederationError(f"a run with privacy {problem}", where="privacy")


def evaluate(site: Site, round_: int, incoming: Tensors) -> dict[str, float]:
    """Measure the model after a round on validation and test images, and what it is worth to a thief.

    Class probabilities of the test images stay at the site, in ``predictions.npz``; so does the whole model, where
    the site keeps it. Of a run that learns no classes there are neither. Where nothing trains, what is measured are its
    test images, and no model is kept. Errors as `train`.
    """
    started = time.monotonic()
    if site.budget is not None:
        if round_ != site.run.rounds:
            raise _no_other()
        site.ledger.measuring(site.run.run, hashlib.sha256(pack(encode(incoming, "fp32")).tobytes()).hexdigest())
    site.images.basis.hold()
    if site.evaluated is not None:
        return _measured_alone(site, model_after(site, round_, incoming)) | {SECONDS: time.monotonic() - started}
    model = own_after(site, round_, incoming)
    if site.masked is not None:
        # Nothing of it answers a question: there are no predictions to keep, and no classifier to steal.
        metrics = _measured(site, model, "validation") | _measured(site, model, "test")
        n = site.setup.leaving.size(site.labels("test"))
        return metrics | {NUM_EXAMPLES: n, SECONDS: time.monotonic() - started}
    whole = plain_tensors(model) if site.setup.keep_model else {}
    part = site.store.part("test")
    said = {"validation": predicted(site, model, "validation"), "test": _tested(site, model)}
    own = _answered(site, said)
    shared = model_after(site, round_, incoming)
    told = own
    if site.personal is not None and site.budget is not None:
        # No noise covers what the site's own model says: of it nothing is told.
        told = _answered(site, {name: predicted(site, shared, name) for name in said})
    # Stolen on its way, or from the server, it is the shared one.
    more = _worth_to_a_thief(site, shared)
    more |= {} if site.budget is None else {EPSILON: site.budget.told(exactly=site.setup.leaving.everything)}
    if whole:
        _keep(site, round_, whole, own | more, said)
    seconds = time.monotonic() - started
    return told | more | {NUM_EXAMPLES: site.setup.leaving.size(part.labels), SECONDS: seconds}


def _answered(site: Site, said: Predicted) -> dict[str, float]:
    """Measures of answers (n, K) to a site's validation and test images."""
    leaving, labels = site.setup.leaving, {name: site.store.part(name).labels for name in said}
    metrics: dict[str, float] = {}
    for name, answers in said.items():
        metrics |= leaving.measured(name, labels[name], answers)
    return metrics | leaving.majority(labels["test"])


def _moments_before(site: Site, round_: int) -> Moments | None:
    """What the optimiser remembered when the newest round before this one ended; None where rounds begin fresh.

    Round 0 remembers nothing, and says so in a file: a first round that is repeated finds it, and not its own.
    """
    if site.moments is None:
        return None
    found = site.moments.load(before=round_)
    if found is None:
        site.moments.save(0, {})
    return {} if found is None else found[1]


def _plan(site: Site, round_: int, proximal_mu: float, attempt: int, whose: str = "") -> RoundPlan:
    return RoundPlan(
        round=round_,
        rounds=site.run.rounds,
        seed=int(site.drawing(f"{whose}torch", round_, attempt=attempt).integers(2**63)),
        rng=site.drawing(f"{whose}train", round_, attempt=attempt),
        proximal_mu=proximal_mu,
        pi=patch_order(site.cipher) if site.train_config.patch_dropout > 0 or site.masked is not None else None,
        masked=site.masked,
    )


def _measured(site: Site, model: VisionTransformer, phase: str) -> dict[str, float]:
    part, leaving = site.store.part(phase), site.setup.leaving
    if site.masked is None:
        return leaving.measured(phase, part.labels, predict(model, part, site.train_config))
    # The same masks in every round: what differs between rounds is the model.
    rng, pi = generator(site.run.seed, "masks", site.setup.name, phase), patch_order(site.cipher)
    losses = reconstructed(model, part, site.train_config, site.masked, rng=rng, pi=pi)
    return leaving.reconstructed(phase, losses)


def _measured_alone(site: Site, model: VisionTransformer) -> dict[str, float]:
    """What the model all began with is worth on this site's images; a thief could have it from the same file."""
    labels, leaving = site.labels("test"), site.setup.leaving
    metrics = leaving.measured("test", labels, _tested(site, model)) | leaving.majority(labels)
    return metrics | {NUM_EXAMPLES: leaving.size(labels)}


def _tested(site: Site, model: VisionTransformer) -> npt.NDArray[np.float32]:
    """Class probabilities (n, K) of the test images, which are kept at the site."""
    part = site.store.part("test")
    probabilities = predicted(site, model, "test")
    named = {"ids": part.ids, "groups": site.source.group_names(part.ids), "labels": part.labels}
    write_predictions(site.setup.documents, **named, probabilities=probabilities)
    return probabilities


def _outgoing(site: Site) -> Tensors:
    found: dict[str, Tensor] = tensors(site.bench.state, site.travelling)
    return {name: tensor.float().numpy() for name, tensor in found.items()}


def _worth_to_a_thief(site: Site, model: VisionTransformer) -> dict[str, float]:
    """What `fl_client.thief` measures, where there is something to steal; the model's stem is replaced in place."""
    policy, part = site.policy, site.store.part("test")
    nothing_hidden = policy.keys == "none" and policy.train == "averaged"
    if site.source.hidden is not None or nothing_hidden or not len(part):
        return {}
    try:
        loot = Loot(read_many(site.source, part.indices), part.labels)
    except DataError as error:
        # The owner's own evaluation reads the store and does not need the file.
        _log.warning("%s: what a thief gets was not measured: %s", site.setup.name, error)
        return {}
    config, leaving = site.train_config, site.setup.leaving
    metrics: dict[str, float] = {}
    if site.setup.cipher_key is not None:
        metrics |= under_wrong_key(model, loot, site.cipher_under(site.setup.thief_key), config, leaving)
    return metrics | with_public_stem(
        model,
        loot,
        public=site.bench.public,
        size=site.cipher.padded,
        home=site.private,
        config=config,
        leaving=leaving,
    )


def _keep(site: Site, round_: int, whole: dict[str, Tensor], metrics: dict[str, float], said: Predicted) -> None:
    made = KeptModel(whole, facts_of(site, round_, metrics, said))
    try:
        keep(site.setup.folder / MODELS, site.setup.key, made)
    except StorageError as error:
        # The run can do without; the hospital reads in its log that it has no model to use.
        _log.error("%s: the model of round %d was not kept: %s", site.setup.name, round_, error)
