"""The model a run begins with: known at every site before it comes, to the last bit.

Server and sites build it from the same settings, and the server refuses sites that built another. What the server sends
in round 1 has to be that one: weights of its own making, that print single images into an update, wait until round 2 at
least. Of a later model a site cannot say which updates it was made of.
"""

from __future__ import annotations

import numpy as np

from fl_client.site import Site
from medveil.errors import FederationError
from medveil.wire import Tensors, decode, encode


def check_start(site: Site, trained: int, incoming: Tensors) -> None:
    """Refuse another model than the run's before anything was trained (FederationError).

    Parameters
    ----------
    site
        The site.
    trained
        Rounds of training that the model is said to have behind it.
    incoming
        The travelling tensors that came, as this site decoded them.
    """
    if trained > 0:
        return
    public = {name: site.bench.public[name].float().cpu().numpy() for name in incoming}
    expected = decode(encode(public, site.run.wire), site.run.wire)
    other = [name for name in sorted(incoming) if not np.array_equal(incoming[name], expected[name])]
    if other:
        problem = f"what came before any training is not the model of the run's settings: '{other[0]}' differs"
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        raise FederationError(f"{problem}{more}", cure="the server sends the model that it and all sites built")
