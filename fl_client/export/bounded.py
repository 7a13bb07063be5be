"""What a model card says of who could read a site's updates, and of the noise they were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medveil.privacy import UNIT_WORDS


def read_by_server(run: Mapping[str, Any]) -> str:
    """What the server of a run read of this site's updates; of a run older than masks, all of them."""
    if (run.get("secagg") or {}).get("on"):
        return "The server opened sums of all sites' updates under masks, and read none of this site's own."
    return "The server read this site's own updates."


def bounded_by_noise(found: Mapping[str, Any]) -> str:
    """What noise in training bounds, and what it does not.

    Parameters
    ----------
    found
        Of `fl_client.export.facts.facts_of`, its ``privacy``.
    """
    unit, total = UNIT_WORDS[found["unit"]], found["all_runs"]
    more = "" if total["runs"] == 1 else f" All {total['runs']} runs with noise here: {_epsilon(total)}."
    more += f" {total['without']} more trained without noise, which no number covers." if total["without"] else ""
    return (
        f"What one {unit} of this site could change in it is bounded: {_epsilon(found)}, with or without that {unit} "
        f"(DP-SGD, norm {found['clip']:g} a {unit}, by Rényi accounting).{more} Other sites' images have the bounds "
        "those sites counted. Images for validation and test are not covered: the figures above were measured on them."
    )


NOT_BOUNDED = (
    "This is the site's own model beside the shared one (`train.personal=ditto`). It trained here without noise: the "
    "epsilon of its run bounds what the shared model and the updates show, and nothing that this one does."
)


def _epsilon(found: Mapping[str, Any]) -> str:
    return f"epsilon {found['epsilon']:.2f} at delta {found['delta']:g}"
