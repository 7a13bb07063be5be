"""Joining decoders of ours to pydicom's, which asks its plugins in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.pixels.decoders.base import get_decoder

PLUGIN = "medveil"


def join(module: str, syntaxes: Iterable[str]) -> None:
    """Have pydicom decode transfer syntaxes by a module's ``decode_frame``; a second call does nothing.

    Parameters
    ----------
    module
        Its name; as pydicom asks it of a plugin, it has `is_available` and `DECODER_DEPENDENCIES` as well.
    syntaxes
        UIDs.
    """
    for syntax in syntaxes:
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (module, "decode_frame"))
