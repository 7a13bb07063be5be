"""A site's model before a round: the tensors that came, those the site kept, and the public ones for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from crypto.cipher import ImageCipher
from crypto.derivation import normals
from crypto.keys import Key
from fl_client.site import Site
from fl_client.warmup import warm_up
from medveil.wire import Tensors
from models.policy import ORTHOGONAL, Policy
from models.stem import adapt, rotate, secret_size, set_secret
from models.travel import load_tensors, tensors

if TYPE_CHECKING:
    from models.vits import VisionTransformer


def model_before(site: Site, round_: int, incoming: Tensors) -> VisionTransformer:
    """The site's model as it enters a round; the first time, its own stem is made, and kept.

    Parameters
    ----------
    site
        The site; its workbench's one model is what is returned.
    round_
        The round that is about to begin.
    incoming
        The travelling tensors, as the server sent them.

    Raises
    ------
    FederationError
        They are not the ones that travel, or of another shape.
    IntegrityError, FormatError, StorageError
        The tensors the site kept cannot be opened, or those it makes cannot be kept.
    """
    model, state, dtype = site.bench.reset(), site.bench.state, site.bench.dtype
    given = {name: torch.from_numpy(np.array(array)).to(dtype) for name, array in incoming.items()}
    load_tensors(state, given, expected=site.travelling)
    if not site.private:
        return model
    found = site.vault.load(before=round_)
    if found is None:
        _make_stem(site, model)
        site.vault.save(0, tensors(state, site.private))
    else:
        load_tensors(state, found[1], expected=site.private)
    return model


def model_after(site: Site, round_: int, incoming: Tensors) -> VisionTransformer:
    """The site's model as it stood after a round, from what travelled and what it kept; errors as `model_before`."""
    return model_before(site, round_ + 1, incoming)


def follow(model: VisionTransformer, cipher: ImageCipher) -> None:
    """Move a public stem into the domain of a cipher's key, in place."""
    if cipher.stem_rule == ORTHOGONAL:
        turn = cipher.stem_rotation()
        rotate(model, matrix=turn.matrix, pi=turn.pi)
        return
    moves = cipher.stem_permutation()
    adapt(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)


def patch_order(cipher: ImageCipher) -> npt.NDArray[np.int64] | None:
    """How a cipher permutes patches, where a stem can follow it; where none can, no twin draws alike: None."""
    if cipher.stem_rule is None:
        return None
    pi = cipher.stem_rotation().pi if cipher.stem_rule == ORTHOGONAL else cipher.stem_permutation().pi
    return np.asarray(pi, dtype=np.int64)


def begin_stem(model: VisionTransformer, policy: Policy, cipher: ImageCipher, key: Key) -> None:
    """Make of a public stem, in place, the one that a policy begins with at a site.

    Parameters
    ----------
    model
        With its public tensors.
    policy
        Of the run.
    cipher, key
        The site's; a secret stem is drawn from the key.
    """
    if policy.init == "adapted":
        follow(model, cipher)
    elif policy.init == "secret":
        set_secret(model, normals(key.subkey("stem"), secret_size(model)))


def _make_stem(site: Site, model: VisionTransformer) -> None:
    run = site.run
    begin_stem(model, site.policy, site.cipher, site.setup.cipher_key or site.setup.key)
    if run.stem_warmup:
        rng = site.drawing("warmup")
        part = site.store.part("train")
        warm_up(model, part, site.train_config, epochs=run.stem_warmup, seed=run.seed, rng=rng)
