"""The one place where any fault of a site's reply becomes an error of that site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medveil.errors import FederationError, MedVeilError
from medveil.log import logger

_log = logger("server")


@contextmanager
def reading(site: str) -> Iterator[None]:
    """Read what a site sent: whatever goes wrong is that site's fault, and ends no run.

    Replies are read strictly, so an error that is not ours is a defect of the reading. It is logged with its traceback,
    and the site left out all the same: what one site sends must not stop the others.

    Raises
    ------
    FederationError
        In place of any error that is not ours.
    """
    try:
        yield
    except MedVeilError:
        raise
    except Exception as error:
        _log.exception("%s: an error MedVeil did not expect in a reply", site)
        raise FederationError(f"the reply cannot be read ({type(error).__name__})") from error
