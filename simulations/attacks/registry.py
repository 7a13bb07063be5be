"""Every attack by its name. A new one is one file and one line here."""

from __future__ import annotations

import difflib

from medveil.errors import ConfigError
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
from simulations.attacks.diagnostics.perturbation import Perturbation
from simulations.attacks.diagnostics.statistics import Statistics
from simulations.attacks.study.attack import Attack
from simulations.attacks.updates.planted_layer import PlantedLayer
from simulations.attacks.updates.stem_closed_form import StemClosedForm

ATTACKS: dict[str, type[Attack]] = {
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
        StemClosedForm,
        PlantedLayer,
    )
}
"""In the order they are listed and run."""

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
    if name not in ATTACKS:
        near = difflib.get_close_matches(name, [*ATTACKS, ALL], n=2, cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        cure = f"{guess}known: {', '.join([*ATTACKS, ALL])}"
        raise ConfigError(f"'{name}' is no attack", where="medveil-sim attack", cure=cure)
    return [ATTACKS[name]()]
