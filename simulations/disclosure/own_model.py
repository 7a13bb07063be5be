"""Whether the very model that leaves tells which of the site's images it was trained on, by its answers alone.

What is handed over is the model moved to plain images, as an export leaves it; no key is. Those it may have learned are
the training images of its run, the others are validation and test images, none of which looks like one of them.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from crypto.base import PLAIN
from fl_client.data.config import DataConfig
from fl_client.data.partition import site_parts
from fl_client.data.source import Source, open_source, read_many
from fl_client.disclosure.document import FAILED, INAPPLICABLE
from fl_client.export.folder import open_folder
from fl_client.export.predicting import logits_of
from fl_client.export.ready import no_keys
from medveil.errors import DataError, MedVeilError
from models.late_compiler import without_compiler
from models.vit import normalise
from simulations.attacks.solvers import members
from simulations.attacks.study.cases import Images
from simulations.attacks.study.result import Measured, verdict_of
from simulations.attacks.updates.membership import apart

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NAME = "model-membership"
TEXT = (
    "Images that a model learned it answers more surely than others. Asked are the site's training images and such "
    "validation and test images as look like none of them, each for the probability of its own class. The control is "
    "the same model, with a fresh classifier, after it learned labels dealt at random to some of these images, which "
    "can only be remembered."
)
HAS = ["candidate images with their labels", "the model that leaves"]

_MARGIN, _MOST, _REMEMBERED, _EPOCHS, _DRAWS = 0.1, 1024, 48, 200, 500
_RATE, _LEARNED, _CLASSES = 1e-3, 0.1, 16
"""The last: of labels dealt at random, so many that few of the others are guessed by luck."""
_SECONDS_FOR_CONTROL = 600.0


def told() -> dict[str, Any]:
    """What is planned, as of other attacks."""
    return {"attack": NAME, "text": TEXT, "has": HAS}


def entry(folder: Path, data: DataConfig, *, seed: int, missing: str) -> dict[str, Any]:
    """What came of it.

    Parameters
    ----------
    folder
        The exported model.
    data, seed
        The site's images, and the seed of the run that split them.
    missing
        Why there is no model in the folder; empty where there is.
    """
    if missing:
        return {"kind": INAPPLICABLE, "reason": missing}
    try:
        return _measured(folder, data, seed)
    except MedVeilError as error:
        return {"kind": FAILED, "reason": str(error)}


def _measured(folder: Path, data: DataConfig, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    described, model = open_folder(folder, no_keys)
    source = open_source(data)
    parts = site_parts(source, data, sites=1, index=0, seed=seed)
    rng = np.random.default_rng(seed)
    other = np.concatenate([parts.validation, parts.test])
    trained, held = (images_of(source, part, described.padded_size, rng) for part in (parts.train, other))
    every, which = apart(trained, held, trained.pixels)
    asked, seen = _evened(every, which, rng)
    found = _sureness(model, asked)
    remembering, among, known = _control(model, every, which, rng)
    control = _sureness(remembering, among)
    within: dict[str, list[float] | None] = {
        "target": _interval(found, seen, rng),
        "control": _interval(control, known, rng),
    }
    main = Measured(
        target=members.auroc(found, seen),
        control=members.auroc(control, known),
        chance=0.5,
        wrong_key=None,
        values={},
        chance_rule="guess",
        ci95=within,
        unit="share",
        direction="higher",
        text="AUROC of images it learned against others of the site",
    )
    figures = {"auroc": _figure(main)}
    for name, alarms in (("tpr_1", 0.01), ("tpr_01", 0.001)):
        caught = members.caught(found, seen, false_alarms=alarms)
        bounds = None if np.isnan(caught.low) else [caught.low, caught.high]
        text = f"of the images it learned, those told at {alarms:.1%} false alarms"
        value = None if np.isnan(caught.value) else caught.value
        arms = {"target": value, "control": None, "chance": alarms, "ci95": {"target": bounds}}
        figures[name] = {**arms, "unit": "share", "direction": "higher", "text": text}
    return {
        "verdict": verdict_of(kind="attack", reason=None, main=main, margin=_MARGIN),
        "main": "auroc",
        "margin": _MARGIN,
        "figures": figures,
        "keys": 1,
        "n": len(asked.labels),
        "notes": ["By the loss alone, on as many images of either kind: a power of two, which tells no size."],
        "seconds": time.monotonic() - began,
        "model": "black box",
    }


def images_of(source: Source, part: npt.NDArray[np.int64], side: int, rng: np.random.Generator) -> Images:
    """Some images of a part, padded as a stranger to the key pads them, and their classes."""
    chosen = np.sort(rng.choice(part, min(_MOST, len(part)), replace=False))
    pixels = read_many(source, chosen)
    missing = side - pixels.shape[-1]
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, missing), (0, missing)))
    return Images(pixels, np.array([source.items[int(place)].label for place in chosen], np.int64))


def _evened(asked: Images, seen: Flags, rng: np.random.Generator) -> tuple[Images, Flags]:
    """As many images of either kind, and so many that they do not tell how many the site has (DataError for none)."""
    least = min(int(seen.sum()), int((~seen).sum()))
    if not least:
        raise DataError("no validation or test image looks like none of the training images", cure="a larger data.test")
    count = 2 ** (least.bit_length() - 1)
    places = np.concatenate([rng.permutation(np.flatnonzero(each))[:count] for each in (seen, ~seen)])
    return Images(asked.pixels[places], asked.labels[places]), seen[places]


def _sureness(model: VisionTransformer, images: Images) -> Floats:
    """The probability a model gives each image's own class, (n,)."""
    found = [
        logits_of(model, torch.from_numpy(images.pixels[start : start + 64]), PLAIN).softmax(1).numpy()
        for start in range(0, len(images.labels), 64)
    ]
    made: Floats = np.concatenate(found)[np.arange(len(images.labels)), images.labels].astype(np.float64)
    return made


@without_compiler()
def _control(
    model: VisionTransformer, asked: Images, seen: Flags, rng: np.random.Generator
) -> tuple[VisionTransformer, Images, Flags]:
    """The model after it remembered random labels of some images; those and others, and which are which.

    Its classifier is a fresh one of more classes: of two, luck is right about half of the others.
    """
    inside = rng.permutation(np.flatnonzero(seen))[:_REMEMBERED]
    outside = rng.permutation(np.flatnonzero(~seen))[: 4 * _REMEMBERED]
    places = np.concatenate([inside, outside])
    labels = rng.integers(0, _CLASSES, len(places))
    among, known = Images(asked.pixels[places], labels), np.arange(len(places)) < len(inside)
    made: Any = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        made.reset_classifier(_CLASSES)
    for parameter in made.parameters():
        parameter.requires_grad_(True)
    adam = torch.optim.AdamW(made.parameters(), lr=_RATE)
    pixels, wanted = torch.from_numpy(among.pixels[known]), torch.from_numpy(labels[known])
    until = time.monotonic() + _SECONDS_FOR_CONTROL
    for _ in range(_EPOCHS):
        worst = 0.0
        for chosen in torch.from_numpy(rng.permutation(len(inside))).split(16):
            made.train()
            loss = functional.cross_entropy(made(normalise(pixels[chosen])), wanted[chosen])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            worst = max(worst, loss.item())
        if worst < _LEARNED or time.monotonic() > until:
            break
    found: VisionTransformer = made.eval()
    return found, among, known


def _interval(scores: Floats, seen: Flags, rng: np.random.Generator) -> list[float] | None:
    """A 95 % bootstrap over images, members and others apart."""
    inside, outside = scores[seen], scores[~seen]
    if not len(inside) or not len(outside):
        return None
    flags = np.arange(len(scores)) < len(inside)
    drawn = [
        members.auroc(np.concatenate([rng.choice(inside, len(inside)), rng.choice(outside, len(outside))]), flags)
        for _ in range(_DRAWS)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return [float(low), float(high)]


def _figure(measured: Measured) -> dict[str, Any]:
    arms = {arm: getattr(measured, arm) for arm in ("target", "control", "chance")}
    return {
        **arms,
        "ci95": measured.ci95,
        "unit": measured.unit,
        "direction": measured.direction,
        "text": measured.text,
    }
