"""stem-closed-form: one matrix of gradients is a product of two, one of them sent too; the other is the images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry
from models.sizes import skeleton
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Update, sized
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateImageAttack, exchange_of
from simulations.attacks.study.cases import Seen

Floats = npt.NDArray[np.float64]
WEIGHT, POSITIONS = "patch_embed.proj.weight", "pos_embed"


class StemClosedForm(UpdateImageAttack):
    """Solve G^T X = dL/dW for the patches X of an image, by least squares."""

    name = "stem-closed-form"
    needs = frozenset({Capability.UPDATES, Capability.STEM_UPDATE})
    text = (
        "A ViT makes a token of each patch by one matrix W and adds a position to it. So the gradient of the positions "
        "is that of the tokens, G, and the gradient of W is its product with the patches, G^T X. Where both are sent, "
        "X follows by least squares: exactly for one image with no more patches than the model is wide, whatever the "
        "label, the loss and the depth. It survives any number of steps of plain SGD on one image, since both "
        "gradients add up. Of several images in an update it finds a mixture, and steps of Adam are no gradients; "
        "what is then shown is one image for the update, and the rest counts as grey. It is no bound on what other "
        "attacks find there. What it recovers is what the model read: under a key a ciphertext."
    )
    papers = (
        "Lu et al. 2022, arXiv:2112.14087 (the closed form for attention, of which this is the simpler case)",
        "Phong et al. 2018, doi:10.1109/TIFS.2017.2787987 (linear layers give their inputs away)",
    )
    margin = 0.1
    weight = 2.0

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """A model without a table of positions sends no gradient of tokens."""
        model = skeleton(sized(situation.model, geometry))
        return None if getattr(model, "pos_embed", None) is not None else "the model has no table of positions to learn"

    def invert(self, seen: Seen, place: int, rng: np.random.Generator) -> Floats:
        """Image (1, C, H, W) behind an update."""
        exchange: Exchange = exchange_of(seen)
        update: Update = exchange[place]
        return solved(update, exchange.geometry)


def solved(update: Update, geometry: Geometry) -> Floats:
    """The one image (1, C, H, W), as a model reads it, whose patches explain both gradients of the stem best.

    Only the ratio of the two counts, so that the learning rate need not be known.
    """
    tokens = update.change[POSITIONS][0, -geometry.blocks :].astype(np.float64)
    product = update.change[WEIGHT].astype(np.float64)
    patches, *_ = np.linalg.lstsq(tokens.T, product.reshape(len(product), -1), rcond=None)
    image: Floats = geometry.join(patches[None])
    return image
