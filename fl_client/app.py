"""The Flower ClientApp of a hospital: ``fl_client.app:app``.

It translates between Flower's messages and `fl_client.work`, and lets no error text leave the site unread. Whose
site that is, a host says (`fl_client.host`): simulated ones are made from the run config, a real one never is.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from crypto.keys import Key, SimulatedKey
from fl_client import work
from fl_client.config import SimulatedSites
from fl_client.data.config import DataConfig
from fl_client.data.shared import shared_source
from fl_client.deployment.config import SITE_VARIABLE
from fl_client.host import RAISED, Host, kind_of, refusal
from fl_client.leaving import EVERYTHING, Leaving, known
from fl_client.site import Site
from fl_client.site_setup import SiteSetup
from fl_client.workbench import pick_device
from medveil.app_config import settings_text
from medveil.contract import (
    ARRAYS,
    BASIS,
    CONFIG,
    KEEP_ROUND,
    MEASURE,
    METRICS,
    PACKED,
    ROUND,
    RUN_KEY,
    SITE,
    SITES_KEY,
    RunConfig,
)
from medveil.errors import ConfigError, FederationError, MedVeilError
from medveil.log import logger
from medveil.paths import run_folder, run_uuid
from medveil.received import tensors_of
from medveil.secagg.members import MEMBER, Join
from medveil.wire import Tensors, delta, encode, pack

_OPEN_SITES = 64
_log = logger("client")


class SimulatedHost(Host):
    """Sites made from the run config: a simulation's, whose server and sites are one person's."""

    def site(self, context: Context) -> Site:
        """The site of the partition Flower gave this node."""
        if SITES_KEY not in context.run_config:
            raise ConfigError(
                "this client has no settings of its own", where="run config", cure=f"a simulation sends '{SITES_KEY}'"
            )
        return _simulated_site(
            settings_text(context.run_config, RUN_KEY),
            settings_text(context.run_config, SITES_KEY),
            int(context.node_config["partition-id"]),
            context.run_id,
        )

    def allow(self, site: Site, kind: str, round_: int) -> None:
        """Anything: a simulation asks its own sites."""

    def joining(self, site: Site, examples: int) -> Join | None:
        """Nothing: the sites of a simulation are one person's, and nobody counts the others."""
        return None

    def accompany(self, site: Site, message: Message) -> None:
        """Nothing."""

    def asked(self, message: Message, context: Context) -> None:
        """Nothing: who simulates keeps no record of what was asked."""

    def answering(self, message: Message, context: Context, site: Site, content: RecordDict) -> None:
        """Nothing."""

    def refusing(self, message: Message, context: Context, error: Exception) -> None:
        """Nothing."""

    def told(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        """All of it, where it comes from a simulation."""
        if SITES_KEY in context.run_config:
            return f"{type(error).__name__}: {error}", logging.DEBUG
        return kind_of(error), logging.ERROR


class ChosenHost(Host):
    """The real site that this process's environment names, or a simulation's."""

    def site(self, context: Context) -> Site:
        """A site of the host that serves here."""
        return self._host.site(context)

    def allow(self, site: Site, kind: str, round_: int) -> None:
        """As the host that serves here."""
        self._host.allow(site, kind, round_)

    def joining(self, site: Site, examples: int) -> Join | None:
        """As the host that serves here."""
        return self._host.joining(site, examples)

    def accompany(self, site: Site, message: Message) -> None:
        """As the host that serves here."""
        self._host.accompany(site, message)

    def asked(self, message: Message, context: Context) -> None:
        """As the host that serves here."""
        self._host.asked(message, context)

    def answering(self, message: Message, context: Context, site: Site, content: RecordDict) -> None:
        """As the host that serves here."""
        self._host.answering(message, context, site, content)

    def refusing(self, message: Message, context: Context, error: Exception) -> None:
        """As the host that serves here."""
        self._host.refusing(message, context, error)

    def refused(self, message: Message, told: str, code: int = RAISED) -> Message:
        """As the host that serves here."""
        try:
            return self._host.refused(message, told, code)
        except MedVeilError:
            # No site can be opened, and so no key that signs.
            return refusal(message, told, code)

    def told(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        """As the host that serves here."""
        return self._host.told(error, context) if SITE_VARIABLE not in os.environ else self._own_words(error, context)

    def _own_words(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        try:
            return self._host.told(error, context)
        except MedVeilError:
            # The site's own file cannot be read: that is the error, and none of the server's business.
            return kind_of(error), logging.ERROR

    @property
    def _host(self) -> Host:
        named = os.environ.get(SITE_VARIABLE)
        return SimulatedHost() if named is None else _own_host(named)


def make_app(host: Host) -> ClientApp:
    """Make the ClientApp that serves a host's sites."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        """Say what the site brings: its row of the preflight table. Builds the hidden store when there is none."""

        def reply(site: Site) -> RecordDict:
            row = work.describe(site)
            joining = host.joining(site, row["n-train"])
            member = {} if joining is None else {MEMBER: ConfigRecord(joining.as_record())}
            return RecordDict({SITE: ConfigRecord(row), **member})

        return _answer(host, message, context, reply)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Train one round; reply with the travelling tensors and the measures."""

        def reply(site: Site) -> RecordDict:
            incoming, round_ = _incoming(message, site), _round(message)
            host.accompany(site, message)
            host.allow(site, "train", round_)
            mu, keep_round = _number(message, "proximal-mu", 0.0), _keep_round(message)
            outgoing, metrics = work.train(site, round_, incoming, proximal_mu=mu, keep_round=keep_round)
            if site.run.kind == "delta":
                outgoing = delta(outgoing, incoming)
            encoded = encode(outgoing, site.run.wire)
            sent = {PACKED: pack(encoded)} if site.run.packed else encoded
            record = ArrayRecord({name: Array(array) for name, array in sent.items()})
            return RecordDict({ARRAYS: record, METRICS: MetricRecord({**known(metrics)}), SITE: _basis(site)})

        return _answer(host, message, context, reply)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Measure the model on the site's validation and test images, or on the former alone to choose a round."""

        def reply(site: Site) -> RecordDict:
            incoming, round_ = _incoming(message, site), _round(message)
            host.allow(site, "evaluate", round_)
            measure = work.validate if _only_validates(message) else work.evaluate
            metrics = measure(site, round_, incoming)
            return RecordDict({METRICS: MetricRecord({**known(metrics)}), SITE: _basis(site)})

        return _answer(host, message, context, reply)

    return app


app = make_app(ChosenHost())


def _basis(site: Site) -> ConfigRecord:
    """Whether what the site stands on changed, should it have lost what it wrote down of it itself."""
    return ConfigRecord({BASIS: site.images.basis.keyed(site.setup.key.subkey("state"))})


def _incoming(message: Message, site: Site) -> Tensors:
    sent = message.content.array_records.get(ARRAYS)
    if sent is None:
        raise FederationError(f"the message has no '{ARRAYS}'", cure="server and site need the same MedVeil")
    shapes = {name: tuple(site.bench.public[name].shape) for name in site.travelling}
    return tensors_of(sent, shapes, site.run.wire, packed=site.run.packed, where="tensors from the server")


def _round(message: Message) -> int:
    return _whole(message, ROUND)


def _keep_round(message: Message) -> int | None:
    return _whole(message, KEEP_ROUND) if KEEP_ROUND in _config(message) else None


def _only_validates(message: Message) -> bool:
    wanted = _config(message).get(MEASURE)
    if wanted not in (None, "validation"):
        raise FederationError(f"'{MEASURE}' is not 'validation'", cure="server and site need the same MedVeil")
    return wanted is not None


def _whole(message: Message, key: str) -> int:
    number = _number(message, key)
    if not number.is_integer():
        raise FederationError(f"'{key}' is {number}", cure="a whole number is wanted")
    return int(number)


def _number(message: Message, key: str, default: float | None = None) -> float:
    value = _config(message).get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise FederationError(f"the message has no number '{key}'", cure="server and site need the same MedVeil")
    return float(value)


def _config(message: Message) -> Mapping[str, Any]:
    found = message.content.config_records.get(CONFIG)
    return {} if found is None else dict(found)


def _answer(host: Host, message: Message, context: Context, reply: Callable[[Site], RecordDict]) -> Message:
    try:
        host.asked(message, context)
        site = host.site(context)
        content = reply(site)
        host.answering(message, context, site, content)
        return Message(content=content, reply_to=message)
    except MedVeilError as error:
        told, level = host.told(error, context)
        _log.log(level, "%s", error)
        _note_refusal(host, message, context, error)
        return host.refused(message, told)
    except Exception as error:
        _log.exception("an error MedVeil did not expect")
        _note_refusal(host, message, context, error)
        return host.refused(message, kind_of(error))


def _note_refusal(host: Host, message: Message, context: Context, error: Exception) -> None:
    try:
        host.refusing(message, context, error)
    except MedVeilError as unwritten:
        # Nothing of the site's is in a refusal: it may leave unrecorded, and the server waits for it.
        _log.error("the refusal is not in the audit log: %s", unwritten)


@functools.lru_cache(maxsize=1)
def _own_host(file: str) -> Host:
    """The real site of a file, its keys opened; for a process of Flower's own that serves one message."""
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment.config import load_site  # noqa: PLC0415
    from fl_client.deployment.own_site import OwnHost, open_keys  # noqa: PLC0415

    files = load_site(Path(file))
    return OwnHost(files, open_keys(files, read_passphrase))


def simulated_site(run: RunConfig, sites: SimulatedSites, index: int) -> Site:
    """Open a site of a simulation outside Flower, with its store and its key: for what is measured after a run."""
    return _simulated_site(run.to_json(), sites.to_json(), index, 0)


def simulated_setup(run: RunConfig, sites: SimulatedSites, index: int) -> SiteSetup:
    """What a site of a simulation brings, without the model: for who needs its images alone."""
    return _simulated_setup(run, sites, index, 0)


def site_name(index: int) -> str:
    """What the simulated site of a partition is called."""
    return f"site-{index + 1}"


@functools.lru_cache(maxsize=_OPEN_SITES)
def _simulated_site(run_json: str, sites_json: str, index: int, flower_run_id: int) -> Site:
    run = RunConfig.from_json(run_json)
    run.run = run_uuid(run.run, flower_run_id)
    return Site(run, _simulated_setup(run, SimulatedSites.from_json(sites_json), index, flower_run_id))


def _simulated_setup(run: RunConfig, settings: SimulatedSites, index: int, flower_run_id: int) -> SiteSetup:
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
