"""Stem and trunk of one site of a simulated run that learned pixels, for plain images, as weights of another run.

The site's own stem fits the trunk as no other does. Moved back to plain images it is what training on plain images
gives (`fl_client.export.domain`), and holds nothing of the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crypto.base import ImageCipher
from fl_client.config import site_name
from fl_client.simulated_host import simulated_site
from fl_client.site_model import model_after
from fl_server.pretrained import card_of
from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, PolicyError
from medveil.files import new_folder
from medveil.pretraining import MASKED
from models.policy import ORTHOGONAL
from models.pretrained import write_pretrained
from models.saved import WEIGHTS
from models.stem import restore, unrotate
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST, read_manifest, resuming
from simulations.plan import make_plan
from simulations.site_models import checkpoint_of, tensors_at

if TYPE_CHECKING:
    from models.vits import VisionTransformer


def learned_pixels(run: Path) -> bool:
    """Whether a run folder is of a run that learned pixels, and no classes."""
    found = read_manifest(run).get("run_config")
    return isinstance(found, dict) and found.get("task") == MASKED


def export_pixels(run: Path, site: str | None, out: Path) -> str:
    """Write a site's stem and trunk into a new folder; returns whose they are, in words.

    Raises
    ------
    ConfigError
        The run has no such site, or came through no round.
    PolicyError
        Moved to plain images, its stem would show the key.
    """
    manifest = read_manifest(run)
    config = from_mapping(ExperimentConfig, manifest.get("experiment") or {}, where=str(run / MANIFEST))
    names = [site_name(index) for index in range(config.sites)]
    chosen = names[0] if site is None else site
    if chosen not in names:
        raise ConfigError(f"no site is called {chosen[:80]!a}", where="--site", cure=f"one of {', '.join(names)}")
    checkpoint = checkpoint_of(run, manifest["run"])
    if checkpoint is None:
        raise ConfigError("came through no round yet", where=run, cure=resuming(run))
    plan = make_plan(config, run, run=manifest["run"])
    opened = simulated_site(plan.run, plan.sites, names.index(chosen))
    _refuse_shown(plan.run, opened.cipher)
    model = model_after(opened, checkpoint.round, tensors_at(checkpoint, chosen, list(opened.travelling)))
    if plan.run.keys != "none":
        _move_back(model, opened.cipher)
    card = card_of(plan.run, {"rounds": checkpoint.round}) | {"stem": f"that of {chosen}, moved to plain images"}
    with new_folder(out) as made:
        write_pretrained(made / WEIGHTS, model, name=str(plan.run.model["name"]), card=card)
    return f"{chosen} after round {checkpoint.round} of {plan.run.name}"


def _refuse_shown(run: RunConfig, cipher: ImageCipher) -> None:
    if cipher.stem_rule == ORTHOGONAL and run.stem_train == "local" and run.train["optimizer"] != "sgd":
        problem = "Adam trained its stem along the axes of the key's matrix, and what it learned shows them"
        raise PolicyError(problem, where=f"scheme {cipher.scheme}", cure="the run's own pretrained.safetensors")


def _move_back(model: VisionTransformer, cipher: ImageCipher) -> None:
    if cipher.stem_rule == ORTHOGONAL:
        turn = cipher.stem_rotation()
        unrotate(model, matrix=turn.matrix, pi=turn.pi)
        return
    moves = cipher.stem_permutation()
    restore(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)
