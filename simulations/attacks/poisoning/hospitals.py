"""The sites of a simulation with bad ones among them.

The ClientApp asks a host for its sites and hands it what is about to leave (`fl_client.host`): here the host is the
attacker. Nothing of this can be asked for in a run's contract, an experiment or a site's file: it takes a program that
makes the ClientApp of a simulation itself, and `fl_client` cannot import it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from unittest.mock import patch

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict

from fl_client.asked import incoming_in, round_in
from fl_client.data.rows import HeldRows
from fl_client.data.stored import StoredPart
from fl_client.secagg import member as members
from fl_client.secagg.member import Member
from fl_client.secagg.pending import Pending
from fl_client.simulated_host import SimulatedHost
from fl_client.site import Site, SiteInRun, with_model
from medveil.contract import ARRAYS, PACKED
from medveil.received import tensors_of
from medveil.secagg.fixed import Update
from medveil.secagg.rounds import Masked, Offer, Task
from medveil.wire import Tensors, add_delta, delta, encode, pack, unpack
from simulations.attacks.poisoning.attacks import Floats, Known, Poisoning, Trains
from simulations.attacks.poisoning.images import poisoned

_LONGER = 4
"""How many times the epochs of the others a bad site trains to set its trigger."""


class Hospitals(SimulatedHost):
    """Simulated sites of which some poison the run.

    None of them tests its model in the run: that is done afterwards, on the images the good ones test on.

    Parameters
    ----------
    attack
        What the bad ones do; None where they do as the others.
    names
        Names of all sites.
    bad
        How many are bad: the last by name, whom the server hears last.
    reach
        As in `Known`.
    keeps_clip
        Whether bad sites scale what they add to a sum under masks down to the clip, as the software of a good one does.
    """

    def __init__(
        self,
        attack: Poisoning | None,
        names: Sequence[str],
        *,
        bad: int,
        reach: float | None = None,
        keeps_clip: bool = True,
    ) -> None:
        self.attack, self.reach, self.keeps_clip = attack, reach, keeps_clip
        self.bad = frozenset(sorted(names)[len(names) - bad :])
        self.sites = len(names)
        self._made: dict[str, Site] = {}
        self._sent: dict[int, dict[str, Floats]] = {}

    def site(self, context: Context) -> Site:
        """The site; of a bad one, with the images it trains on."""
        site = with_model(super().site(context))
        name = site.setup.name
        if name not in self._made:
            trains = self.attack.trains if self.attack is not None and name in self.bad else Trains.HONESTLY
            self._made[name] = _as_it_trains(site, trains)
        return self._made[name]

    def answering(self, message: Message, context: Context, site: SiteInRun, content: RecordDict) -> None:
        """Take down an update that leaves in the open, and put a bad site's own in its place."""
        super().answering(message, context, site, content)
        if message.metadata.message_type != "train" or ARRAYS not in content.array_records or self._sends is None:
            return
        incoming, run = incoming_in(message, with_model(site)), site.run
        shapes = {name: array.shape for name, array in incoming.items()}
        tensors = tensors_of(content.array_records[ARRAYS], shapes, run.wire, packed=run.packed)
        change = tensors if run.kind == "delta" else delta(tensors, incoming)
        own = pack(encode(change, "fp32")).astype(np.float64)
        others = self._sent.setdefault(round_in(message), {})
        if site.setup.name not in self.bad:
            others[site.setup.name] = own
            return
        crafted = self._crafted(own, list(others.values()))
        made: Tensors = {name: each.astype(np.float32) for name, each in unpack(crafted, shapes).items()}
        encoded = encode(made if run.kind == "delta" else add_delta(incoming, made), run.wire)
        sent = {PACKED: pack(encoded)} if run.packed else encoded
        content[ARRAYS] = ArrayRecord({name: Array(array) for name, array in sent.items()})

    def hold(self, site: SiteInRun, context: Context, pending: Pending) -> None:
        """Take down what bad sites trained, which is all they know of honest updates under masks."""
        if site.setup.name in self.bad and len(pending.update):
            trained = self._sent.setdefault(pending.secrets.task.number, {})
            trained[site.setup.name] = pending.update.astype(np.float64)
        super().hold(site, context, pending)

    def taken(self, site: SiteInRun, context: Context) -> Pending | None:
        """What waits for its masks; of a bad site, what it made of it since."""
        found = super().taken(site, context)
        if found is None or site.setup.name not in self.bad or not len(found.update) or self._sends is None:
            return found
        fellows = self._sent[found.secrets.task.number]
        crafted = self._crafted(fellows[site.setup.name], list(fellows.values()))
        return dataclasses.replace(found, update=crafted.astype(np.float32))

    def member(self, site: SiteInRun, context: Context) -> Member:
        """The site's side of secure aggregation; of a bad one that keeps to no clip, its own."""
        found = super().member(site, context)
        if site.setup.name in self.bad and not self.keeps_clip:
            found.__class__ = _Unclipped
        return found

    def _crafted(self, own: Floats, honest: list[Floats]) -> Floats:
        assert self._sends is not None
        rows = np.stack(honest) if honest else own[None]
        return self._sends(Known(own, rows, bad=len(self.bad), sites=self.sites, reach=self.reach))

    @property
    def _sends(self) -> Callable[[Known], Floats] | None:
        return None if self.attack is None else self.attack.sends


class _Unclipped(Member):
    """A member whose hospital took the clip out of the software. Each number still has to fit the sum's."""

    def mask(
        self,
        task: Task,
        offers: Sequence[Offer],
        sealed: Mapping[str, bytes],
        update: Update,
        sums: Sequence[float] = (),
    ) -> Masked:
        """As the member it is, without the clip."""
        with patch.object(members, "clipped", lambda vector, clip: (vector, False)):
            return super().mask(task, offers, sealed, update, sums)


def _as_it_trains(site: Site, trains: Trains) -> Site:
    """The same site, with no test images in the run, and other training images where it is bad."""
    made, parts = copy.copy(site), dict(site.store.parts)
    parts["test"] = _empty(site)
    if trains is not Trains.HONESTLY:
        parts["train"] = poisoned(site, trains)
    if trains is Trains.TRIGGERED:
        # What stays at home, as a stem may, opens no door elsewhere; and nobody counts a site's epochs.
        travelling = set(site.travelling)
        made.trainable = [name for name in site.trainable if name in travelling]
        made.train_config = dataclasses.replace(site.train_config, epochs=_LONGER * site.train_config.epochs)
    made.images = dataclasses.replace(site.images, store=dataclasses.replace(site.store, parts=parts))
    return made


def _empty(site: Site) -> StoredPart:
    part = site.store.part("test")
    assert isinstance(part, StoredPart)
    shape = (0, *part.images.shape[1:])
    images = HeldRows(np.empty(shape, part.images.dtype))
    return dataclasses.replace(
        part, labels=part.labels[:0], ids=(), indices=part.indices[:0], images=images, nonces=None
    )
