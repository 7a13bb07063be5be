"""Whose share of the mean the server's cap holds: said, and written down, whenever that changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from fl_server.manifest import Manifest
from fl_server.weights import Held, Weights
from medveil.log import logger

_log = logger("server")


class SaysHeld:
    """Says it of one run.

    Parameters
    ----------
    manifest
        The run's.
    most_share
        The cap.
    summed
        Whether updates come as a sum under masks, in which it holds nobody's share.
    """

    def __init__(self, manifest: Manifest, *, most_share: float, summed: bool) -> None:
        self._manifest, self._most_share, self._summed = manifest, most_share, summed
        self._said: list[Held] = []

    def say(self, weights: Weights, sites: Iterable[str], left_out: Iterable[str] = ()) -> None:
        """Say it of those who are averaged: of `sites` all but `left_out`."""
        held = [] if self._summed else weights.held(sorted({*sites} - {*left_out}))
        if [each.site for each in held] == [each.site for each in self._said]:
            return
        self._said = held
        for each in held:
            _log.warning("%s: server.most_share is %g", each, self._most_share)
        self._manifest.update(held=[asdict(each) for each in held])
