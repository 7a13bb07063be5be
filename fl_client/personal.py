"""A site's own model beside the shared one (Ditto: Li et al., ICML 2021, arXiv 2012.04221).

After each round's training of the shared model the site trains its own, on the same images, drawn by
``train.personal_mu`` to the shared model as it came. It never leaves: what is sent is, bit for bit, what would be sent
without it. It answers for the site: what is measured, predicted, kept and exported is this model's.

Where a run has `privacy`, noise covers the shared model alone. What is told is then measured on that one; of the site's
own nothing is, so that it spends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fl_client.site import Site
from fl_client.site_model import model_before
from fl_client.training import RoundPlan, train_round
from medveil.errors import FederationError
from medveil.wire import Tensors
from models.travel import load_tensors, tensors

if TYPE_CHECKING:
    from models.vits import VisionTransformer


def own_before(site: Site, round_: int, incoming: Tensors) -> VisionTransformer:
    """The model that answers for a site as it enters a round: its own, where there is one, else the shared one.

    Parameters and errors are those of `fl_client.site_model.model_before`.
    """
    model = model_before(site, round_, incoming)
    found = None if site.personal is None else site.personal.load(before=round_)
    if found is not None and found[1]:
        load_tensors(model, found[1], expected=site.trainable)
    return model


def own_after(site: Site, round_: int, incoming: Tensors) -> VisionTransformer:
    """The model that answers for a site after a round; errors as `own_before`."""
    return own_before(site, round_ + 1, incoming)


def train_own(site: Site, plan: RoundPlan, incoming: Tensors, *, keep: int | None = None) -> None:
    """Train a site's own model for one round, and seal it; nothing is done where the site has none.

    Parameters
    ----------
    site, incoming
        The site, and the shared model's tensors as they came.
    plan
        Of the round, with random numbers of its own: the shared model's training is not to notice.
    keep
        The round whose model may be the one that is left.

    Raises
    ------
    FederationError
        Training came to values that are not finite.
    IntegrityError, FormatError, StorageError
        What the site kept cannot be opened, or the disk refuses.
    """
    vault = site.personal
    if vault is None:
        return
    if vault.load(before=plan.round) is None:
        # There is none yet, and says so in a file: a first round that is repeated finds it, and not its own.
        vault.save(0, {})
    shared = tensors(model_before(site, plan.round, incoming), site.trainable)
    model = own_before(site, plan.round, incoming)
    try:
        train_round(model, site.store.part("train"), site.train_config, plan, trainable=site.trainable, drawn_to=shared)
    except FederationError as error:
        raise FederationError(f"the site's own model: {error.problem}", where=error.where, cure=error.cure) from None
    vault.save(plan.round, tensors(model, site.trainable), keep=keep)
