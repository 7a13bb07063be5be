"""key-from-weights: the key of hidden images from a stem that was sent: moved by the key, or trained in its domain."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, StemPermutation
from crypto.schemes.block_pixel import BlockPixel
from fl_client.workbench import pick_device
from medveil.wire import Tensors
from models.policy import Policy
from models.rotary import ROWS
from models.stem import stem_names
from models.travel import tensors
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.rounds import Watched, watched_case
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateAttack, exchange_of
from simulations.attacks.solvers.layout import place_on_grid, recover_layout
from simulations.attacks.solvers.schemes import may_negate
from simulations.attacks.solvers.stems import Matched, likeness, match_stem, moments_of, near
from simulations.attacks.solvers.truth import true_key
from simulations.attacks.study.attack import Metric, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

WEIGHT, POSITIONS = "patch_embed.proj.weight", "pos_embed"
_SENT = Policy("per-site", "adapted", "averaged")
"""What MedVeil refuses: a stem that follows a site's key, and travels."""
_GUESSES = 8


class SentStem(BlockPixel):
    """The cipher of the control: block-pixel, with an adapted stem that lies open after training."""


class Found(NamedTuple):
    """A key as the attack has it: order inside blocks, of blocks, and negations; None for what it cannot tell."""

    rho: Indices
    pi: Indices | None
    mask: npt.NDArray[np.bool_]


class KeyFromWeights(UpdateAttack):
    """Match an adapted stem with the public one; or read the layout of pixels in what a stem learned.

    Parameters
    ----------
    sites
        Sites that share the key and train together, where the server reads each; as many as are summed, else.
    """

    name = "key-from-weights"
    recovers = "images"
    needs = frozenset({Capability.UPDATES, Capability.STEM_UPDATE})
    text = (
        "A stem that follows a key has the columns of its patch weight and the rows of its positions in the key's "
        "order: whoever has the public initial weights finds each again by its cosine, negations by the sign, and "
        "training moves none so far that it is another. Rows of a rotary table are the order of blocks as it stands. "
        "MedVeil refuses to send such a stem; it is the control here. A public stem that trains on images under a "
        "shared key is sent, and learns: its gradient is a product with the patches, so the columns of what it learned "
        "covary as the pixels of hidden blocks do, and a layout follows as from ciphertexts, of pixels and, from the "
        "rows of positions, of blocks. Places count as found when no more than 1 off in either direction, in the best "
        "of the eight orientations, for chance as for the attack. A key opens every image that it hid."
    )
    papers = ("this project, docs/explanation/policies.md (what an adapted stem gives away)",)
    main = "within_1"
    margin = 0.2
    weight = 5.0
    control = SentStem
    wanted = 64

    def __init__(self, *, sites: int = 1) -> None:
        self.sites = sites

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Shares of the key."""
        return (
            Metric("within_1", "pixels of a block placed within 1"),
            Metric("blocks_within_1", "blocks placed within 1"),
            Metric("key", "the key recovered exactly: mean of the shares of pixels, blocks and negations"),
            Metric("pixels", "pixels of a block placed exactly"),
            Metric("blocks", "blocks placed exactly"),
            Metric("flips", "negations found, up to a negative"),
        )

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """There is a key, and it puts the pixels of every patch in one order."""
        if not situation.hides:
            return "no key hides the images"
        return None if situation.scheme == "block-pixel" else f"{situation.scheme} has no one order of pixels to find"

    def notes(self, setting: Setting) -> list[str]:
        """What the control is."""
        told = f"The control is block-pixel with a stem of policy {_SENT}, which MedVeil refuses to run."
        return [*super().notes(setting), told]

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """A run watched by its server."""
        assert isinstance(setting, UpdateSetting)
        here, control = setting.situation, setting.kind is SentStem
        if control:
            train = replace(here.train, scope="full")
            here = replace(here, policy=_SENT, scheme="block-pixel", train=train, sites=1, epsilon=0.0)
            here = replace(here, knows_weights=True)
        made = watched_case(setting, key, here, sites=self.sites, device=str(pick_device(self.device)))
        if control:
            made.extra = {name: _Open(each, made) for name, each in made.extra.items()}
        return made

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Match where the stem began adapted, read what was learned where it began public."""
        exchange = exchange_of(seen)
        if isinstance(exchange, _Open):
            return matched(exchange.stem, exchange.public, seen.geometry)
        return learned(exchange, seen, rng)

    def score(self, found: Found, case: Case) -> Scores:
        """Shares of the true key."""
        true = true_key(case.cipher)
        assert true is not None
        return shares(found, true, case)

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """Random keys, on average."""
        true, shape = true_key(case.cipher), case.geometry
        assert true is not None
        drawn = []
        for _ in range(_GUESSES):
            mask = rng.random(shape.block_length) < (0.5 if may_negate(case.config) else 0.0)
            guess = Found(rng.permutation(shape.block_length), rng.permutation(shape.blocks), mask)
            drawn.append(shares(guess, true, case))
        yield {name: float(np.mean([each[name] for each in drawn])) for name in drawn[0]}


class _Open:
    """A site's stem as it lies open, beside the public one."""

    def __init__(self, watched: Watched, case: UpdateCase) -> None:
        self._watched, self._case = watched, case

    @property
    def stem(self) -> Tensors:
        """After the first round, with the order of rotary rows where there is one."""
        federation = self._case.federation
        model = federation.trained(self._case.hospitals[0][0])
        return {name: each.numpy() for name, each in tensors(model, stem_names(model)).items()}

    @property
    def public(self) -> Tensors:
        """As the contract builds it."""
        model = self._watched.model()
        return {name: each.numpy() for name, each in tensors(model, stem_names(model)).items()}


def matched(stem: Tensors, public: Tensors, geometry: Geometry) -> Found:
    """A key from a stem that followed it, and the public one."""
    first, second = (_flat(each[WEIGHT]) for each in (stem, public))
    rows = [_patch_rows(each, geometry) if POSITIONS in each else None for each in (stem, public)]
    found: Matched = match_stem(first, second, *rows)
    pi = found.pi if len(found.pi) else None
    if ROWS in stem:
        pi = np.asarray(stem[ROWS], dtype=np.int64)
    return Found(found.rho, pi, found.mask)


def learned(exchange: Watched, seen: Seen, rng: np.random.Generator) -> Found:
    """A layout from what a stem learned, round by round: each weighs the same images anew."""
    rounds, shape = exchange.rounds, seen.geometry
    change = np.concatenate([_flat(each.after[WEIGHT]) - _flat(each.before[WEIGHT]) for each in rounds])
    negate = may_negate(seen.config)
    layout = recover_layout(moments_of(change, shape.largest), shape.channels, negate=negate, rng=rng)
    pi = None
    if POSITIONS in rounds[0].before and math.isqrt(shape.blocks) ** 2 == shape.blocks:
        rows = [_patch_rows(each.after, shape) - _patch_rows(each.before, shape) for each in rounds]
        pi = place_on_grid(likeness(np.concatenate(rows, axis=1))).astype(np.int64)
    return Found(layout.rho(shape.block).astype(np.int64), pi, layout.mask)


def shares(found: Found, true: StemPermutation, case: Case) -> Scores:
    """What of a key was found."""
    shape, edge = case.geometry, case.geometry.block
    exact = {"pixels": float((found.rho == true.rho).mean()), "blocks": math.nan, "flips": math.nan}
    made = {"within_1": near(found.rho % edge**2, true.rho % edge**2, edge), "blocks_within_1": math.nan}
    side = math.isqrt(shape.blocks)
    if found.pi is not None:
        exact["blocks"] = float((found.pi == true.pi).mean())
        made["blocks_within_1"] = near(found.pi, true.pi, side) if side**2 == shape.blocks else math.nan
    if may_negate(case.config):
        right = float((found.mask == true.mask).mean())
        exact["flips"] = max(right, 1 - right)
    # What cannot be told is no share of a key.
    counted = [exact["pixels"], 0.0 if found.pi is None else exact["blocks"]]
    counted += [exact["flips"]] if may_negate(case.config) else []
    return made | exact | {"key": float(np.mean(counted))}


def _flat(weight: npt.NDArray[np.float32]) -> Floats:
    return weight.reshape(len(weight), -1).astype(np.float64)


def _patch_rows(stem: Tensors, geometry: Geometry) -> Floats:
    """Rows of patches (N, D) of a table of positions, without those of class and register tokens."""
    return stem[POSITIONS][0, -geometry.blocks :].astype(np.float64)
