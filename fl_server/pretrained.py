"""What a run of masked autoencoding leaves at its server: weights that another run begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fl_server.initial import device_name
from fl_server.rows import SiteRow
from medveil.contract import RunConfig
from medveil.pretraining import MASKED, PRETRAINED
from medveil.versions import medveil_version
from medveil.wire import Tensors
from models.autoencoder import build_model
from models.policy import Policy
from models.pretrained import write_pretrained
from models.travel import load_tensors

_SIZES = ("width", "depth", "heads", "patch")
"""Settings of `model` that the run that begins with the weights has to have as well."""
_AVERAGED = "the mean of the sites'"
_EXACT = "the public one the run began with, which its sites kept as it is"
_BEGAN = (
    "the public one the run began with: its sites trained stems of their own, which stayed there, so that the first "
    "rounds of another run have to bring stem and trunk together"
)


def leave_pretrained(
    folder: Path, run: RunConfig, tensors: Tensors, *, summary: Mapping[str, Any], sites: Sequence[SiteRow]
) -> Path | None:
    """Write ``pretrained.safetensors`` and its card into a run's folder, where the run learned pixels.

    Parameters
    ----------
    folder
        The run folder.
    run
        The run.
    tensors
        What travels, as the run left it.
    summary, sites
        What the run came to, and who took part, for the card.

    Returns
    -------
    Path or None
        The weights; None of a run that learned classes.
    """
    if run.task != MASKED:
        return None
    model = build_model(run)
    load_tensors(model, {name: torch.from_numpy(array.copy()) for name, array in tensors.items()})
    facts = {
        "rounds": summary["rounds"],
        "sites": len(sites),
        "training images told of": sum(row.n_train for row in sites),
        "reconstruction loss on test images": summary["loss"],
        "device": device_name(),
    }
    path = folder / PRETRAINED
    write_pretrained(path, model, name=str(run.model["name"]), card=card_of(run, facts))
    return path


def card_of(run: RunConfig, facts: dict[str, Any]) -> dict[str, Any]:
    """What there is to know of a run's weights, in the order it is read."""
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    hidden = "plain images" if run.keys == "none" else f"images hidden with {run.cipher.get('scheme')}"
    learned = {"task": run.task, **run.pretrain} if run.task == MASKED else {"task": run.task}
    sizes = {name: run.model[name] for name in _SIZES if run.model.get(name) is not None}
    return {
        **({"model": sizes} if sizes else {}),
        "run": f"{run.name} ({run.run})",
        "data": f"{hidden}, {run.channels} x {run.image_size} x {run.image_size}, policy {policy}",
        "licence of the data": "not stated",
        **facts,
        "learned by": learned,
        "recipe": run.train,
        "seed": run.seed,
        "stem": stem_in_words(policy),
        "versions": {"medveil": medveil_version(), "torch": torch.__version__},
    }


def stem_in_words(policy: Policy) -> str:
    """Whose stem stands before the trunk."""
    if policy.stem_travels:
        return _AVERAGED
    return _EXACT if policy.train == "frozen" else _BEGAN
