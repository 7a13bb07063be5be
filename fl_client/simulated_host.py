"""The sites of a simulation, made from the run config: their server and they are one person's."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import torch
from flwr.app import Context, Message, RecordDict

from crypto.keys import Key, SimulatedKey
from fl_client.config import SimulatedSites, site_name
from fl_client.counting_site import open_site
from fl_client.data.config import DataConfig
from fl_client.data.shared import shared_source
from fl_client.host import Host, kind_of
from fl_client.leaving import EVERYTHING, Leaving
from fl_client.secagg.ledger import SUFFIX, Ledger
from fl_client.secagg.member import Member
from fl_client.secagg.pending import Pending, put, taken
from fl_client.secagg.simulated import simulated_identity, simulated_roster
from fl_client.site import Site, SiteInRun
from fl_client.site_setup import SiteSetup
from fl_client.workbench import pick_device
from medveil import plugins
from medveil.app_config import settings_text
from medveil.contract import RUN_KEY, SITES_KEY, RunConfig
from medveil.errors import ConfigError, MedVeilError
from medveil.paths import run_folder, run_uuid
from medveil.secagg.members import Join

_OPEN_SITES, _FEW_SITES = 1024, 64
"""Sites of a run that stay open, and those of earlier runs that may stay beside them."""


class SimulatedHost(Host):
    """Sites made from the run config: a simulation's, whose server and sites are one person's."""

    def site(self, context: Context) -> SiteInRun:
        """The site of the partition Flower gave this node."""
        if SITES_KEY not in context.run_config:
            raise ConfigError(
                "this client has no settings of its own", where="run config", cure=f"a simulation sends '{SITES_KEY}'"
            )
        return _open(
            settings_text(context.run_config, RUN_KEY),
            settings_text(context.run_config, SITES_KEY),
            int(context.node_config["partition-id"]),
            context.run_id,
        )

    def member(self, site: SiteInRun, context: Context) -> Member:
        """The site under an identity that its seed gives it, with a ledger in the run folder."""
        return _member(site, settings_text(context.run_config, SITES_KEY))

    def hold(self, site: SiteInRun, context: Context, pending: Pending) -> None:
        """Leave it to Flower: the next message may come to another process."""
        put(context.state, pending)

    def taken(self, site: SiteInRun, context: Context) -> Pending | None:
        """What Flower kept."""
        return taken(context.state)

    def over(self, site: SiteInRun, context: Context) -> None:
        """Nothing: a simulation can be given more rounds, and its keys protect nobody."""

    def tells_own(self, site: SiteInRun) -> bool:
        """Always: they are one person's."""
        return True

    def allow(self, site: SiteInRun, kind: str, round_: int) -> None:
        """Anything: a simulation asks its own sites."""

    def joining(self, site: SiteInRun, examples: int, context: Context) -> Join | None:
        """What a sum under masks needs; else nothing: the sites are one person's, and nobody counts the others."""
        return self.member(site, context).join(examples) if site.run.secagg.on else None

    def accompany(self, site: SiteInRun, message: Message) -> None:
        """Nothing."""

    def asked(self, message: Message, context: Context) -> None:
        """Nothing: who simulates keeps no record of what was asked."""

    def answering(self, message: Message, context: Context, site: SiteInRun, content: RecordDict) -> None:
        """Nothing."""

    def refusing(self, message: Message, context: Context, error: Exception) -> None:
        """Nothing."""

    def told(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        """All of it, where it comes from a simulation."""
        if SITES_KEY in context.run_config:
            return f"{type(error).__name__}: {error}", logging.DEBUG
        return kind_of(error), logging.ERROR


def simulated_site(run: RunConfig, sites: SimulatedSites, index: int) -> Site:
    """Open a site of a simulation outside Flower, with its store and its key: for what is measured after a run."""
    found = _open(run.to_json(), sites.to_json(), index, 0)
    assert isinstance(found, Site)  # Nothing is measured after a run that has no model.
    return found


def simulated_setup(run: RunConfig, sites: SimulatedSites, index: int) -> SiteSetup:
    """What a site of a simulation brings, without the model: for who needs its images alone."""
    return _simulated_setup(run, sites, index, 0)


_latest: list[tuple[str, str, int]] = []
"""The run whose site was asked for last."""


def _open(run_json: str, sites_json: str, index: int, flower_run_id: int) -> SiteInRun:
    run = (run_json, sites_json, flower_run_id)
    if _latest != [run] and _simulated_site.cache_info().currsize > _FEW_SITES:
        _simulated_site.cache_clear()
    _latest[:] = [run]
    return _simulated_site(run_json, sites_json, index, flower_run_id)


@functools.lru_cache(maxsize=_OPEN_SITES)
def _simulated_site(run_json: str, sites_json: str, index: int, flower_run_id: int) -> SiteInRun:
    run = RunConfig.from_json(run_json)
    run.run = run_uuid(run.run, flower_run_id)
    return open_site(run, _simulated_setup(run, SimulatedSites.from_json(sites_json), index, flower_run_id))


def _simulated_setup(run: RunConfig, settings: SimulatedSites, index: int, flower_run_id: int) -> SiteSetup:
    # Flower's simulation opens sites in processes of its own.
    plugins.simulating()
    if not 0 <= index < settings.sites:
        raise ConfigError(
            f"partition {index} of {settings.sites}", where="partition-id", cure="start as many as 'sites'"
        )
    if settings.threads > 0:
        torch.set_num_threads(settings.threads)
    name = site_name(index)
    folder = run_folder(settings.out, name=run.name, run=run.run)
    own = SimulatedKey(settings.seed, name)
    cipher_keys: dict[str, Key | None] = {
        "none": None,
        "shared": SimulatedKey(settings.seed, "shared"),
        "per-site": own,
    }
    if run.keys not in cipher_keys:
        raise ConfigError(f"'{run.keys}' is no key policy", where="keys", cure=f"one of {', '.join(cipher_keys)}")
    data = _data_in(folder, settings.data)
    return SiteSetup(
        name=name,
        index=index,
        sites=settings.sites,
        key=own,
        cipher_key=cipher_keys[run.keys],
        thief_key=SimulatedKey(settings.seed, f"thief of {name}"),
        data=data,
        source=shared_source(data, run=f"{run.run}/{flower_run_id}", folder=folder),
        folder=folder / "sites" / name,
        device=pick_device(settings.device),
        leaving=Leaving(EVERYTHING),
    )


def _data_in(folder: Path, data: DataConfig) -> DataConfig:
    if data.source != "phantoms":
        return data
    if data.path is None:
        data.path = str(folder / "phantoms")
    return data


def _member(site: SiteInRun, sites_json: str) -> Member:
    settings, secagg, run = SimulatedSites.from_json(sites_json), site.run.secagg, site.run.run
    roster = simulated_roster(settings, colluding=secagg.colluding)
    if roster.fingerprint != site.run.roster:
        raise ConfigError("is not that of these simulated sites", where="roster", cure="start the run anew")
    subkey = site.setup.key.subkey("state")
    return Member(
        name=site.setup.name,
        identity=simulated_identity(settings.seed, site.setup.name),
        roster=roster,
        run=run,
        ledger=Ledger(site.setup.folder / "sums" / f"{run}{SUFFIX}", run=run, subkey=subkey),
        clip=secagg.clip,
        bits=secagg.bits,
        least_sites=1,
        most_share=1.0,
    )
