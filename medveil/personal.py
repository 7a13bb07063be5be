"""What of a model each site has for itself, beside a stem that stays at home: the settings, and what cannot be.

``norms`` keeps the affine parameters of norms at home, as FedBN keeps batch norms (Li et al., "FedBN: Federated
Learning on Non-IID Features via Local Batch Normalization", ICLR 2021, arXiv 2102.07623); those of a ViT are layer
norms, which hold no statistics of a batch. ``ditto`` trains a second model at each site, drawn to the shared one (Li et
al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021, arXiv 2012.04221); what travels is
what would travel without it.
"""

from __future__ import annotations

from medveil.errors import ConfigError
from medveil.pretraining import MASKED

NONE, NORMS, DITTO = PERSONAL = ("none", "norms", "ditto")
_NO_NORMS = ("head", "lora-core")

_WORDS = {
    NORMS: "its norms, which train at home and never travel",
    DITTO: "a whole model beside the shared one, drawn to it (Ditto)",
}


def check_personal(personal: str, *, scope: str, minutes: float, mu: float, where: str) -> None:
    """Refuse what a site cannot have for itself under what else `medveil.training.TrainConfig` says (ConfigError)."""
    if personal == NORMS and scope in _NO_NORMS:
        cure = "full, last-2-blocks, bias or bias-norm; or personal=ditto"
        raise ConfigError("'personal' is norms, and 'scope' trains none", where=where, cure=cure)
    if personal == DITTO and minutes > 0:
        problem = "'personal' is ditto, which trains a second model, and 'minutes' are shared out for one"
        raise ConfigError(problem, where=where, cure="train.epochs")
    if personal == DITTO and mu == 0:
        problem = "'personal' is ditto, and 'personal_mu' 0 draws its model to nothing: it would be the site's alone"
        raise ConfigError(problem, where=where, cure="above 0; or federation=local-only")


def check_shared(personal: str, *, where: str) -> None:
    """Refuse anything personal of a run that pre-trains (ConfigError)."""
    if personal != NONE:
        problem = f"'personal' is {personal}, and {MASKED} is there to leave one trunk for all"
        raise ConfigError(problem, where=where, cure=NONE)


def in_words(personal: str) -> str | None:
    """What each site has for itself, as a clause; None for nothing."""
    return _WORDS.get(personal)
