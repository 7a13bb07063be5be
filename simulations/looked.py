"""Hits and misses of a run's models on test images, with attention rollout: for the run's page.

The keys of a simulation are throwaway ones, and its server and sites one person's: the images are shown again by the
site's key, and attention is put back by it. A real site has a page of its own (``medveil-site predict --page``), and a
server has neither key nor image.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fl_client.config import site_name
from fl_client.looked.choosing import choose
from fl_client.numbers import numbers_of, place_of
from fl_client.personal import own_after
from fl_client.simulated_host import simulated_site
from fl_server.checkpoints import Checkpoint
from medveil.errors import ConfigError, DataError, MedVeilError
from medveil.files import write_bytes
from medveil.log import logger
from medveil.pretraining import MASKED
from models.rollout import in_plain_order, rollout
from simulations.baselines.names import BASELINES
from simulations.plan import Plan
from simulations.predictions import load_predictions
from simulations.site_models import checkpoint_of, tensors_at

FILE = "looked.npz"
_MOST_SITES = 4
_log = logger("report")


class _Seen(NamedTuple):
    """Images of a site, uint8 (n, C, S, S), and how much of each patch reached the classifier, float64 (n, N)."""

    images: npt.NDArray[np.uint8]
    shares: npt.NDArray[np.float64]
    refused: str


_NONE = np.zeros((0, 1))


def write_looked(plan: Plan) -> Path | None:
    """Write ``RUN/looked.npz``: images uint8 (n, C, S, S), shares of attention float32 (n, N), and what was answered.

    Of at most four sites, a few images a class (`fl_client.looked.choosing`).

    Returns
    -------
    Path or None
        None where the run leaves no predictions of a model with attention, or where they cannot be shown again; the log
        says why.
    """
    path = plan.out / FILE
    path.unlink(missing_ok=True)
    if plan.experiment.hits_shown == 0 or plan.experiment.federation in BASELINES or plan.experiment.task == MASKED:
        return None
    if plan.sites.data.source == "hidden":
        # Another party's key hid them.
        return None
    try:
        packed = _packed(plan)
    except MedVeilError as error:
        # A run that came to its end is not lost for its pictures.
        _log.warning("no hits and misses in the report: %s", error)
        return None
    if packed is not None:
        # It shows originals.
        write_bytes(path, packed, mode=0o600)
    return None if packed is None else path


def _packed(plan: Plan) -> bytes | None:
    # A run that trains nothing leaves no checkpoint: its model is the public one.
    measured = plan.run.evaluated is not None
    checkpoint = None if measured else checkpoint_of(plan.out, plan.run.run)
    found = {name: each for name, each in load_predictions(plan.out).items() if len(each)}
    said = dict(list(found.items())[:_MOST_SITES])
    if (checkpoint is None and not measured) or not said:
        return None
    sites = np.repeat(list(said), [len(each) for each in said.values()])
    ids = np.concatenate([each.ids for each in said.values()])
    labels = np.concatenate([each.labels for each in said.values()])
    probabilities = np.concatenate([each.probabilities for each in said.values()])
    rows = np.array([each.row for each in choose(labels, probabilities, each=plan.experiment.hits_shown)])
    by_site = [(name, rows[sites[rows] == name]) for name in said]
    seen = [_of_site(plan, name, ids[own].tolist(), checkpoint) for name, own in by_site if len(own)]
    # Site by site as they were opened; a page puts them class by class.
    order = np.concatenate([own for _, own in by_site])
    refused = next((each.refused for each in seen if each.refused), "")
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        images=np.concatenate([each.images for each in seen]),
        shares=np.concatenate([each.shares for each in seen]).astype(np.float32) if not refused else np.zeros((0, 1)),
        labels=labels[order],
        probabilities=probabilities[order],
        sites=sites[order],
        ids=ids[order],
        padded=np.int64(plan.run.model["image_size"]),
        refused=np.array(refused),
    )
    return packed.getvalue()


def _of_site(plan: Plan, name: str, ids: list[str], checkpoint: Checkpoint | None) -> _Seen:
    names = [site_name(index) for index in range(plan.sites.sites)]
    site = simulated_site(plan.run, plan.sites, names.index(name))
    part = site.store.part("test")
    places = {each: row for row, each in enumerate(part.ids)}
    if not places.keys() >= set(ids):
        raise DataError("its test images are not those of its predictions", where=name)
    rows = np.array([places[each] for each in ids])
    hidden, nonces = part.batch(rows), part.nonces_of(rows)
    images = site.cipher.decrypt(hidden, nonces).astype(np.uint8)
    pi = site.cipher.block_order()
    if pi is None:
        return _Seen(images, _NONE, f"the scheme {site.cipher.scheme} does not say where it puts a block")
    if checkpoint is None:
        model = own_after(site, 0, {each: site.bench.public[each].cpu().numpy() for each in site.travelling})
    else:
        model = own_after(site, checkpoint.round, tensors_at(checkpoint, name, list(site.travelling)))
    try:
        shares = rollout(model, numbers_of(part, rows, 0, *place_of(model)))
    except ConfigError as error:
        return _Seen(images, _NONE, error.problem)
    return _Seen(images, in_plain_order(shares, pi).numpy(), "")
