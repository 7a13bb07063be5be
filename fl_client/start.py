"""Whether a model that comes can be what training made.

The one a run begins with is known at every site before it comes, to the last bit: server and sites build it from the
same settings. Weights of the server's own making, that print single images into an update, wait until round 2 at least.
Of a later model a site cannot say which updates it was made of. A mean of updates is no longer than the longest of
them, though, so that one far beyond this site's own is worth a line in the log. It is no reason to refuse: a hospital
with few images makes few steps where another makes thousands. A server can stay below it and go there in steps, and a
site that began anew, or was not asked before, has nothing to compare with.

Under masks there is such a length. Every site scales its update down to `secagg.clip`, so that a mean moves the model
no further in a round, and what strategies make of it some tens of times that. All sites know the model the run began
with, so that a site needs no memory to refuse one that no rounds of such sums can have reached.
"""

from __future__ import annotations

import math

import numpy as np

from fl_client.last import Last, one_copy
from fl_client.site import Site
from medveil.errors import FederationError
from medveil.log import logger
from medveil.secagg.fixed import norm_of
from medveil.wire import Tensors, decode, delta, encode, pack

_FAR = 100.0
"""How many times this site's own update a model moves a round without a word."""
_BEYOND, _EACH = 100.0, 0.1
"""How many times the clip of a sum a model may be, a round, from the one the run began with: momentum at a server makes
some tens of it. Adam there moves every number by its rate, whatever the clip: by so much, where that is more.
"""
_CLIP = 10.0
"""The clip is a server's to choose: above this, and above a tenth a number of the model, it takes a site no further."""
_log = logger("site")


def check_start(site: Site, trained: int, incoming: Tensors, *, measures: bool = False) -> None:
    """Refuse another model than the run's before anything was trained, and under masks one too far from it.

    A run that only measures has no other, and nothing else is done with it: a server that could name a later round
    could send weights of its own making.

    Parameters
    ----------
    site
        The site.
    trained
        Rounds of training that the model is said to have behind it.
    incoming
        The travelling tensors that came, as this site decoded them.
    measures
        Whether it is to be measured for good, and neither trained nor compared with other rounds.

    Raises
    ------
    FederationError
        It is such a model.
    """
    if site.evaluated is not None and (trained != 0 or not measures):
        problem = "this run measures the one model it began with, once, and trains nothing"
        raise FederationError(problem, where="task", cure="server and site need the same MedVeil")
    summed = site.run.secagg
    if trained > 0 and not summed.on:
        return
    public = {name: site.bench.public[name].float().cpu().numpy() for name in incoming}
    if trained > 0:
        most = reach(summed.clip, sum(each.size for each in incoming.values()), trained)
        _check_reached(_norm(delta(incoming, public)), most, trained)
        return
    expected = decode(encode(public, site.run.wire), site.run.wire)
    other = [name for name in sorted(incoming) if not np.array_equal(incoming[name], expected[name])]
    if other:
        problem = f"what came before any training is not the model of the run's settings: '{other[0]}' differs"
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        raise FederationError(f"{problem}{more}", cure="the server sends the model that it and all sites built")


def reach(clip: float, numbers: int, trained: int) -> float:
    """How far from the run's first a model of so many numbers may be after some rounds of sums clipped to `clip`."""
    least = _EACH * math.sqrt(numbers)
    return max(_BEYOND * min(clip, max(_CLIP, least)), least) * trained


def _check_reached(moved: float, most: float, trained: int) -> None:
    if not moved <= most:
        rounds = "1 round" if trained == 1 else f"{trained} rounds"
        problem = f"the model is further from the run's first than {rounds} of clipped sums can have moved it"
        told = f"{moved:.3g}, and at most {most:.3g} is taken"
        raise FederationError(f"{problem}: {told}", cure="the server sends what it made of the sums that were opened")


def tell_step(site: Site, round_: int, incoming: Tensors) -> None:
    """Log that a model is far beyond where updates like this site's own would have moved it."""
    last = site.last
    if last is None or not last.norm:
        return
    moved, rounds = _norm(delta(incoming, last.incoming)), max(1, abs(round_ - last.round))
    if not moved <= _FAR * rounds * last.norm:
        told = "much larger sites, or weights that no training made"
        times = f"{moved / last.norm:.3g} times as far as this site's own update"
        _log.warning("%s: round %d: the model moved %s: %s", site.setup.name, round_, times, told)


def note_step(site: Site, round_: int, incoming: Tensors, outgoing: Tensors) -> None:
    """Remember what came and how far training went, while this process lasts."""
    site.last = Last(round_, one_copy(incoming), _norm(delta(outgoing, incoming)))


def _norm(change: Tensors) -> float:
    return norm_of(pack(encode(change, "fp32")).astype(np.float32, copy=False))
