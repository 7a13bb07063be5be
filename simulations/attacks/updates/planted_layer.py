"""planted-layer: a server sets weights that a model has anyway, so that an update prints the patches of its images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, Reading
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Federation, Update
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateAttack, as_numbers, exchange_of, reading_of
from simulations.attacks.solvers.imprint import Patches, between_neighbours, patches_of
from simulations.attacks.study.attack import Chance, Metric, Scores
from simulations.attacks.study.cases import Case, Pixels, Seen
from simulations.attacks.study.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor

    from medveil.wire import Tensors
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]


class Share(NamedTuple):
    """The part of the layer that a site's images may reach: rows, and the numbers of a token that they read."""

    rows: slice = slice(None)
    columns: slice = slice(None)


WHOLE = Share()
FIRST, SECOND = "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"
_SILENT = ("blocks.0.attn.proj.weight", "blocks.0.attn.proj.bias", f"{SECOND}.bias")
_SHARP = 40.0
"""How many widths of GELU's bend lie between two thresholds of the middle."""
_SMALL = 1e-3
"""Entries of the planted rows where an update is scaled, by Adam or to the clip of a sum: what is added to them is then
neither lost in their rounding nor small beside the rest of the update.
"""
_UNDER_ADAM = 1e-6
"""How much smaller gradients are made under Adam, so that its epsilon divides them all alike."""
_POSSIBLE = 0.02
"""Beyond it what lay between two thresholds was not one token."""
_RIGHT_DB = 30.0


class PlantedLayer(UpdateAttack):
    """Make the rows of a block's first MLP layer one direction with a threshold each."""

    name = "planted-layer"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.UPDATES,
            Capability.TRAINING,
            Capability.SURROGATE,
            Capability.MANIPULATION,
            Capability.BLOCK_UPDATE,
            Capability.WHOLE_MODEL,
        }
    )
    text = (
        "The server sends weights of its own making. The model is the one all agreed on, layer for layer, so nothing "
        "can be put before it; but the first layer of block 0's MLP reads every token. Its rows are made one "
        "direction, each with a threshold of its own, set where public images spread, and the attention before it is "
        "silenced. The gradients of two neighbouring rows then differ by the tokens between their thresholds, and "
        "where that is one, a linear system gives its patch and its place. Under Adam the gradients are made so small "
        "that its epsilon divides them all alike. Recovered is a patch that some candidate of its place matches at "
        f"{_RIGHT_DB:g} dB or more; which image of the batch it is of, the attack does not say."
    )
    papers: ClassVar[tuple[str, ...]] = (
        "Fowl et al. 2022, arXiv:2110.13057 (Robbing the Fed: the layer, put before a model)",
        "Zhao et al. 2024, arXiv:2303.12233 (LOKI: another layer for each site, to part sums)",
    )
    main = "patches"
    margin = 0.1
    weight = 5.0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Shares of patches, of the plain images and of what the models read."""
        return (
            Metric("patches", f"patches of the images recovered at {_RIGHT_DB:g} dB", chance=Chance.IMAGE),
            Metric("patches_read", "patches of what the models read, recovered likewise", chance=Chance.IMAGE),
            Metric("step", "length of the server's change beside that of a round's mean", "times", "none", Chance.NONE),
        )

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """A token narrower than its patch does not hold it, and behind the last block only the class token counts."""
        width, length = situation.model.width, geometry.block_length
        if width is not None and width < length + 2:
            return f"a token of {width} numbers does not hold a patch of {length}"
        return "no block behind the planted one reads its tokens" if situation.model.depth == 1 else None

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """As for any attack on updates, on the weights that the server planted."""
        assert isinstance(setting, UpdateSetting)
        target = setting.situation
        here = self.control_situation(target) if setting.unprotected else target
        count = min(self.updates, max(1, setting.capped(setting.images) // (target.images * target.sites)))
        return update_case(setting, key, here, updates=count, send=self.made)

    def made(self, federation: Federation, case: Case) -> Tensors:
        """What the server sends in the place of the public tensors."""
        return planted(federation, case.public().pixels)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Any:
        """Read each update."""
        exchange: Exchange = exchange_of(seen)
        return [read(update, exchange) for update in exchange]

    def score(self, found: Any, case: Case) -> Scores:
        """How many patches of each image some candidate of their place matches."""
        assert isinstance(case, UpdateCase)
        plain = as_numbers(case.geometry.cut(case.targets.pixels), Reading(case.geometry.bits))
        hidden = as_numbers(case.geometry.cut(case.hidden.images), reading_of(case))
        shares: dict[str, list[float]] = {"patches": [], "patches_read": []}
        start = 0
        for patches, sites in zip(found, case.hospitals, strict=True):
            count = sum(len(each.images.labels) for each in sites)
            chosen = slice(start, start + count)
            shares["patches"].append(matched(patches, plain[chosen]))
            shares["patches_read"].append(matched(patches, hidden[chosen]))
            start += count
        return {name: float(np.mean(each)) for name, each in shares.items()} | {"step": step_of(case)}

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The patches of the mean image, and of other images of the classes."""
        assert isinstance(case, UpdateCase)
        for images in case.guessed:
            found, start = [], 0
            for sites in case.hospitals:
                count = sum(len(each.images.labels) for each in sites)
                found.append(as_patches(images[start : start + count], case.geometry))
                start += count
            yield self.score(found, case)


def planted(federation: Federation, public: Pixels, share: Share = WHOLE) -> Tensors:
    """The travelling tensors with the layer in them.

    Parameters
    ----------
    federation
        What is agreed on, and what of it travels.
    public
        (n, C, H, W), to set thresholds by.
    share
        Rows that answer, and what they read; the gradients of all others are nothing.
    """
    situation, made = federation.situation, {name: each.copy() for name, each in federation.base.items()}
    quiet = situation.train.optimizer != "sgd"
    rows, width = made[f"{FIRST}.weight"].shape
    rng = np.random.default_rng(0)
    direction, reads = np.zeros(width), np.zeros(width)
    reads[share.columns] = 1.0
    direction[share.columns] = _unit(rng, len(direction[share.columns]))
    along = _tokens(federation, public) @ direction
    answer = len(np.arange(rows - 1)[share.rows])
    asked = np.quantile(along, (np.arange(answer) + 0.5) / (answer + 1))
    # Beyond every token: what changes there all rows have from elsewhere, as from the decay of weights.
    thresholds = np.full(rows, asked[-1] + 2 * float(np.ptp(asked)))
    thresholds[:-1][share.rows] = asked
    gain = _SHARP / max(float(np.median(np.diff(asked))), 1e-6)
    # Neighbours push in opposite directions, so that the model behind the layer still reads something.
    signs = _signs(rows)
    reach = gain * float(np.ptp(asked))
    out = _unit(rng, width) * ((_UNDER_ADAM if quiet else 1.0) / reach)
    for name in _SILENT:
        if name in made:
            made[name][:] = 0.0
    small = _SMALL if quiet or situation.sites > 1 else 1.0
    made["blocks.0.norm2.weight"][:] = gain / small * reads
    made["blocks.0.norm2.bias"][:] = 0.0
    made[f"{FIRST}.weight"][:] = small * direction
    made[f"{FIRST}.bias"][:] = -gain * thresholds
    made[f"{SECOND}.weight"][:] = out[:, None] * signs
    return made


def read(update: Update, exchange: Exchange, share: Share = WHOLE) -> Patches:
    """The patches that an update prints, in a share of the layer."""
    change = update.change[f"{FIRST}.weight"].astype(np.float64)
    turned = (change - change[-1]) * _signs(len(change))[:, None]
    tokens = between_neighbours(turned[:-1][share.rows, share.columns])
    model = exchange.model()
    embedding = model.patch_embed.proj.weight.detach().double().numpy().reshape(change.shape[1], -1)
    bias = 0.0 if model.patch_embed.proj.bias is None else model.patch_embed.proj.bias.detach().double().numpy()
    offsets = _positions(model, exchange.geometry).detach().double().numpy()[0] + bias
    found = patches_of(tokens, embedding[share.columns], offsets[:, share.columns])
    possible = found.residuals < _POSSIBLE
    return Patches(found.values[possible], found.places[possible], found.residuals[possible])


def matched(found: Patches, truth: Floats) -> float:
    """Share of patches (n, N, L), as numbers a model reads, that some candidate of their place matches."""
    right = np.zeros(truth.shape[:2], dtype=bool)
    for value, place in zip(found.values, found.places, strict=True):
        squared = ((truth[:, place] - value) ** 2).mean(axis=1)
        right[:, place] |= squared <= 4 * 10 ** (-_RIGHT_DB / 10)
    return float(right.mean())


def _unit(rng: np.random.Generator, width: int) -> Floats:
    drawn = rng.standard_normal(width)
    made: Floats = drawn / np.linalg.norm(drawn)
    return made


def _signs(rows: int) -> Floats:
    return np.where(np.arange(rows) % 2, -1.0, 1.0)


def _tokens(federation: Federation, images: Pixels) -> Floats:
    """What block 0's MLP would read of plain images behind a silent attention, normalised: (n, D)."""
    import torch  # noqa: PLC0415 - slow to import

    model, geometry = federation.public(), federation.geometry
    numbers = torch.from_numpy(as_numbers(images, Reading(geometry.bits))).float()
    with torch.no_grad():
        embedded = model.patch_embed(numbers) + _positions(model, geometry)
        normal = torch.nn.functional.layer_norm(embedded, embedded.shape[-1:])
    made: Floats = normal.double().numpy().reshape(-1, embedded.shape[-1])
    return made


def _positions(model: VisionTransformer, geometry: Geometry) -> Tensor:
    """Those of patches, (1, N, D)."""
    assert model.pos_embed is not None
    return model.pos_embed[:, -geometry.blocks :]


def as_patches(images: Pixels, geometry: Geometry) -> Patches:
    """Images (n, C, H, W) as what would have been read of them, had it been all."""
    numbers = as_numbers(geometry.cut(images), Reading(geometry.bits))
    count, places, length = numbers.shape
    return Patches(numbers.reshape(-1, length), np.tile(np.arange(places), count), np.zeros(count * places))


def step_of(case: UpdateCase, sent: Tensors | None = None) -> float:
    """How far what was sent is from the public model, in lengths of what a round of the same sites changes."""
    federation = case.federation
    public = {name: federation.bench.public[name].float().cpu().numpy() for name in federation.travelling}
    honest = federation.update(case.hospitals[0], base=public).change
    given = federation.base if sent is None else sent
    return length({name: given[name] - public[name] for name in public}) / length(honest)


def length(tensors: Tensors) -> float:
    """Of all their numbers together."""
    return float(np.sqrt(sum(float((each.astype(np.float64) ** 2).sum()) for each in tensors.values())))
