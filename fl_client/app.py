"""The Flower ClientApp of a hospital: ``fl_client.app:app``.

It translates between Flower's messages and `fl_client.site.Site`, and lets no error text leave the site unread.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from crypto.keys import Key, SimulatedKey
from fl_client.config import SimulatedSites
from fl_client.data.config import DataConfig
from fl_client.site import Site, SiteSetup
from fl_client.workbench import pick_device
from medveil.contract import ARRAYS, CONFIG, METRICS, ROUND, RUN_KEY, SITE, SITES_KEY, RunConfig
from medveil.errors import ConfigError, FederationError, MedVeilError
from medveil.flower import ErrorCode
from medveil.log import logger
from medveil.paths import run_folder, run_uuid
from medveil.wire import Tensors, decode, delta, encode

app = ClientApp()
_OPEN_SITES = 64
_SEE_LOG = "see the log of the site"
_log = logger("client")


@app.query()
def query(message: Message, context: Context) -> Message:
    """Say what the site brings: its row of the preflight table. Builds the encrypted store when there is none."""
    return _answer(message, context, lambda site: RecordDict({SITE: ConfigRecord(site.describe())}))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round; reply with the travelling tensors and the measures."""

    def work(site: Site) -> RecordDict:
        incoming = _incoming(message, site.run)
        outgoing, metrics = site.train(
            int(_number(message, ROUND)), incoming, proximal_mu=_number(message, "proximal-mu", 0.0)
        )
        if site.run.kind == "delta":
            outgoing = delta(outgoing, incoming)
        sent = {name: Array(array) for name, array in encode(outgoing, site.run.wire).items()}
        return RecordDict({ARRAYS: ArrayRecord(sent), METRICS: MetricRecord(dict(metrics))})

    return _answer(message, context, work)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the model on the site's validation and test images."""

    def work(site: Site) -> RecordDict:
        metrics = site.evaluate(int(_number(message, ROUND)), _incoming(message, site.run))
        return RecordDict({METRICS: MetricRecord(dict(metrics))})

    return _answer(message, context, work)


def _incoming(message: Message, run: RunConfig) -> Tensors:
    sent = message.content.array_records.get(ARRAYS)
    if sent is None:
        raise FederationError(f"the message has no '{ARRAYS}'", cure="server and site need the same MedVeil")
    arrays = {name: array.numpy() for name, array in sent.items()}
    return decode(arrays, run.wire, where="tensors from the server")


def _number(message: Message, key: str, default: float | None = None) -> float:
    config = message.content.config_records.get(CONFIG)
    value = default if config is None else config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise FederationError(f"the message has no number '{key}'", cure="server and site need the same MedVeil")
    return float(value)


def _answer(message: Message, context: Context, work: Callable[[Site], RecordDict]) -> Message:
    try:
        site = _site(context)
        return Message(content=work(site), reply_to=message)
    except MedVeilError as error:
        # A simulated site and its server are one person's; a real site says only what kind of error it met.
        simulated = SITES_KEY in context.run_config
        _log.log(logging.DEBUG if simulated else logging.ERROR, "%s", error)
        return _refusal(message, error, str(error) if simulated else _SEE_LOG)
    except Exception as error:
        _log.exception("an error MedVeil did not expect")
        return _refusal(message, error, _SEE_LOG)


def _refusal(message: Message, error: Exception, told: str) -> Message:
    """An error reply with a text of ours: of a raised exception Flower sends the text, Ray the whole traceback."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error).__name__}: {told}"), reply_to=message)


def _site(context: Context) -> Site:
    if SITES_KEY not in context.run_config:
        raise ConfigError(
            "this client has no settings of its own", where="run config", cure=f"a simulation sends '{SITES_KEY}'"
        )
    return _simulated_site(
        str(context.run_config[RUN_KEY]),
        str(context.run_config[SITES_KEY]),
        int(context.node_config["partition-id"]),
        context.run_id,
    )


def simulated_site(run: RunConfig, sites: SimulatedSites, index: int) -> Site:
    """Open a site of a simulation outside Flower, with its store and its key: for what is measured after a run."""
    return _simulated_site(run.to_json(), sites.to_json(), index, 0)


def site_name(index: int) -> str:
    """What the simulated site of a partition is called."""
    return f"site-{index + 1}"


@functools.lru_cache(maxsize=_OPEN_SITES)
def _simulated_site(run_json: str, sites_json: str, index: int, flower_run_id: int) -> Site:
    run = RunConfig.from_json(run_json)
    settings = SimulatedSites.from_json(sites_json)
    run.run = run_uuid(run.run, flower_run_id)
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
    setup = SiteSetup(
        name=name,
        index=index,
        sites=settings.sites,
        key=own,
        cipher_key=cipher_keys[run.keys],
        thief_key=SimulatedKey(settings.seed, f"thief of {name}"),
        data=_data_in(folder, settings.data),
        folder=folder / "sites" / name,
        device=pick_device(settings.device),
    )
    return Site(run, setup)


def _data_in(folder: Path, data: DataConfig) -> DataConfig:
    if data.source != "phantoms":
        return data
    if data.path is None:
        data.path = str(folder / "phantoms")
    return data
