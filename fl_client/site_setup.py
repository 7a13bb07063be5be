"""What a site brings to a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from crypto.keys import Key
from fl_client.data.base import Source
from fl_client.data.config import DataConfig
from fl_client.data.documents import Documents
from fl_client.leaving import Leaving
from fl_client.privacy.budget import EpsilonLimit


@dataclass(frozen=True, kw_only=True)
class SiteSetup:
    """What a site brings to a run; none of it comes from the server.

    Parameters
    ----------
    name
        The site's name.
    index, sites
        Which share of a partitioned data set is this site's (0 of 1 for a real hospital).
    key
        Seals private state, and draws a secret stem where no cipher key does.
    cipher_key
        Hides images; None under the key policy ``none``.
    thief_key
        Another key, for measuring what a wrong key gives.
    data
        The site's images.
    source
        They, open already, where several sites share them; None opens them.
    folder
        Where the site keeps its store and private state.
    device
        Where it trains.
    keep_model
        Whether to keep, sealed, the whole model a run ends with: a hospital uses it, a simulation does not.
    verify
        Compare an existing store with its checksums before it is used, which reads all of it.
    served
        Whether the run is known to have trained here.
    judge
        Told the number of images before any is hidden; raises where a store of them is too much.
    former
        Keys it had before: what was sealed under them beside stores is still read.
    leaving
        What is told of the images; of classes with few, nothing unless told otherwise.
    clip
        Largest L2 norm of an update that leaves, whatever the run says; None: any.
    epsilon_limit
        What all runs with noise together may cost the images; without one, any.
    """

    name: str
    index: int
    sites: int
    key: Key
    cipher_key: Key | None
    thief_key: Key
    data: DataConfig
    folder: Path
    device: torch.device
    keep_model: bool = False
    verify: bool = False
    served: bool = False
    judge: Callable[[int], None] | None = None
    source: Source | None = None
    former: tuple[Key, ...] = ()
    leaving: Leaving = field(default_factory=Leaving)
    clip: float | None = None
    epsilon_limit: EpsilonLimit = field(default_factory=EpsilonLimit)

    @property
    def documents(self) -> Documents:
        """What the site keeps beside its store."""
        return Documents.of(self.folder, self.key, self.former)
