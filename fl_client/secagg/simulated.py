"""The roster of a simulation, whose sites are one person's: identities follow from its seed, as its keys do."""

from __future__ import annotations

from crypto.keys import SimulatedKey
from fl_client.config import SimulatedSites, site_name
from medveil.secagg.encoding import derive
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey


def simulated_identity(seed: int, name: str) -> SigningKey:
    """What signs for a simulated site; whoever knows the seed has it."""
    return SigningKey.from_secret(derive(SimulatedKey(seed, name).subkey("state"), "identity"))


def simulated_roster(sites: SimulatedSites, *, colluding: int) -> Roster:
    """All sites of a simulation (ConfigError where they are too few for a sum)."""
    names = [site_name(index) for index in range(sites.sites)]
    return Roster({name: simulated_identity(sites.seed, name).public for name in names}, colluding)
