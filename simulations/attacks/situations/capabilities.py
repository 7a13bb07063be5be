"""What an attack on updates needs, and what a situation gives: both named from one closed list.

The letters are the threat models of Carletti et al., "SoK: Gradient Inversion Attacks in Federated Learning", USENIX
Security 2025, whose columns are the first seven capabilities; that attacks *declare* what they need follows LeakPro
(github.com/aidotse/LeakPro). The rest is what decides here: which part of an update there is to read, and in front of
which stem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Capability(StrEnum):
    """Something an attacker has or can do; its text completes "the attacker has"."""

    UPDATES = "model updates"
    BASICS = "architecture, the range of pixels, and that images are smooth"
    TRAINING = "how sites train: optimiser, rate, batch, epochs"
    SURROGATE = "public images of the kind"
    DISTRIBUTION = "statistics of the sites' images"
    MANIPULATION = "the power to send sites a model of its own making"
    SELECTION = "the power to choose or to pose as sites"

    SINGLE_SITE = "the update of one site, and not only a sum"
    SEVERAL_SITES = "updates of several sites, or a sum over them"
    SEVERAL_MODELS = "the means to show every site of a sum a model of its own"
    FROZEN = "frozen weights of its own making at the sites"
    INITIAL = "the public initial weights"
    STEM_UPDATE = "the update of patch and position embedding"
    BLOCK_UPDATE = "the update of a whole weight matrix of the first block"
    BLOCK_SPAN = "the update of a whole weight matrix of the first block, or of a core in one"
    HEAD_UPDATE = "the update of the classifier"
    WHOLE_MODEL = "every weight in front of what travels, or weights that give the same gradients"
    ONE_IMAGE = "an update that one image made"
    ONE_STEP = "an update that is one step"
    LINEAR = "an update that is linear in the gradients: plain SGD"
    PLAIN_CANDIDATES = "the means to show the model plain images of its own choice"


MODELS: Mapping[str, frozenset[Capability]] = {
    "A": frozenset({Capability.UPDATES}),
    "B": frozenset({Capability.UPDATES, Capability.BASICS}),
    "C": frozenset({Capability.UPDATES, Capability.BASICS, Capability.TRAINING}),
    "D": frozenset({Capability.UPDATES, Capability.BASICS, Capability.TRAINING, Capability.SURROGATE}),
    "E": frozenset(
        {
            Capability.UPDATES,
            Capability.BASICS,
            Capability.TRAINING,
            Capability.SURROGATE,
            Capability.DISTRIBUTION,
        }
    ),
    "F": frozenset({Capability.UPDATES, Capability.BASICS, Capability.TRAINING, Capability.MANIPULATION}),
    "G": frozenset(
        {
            Capability.UPDATES,
            Capability.BASICS,
            Capability.TRAINING,
            Capability.SURROGATE,
            Capability.MANIPULATION,
        }
    ),
    "H": frozenset(
        {
            Capability.UPDATES,
            Capability.BASICS,
            Capability.TRAINING,
            Capability.SURROGATE,
            Capability.MANIPULATION,
            Capability.SELECTION,
        }
    ),
}
"""The threat models of the SoK, from the least to the most able."""
PUBLISHED: frozenset[Capability] = frozenset().union(*MODELS.values())
"""Capabilities that the letters speak of."""


def model_of(needs: Iterable[Capability]) -> str:
    """The letter of the least able attacker that has what of `needs` the letters speak of."""
    wanted = PUBLISHED.intersection(needs)
    return next(letter for letter, has in MODELS.items() if wanted <= has)
