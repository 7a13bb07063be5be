"""What a site holds between its offer and its mask: an update that left nowhere yet, and the secrets of its masks.

A real site's worker holds it in memory alone: after a restart there is nothing to mask, and the site is one that was
lost. A simulation is served by several processes, and leaves it where Flower keeps what a node knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fl_client.secagg.member import Secrets
from medveil.secagg import records
from medveil.secagg.fixed import Update
from medveil.secagg.members import members_in, members_record
from medveil.secagg.shamir import from_bytes, to_bytes

_ALL, _TASK, _JOINS, _OFFER, _UPDATE = (f"pending-{name}" for name in ("all", "task", "joins", "offer", "update"))


@dataclass(frozen=True)
class Pending:
    """One attempt's.

    Parameters
    ----------
    secrets
        Of its masks.
    update
        (d,) fp32, finite, within the clip; empty where measures alone are summed.
    sums
        Measures that are summed with it.
    """

    secrets: Secrets
    update: Update
    sums: tuple[float, ...]


def put(state: RecordDict, pending: Pending) -> None:
    """Leave it in what Flower keeps of a simulated node."""
    secrets = pending.secrets
    offer: Mapping[str, Any] = records.offers_record([secrets.offer])
    own = {"run": secrets.task.run, "own": to_bytes(secrets.own), "element": to_bytes(secrets.element)}
    kept: Mapping[str, Any] = {**own, "sums": list(pending.sums)}
    state[_ALL] = ConfigRecord({**kept})
    state[_TASK] = ConfigRecord(records.task_record(secrets.task))
    state[_JOINS] = ConfigRecord(members_record(secrets.task.joins))
    state[_OFFER] = ConfigRecord(dict(offer))
    state[_UPDATE] = ArrayRecord({_UPDATE: Array(pending.update)})


def taken(state: RecordDict) -> Pending | None:
    """Take it out again, once; None where there is none."""
    if _ALL not in state.config_records:
        return None
    found = {name: dict(state.config_records.pop(name)) for name in (_ALL, _TASK, _JOINS, _OFFER)}
    update = state.array_records.pop(_UPDATE)[_UPDATE].numpy()
    own: Mapping[str, Any] = found[_ALL]
    task = records.task_in(found[_TASK], run=str(own["run"]), joins=members_in(found[_JOINS]))
    (offer,) = records.offers_in(found[_OFFER])
    secrets = Secrets(task, from_bytes(own["own"]), from_bytes(own["element"]), offer)
    return Pending(secrets, update.astype(np.float32, copy=False), tuple(own["sums"]))
