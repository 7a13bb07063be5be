"""What a message asks of a site: tensors, and settings of the message by name, each looked at before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message

from fl_client.site import Site
from medveil.contract import ARRAYS, CONFIG, KEEP_ROUND, MEASURE, ROUND
from medveil.errors import FederationError
from medveil.received import tensors_of
from medveil.wire import Tensors


def incoming_in(message: Message, site: Site) -> Tensors:
    """The travelling tensors that came, fp32 (FederationError where they are others)."""
    sent = message.content.get(ARRAYS)
    if not isinstance(sent, ArrayRecord):
        raise FederationError(f"the message has no '{ARRAYS}'", cure="server and site need the same MedVeil")
    shapes = {name: tuple(site.bench.public[name].shape) for name in site.travelling}
    return tensors_of(sent, shapes, site.run.wire, packed=site.run.packed, where="tensors from the server")


def round_in(message: Message) -> int:
    """The round it is about."""
    return _whole(message, ROUND)


def keep_round_in(message: Message) -> int | None:
    """The round whose model may be the one that is left; None where the server knows of none."""
    return _whole(message, KEEP_ROUND) if KEEP_ROUND in _config(message) else None


def proximal_in(message: Message, site: Site) -> float:
    """The weight of FedProx's pull: none, or what the contract says, which is a person's to approve.

    Of another, as large as one over the rate, an update is the gradient of a round's last batch, be that one image.

    Raises
    ------
    FederationError
        It is another.
    """
    mu = number_in(message, "proximal-mu", 0.0)
    if mu not in (0.0, site.run.proximal_mu):
        problem = "'proximal-mu' is not what server and sites agreed on"
        raise FederationError(problem, where="proximal_mu", cure="a run of other settings has an identity of its own")
    return mu


def only_validates(message: Message) -> bool:
    """Whether an evaluation wants validation images alone."""
    wanted = _config(message).get(MEASURE)
    if wanted not in (None, "validation"):
        raise FederationError(f"'{MEASURE}' is not 'validation'", cure="server and site need the same MedVeil")
    return wanted is not None


def _whole(message: Message, key: str) -> int:
    number = number_in(message, key)
    if not number.is_integer():
        raise FederationError(f"'{key}' is {number}", cure="a whole number is wanted")
    return int(number)


def number_in(message: Message, key: str, default: float | None = None) -> float:
    """A finite number of its settings."""
    value = _config(message).get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise FederationError(f"the message has no number '{key}'", cure="server and site need the same MedVeil")
    return float(value)


def _config(message: Message) -> Mapping[str, Any]:
    found = message.content.get(CONFIG)
    return dict(found) if isinstance(found, ConfigRecord) else {}
