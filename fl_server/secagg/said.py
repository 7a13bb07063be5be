"""Whether updates were masked, and how many were scaled to the clip: for a summary, a status, a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def said_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """From the manifest of a run, of an older MedVeil too.

    Returns
    -------
    dict
        ``on``; with it ``bits``, ``clip``, and of the ``updates`` in sums so far how many were ``clipped``.
    """
    secagg = manifest.get("run_config", {}).get("secagg") or {}
    if not secagg.get("on"):
        return {"on": False}
    rounds = manifest.get("sums", [])
    return {
        "on": True,
        "bits": secagg["bits"],
        "clip": secagg["clip"],
        "clipped": sum(each["clipped"] for each in rounds),
        "updates": sum(len(each["sites"]) for each in rounds),
    }


def in_words(said: Mapping[str, Any]) -> str:
    """The same in words, of updates."""
    if not said.get("on"):
        return "not masked: the server read each site's"
    clipped = f"{said['clipped']} of {said['updates']} scaled to the norm {said['clip']:g}"
    return f"masked in {said['bits']} bits, {clipped}"
