"""One form for all images of a source: grey, or colour. All of them decide, not the first."""

from __future__ import annotations

from typing import NamedTuple


class Form(NamedTuple):
    """How many channels the images of a source get, and what a person should know of it.

    Parameters
    ----------
    channels
        1 or 3.
    said
        What was done to a mixture, for the data card: no number in it. Empty where all were alike.
    warning
        The same with its numbers, for the site's own log.
    """

    channels: int
    said: str = ""
    warning: str = ""


def settle(*, grey: int, colour: int) -> Form:
    """Settle the channels of a source of so many grey and so many colour images.

    A mixture becomes colour: grey repeated three times loses nothing, colour made grey would.
    """
    if not colour:
        return Form(1)
    if not grey:
        return Form(3)
    said = "grey and colour images are mixed: grey ones are repeated in three channels"
    cure = "data.channels=1 makes all grey"
    return Form(3, said, f"{grey} images are grey and {colour} in colour: grey ones are repeated in 3 channels; {cure}")
