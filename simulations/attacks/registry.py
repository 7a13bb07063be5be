"""Every attack by its name. A new one is one file and one line here."""

from __future__ import annotations

import difflib

from medveil import plugins
from medveil.errors import ConfigError
from simulations.attacks.chained.chain import Chain
from simulations.attacks.ciphertext.aux_statistics import AuxStatistics
from simulations.attacks.ciphertext.brute_force import BruteForce
from simulations.attacks.ciphertext.chosen_plaintext import ChosenPlaintext
from simulations.attacks.ciphertext.covariance import Covariance
from simulations.attacks.ciphertext.gan import Gan
from simulations.attacks.ciphertext.histogram_linkage import HistogramLinkage
from simulations.attacks.ciphertext.insider import Insider
from simulations.attacks.ciphertext.inverse_network import InverseNetwork
from simulations.attacks.ciphertext.jigsaw import Jigsaw
from simulations.attacks.ciphertext.known_plaintext import KnownPlaintext
from simulations.attacks.ciphertext.leading_bit import LeadingBit
from simulations.attacks.ciphertext.min_difference import MinDifference
from simulations.attacks.ciphertext.utility_leak import UtilityLeak
from simulations.attacks.ciphertext.view_linkage import ViewLinkage
from simulations.attacks.diagnostics.bounded_leak import BoundedLeak
from simulations.attacks.diagnostics.perturbation import Perturbation
from simulations.attacks.diagnostics.statistics import Statistics
from simulations.attacks.study.attack import Attack
from simulations.attacks.theft.stolen_model import StolenModel
from simulations.attacks.updates.april import April
from simulations.attacks.updates.fishing import Fishing, FishingImages
from simulations.attacks.updates.gradient_matching import GradientMatching
from simulations.attacks.updates.head_features import HeadFeatures
from simulations.attacks.updates.key_from_weights import KeyFromWeights
from simulations.attacks.updates.label_counts import LabelCounts
from simulations.attacks.updates.loki import Loki
from simulations.attacks.updates.membership import Membership, MembershipWithKey
from simulations.attacks.updates.peft_leak import PeftLeak
from simulations.attacks.updates.planted_layer import PlantedLayer
from simulations.attacks.updates.planted_within import PlantedWithin
from simulations.attacks.updates.prior_matching import PriorMatching
from simulations.attacks.updates.site_inference import SiteInference
from simulations.attacks.updates.span import Span, SpanInversion
from simulations.attacks.updates.stem_closed_form import StemClosedForm

_OWN: dict[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        LeadingBit,
        MinDifference,
        KnownPlaintext,
        ChosenPlaintext,
        HistogramLinkage,
        Covariance,
        Jigsaw,
        AuxStatistics,
        BruteForce,
        UtilityLeak,
        ViewLinkage,
        Insider,
        InverseNetwork,
        Gan,
        Statistics,
        Perturbation,
        BoundedLeak,
        StemClosedForm,
        April,
        Span,
        SpanInversion,
        GradientMatching,
        PriorMatching,
        HeadFeatures,
        Chain,
        LabelCounts,
        Membership,
        MembershipWithKey,
        SiteInference,
        KeyFromWeights,
        StolenModel,
        PlantedLayer,
        PlantedWithin,
        Loki,
        PeftLeak,
        Fishing,
        FishingImages,
    )
}
"""In the order they are listed and run."""

ATTACKS: plugins.Registry[type[Attack]] = plugins.Registry(plugins.ATTACKS, _OWN, Attack, named="name")
"""The same, and where they are asked for those of other packages (`medveil.plugins`)."""

ALL = "all"


def chosen(names: str) -> list[Attack]:
    """The attacks of a list of names, separated by commas, with their default settings; ``all`` stands for most.

    Raises
    ------
    ConfigError
        No attack has such a name.
    """
    made: dict[str, Attack] = {}
    for name in names.split(","):
        made |= {each.name: each for each in _named(name.strip())}
    return list(made.values())


def _named(name: str) -> list[Attack]:
    if name == ALL:
        return [attack() for attack in ATTACKS.values() if attack.in_all]
    if not ATTACKS.offers(name):
        near = difflib.get_close_matches(name, [*ATTACKS.names(), ALL], n=2, cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        cure = f"{guess}known: {', '.join([*ATTACKS.names(), ALL])}"
        raise ConfigError(f"'{name}' is no attack", where="attack", cure=cure)
    return [ATTACKS[name]()]
