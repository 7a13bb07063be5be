"""Whether the MedVeil that is installed at a site is one that its people approved: nothing else is started."""

from __future__ import annotations

from fl_client.deployment.approvals import Approvals
from fl_client.deployment.own_files import OwnFiles
from medveil.errors import ConfigError, IntegrityError
from medveil.installed import installed_hash, load_all

LOADED = ("medveil", "crypto", "models", "fl_client")
"""What a site runs; never the server's part of the app."""


def approved_code(files: OwnFiles) -> str:
    """The hash of the installed MedVeil, which this site approved.

    Raises
    ------
    ConfigError
        It did not.
    IntegrityError
        The code would run as something else than its files say, or the list of approvals is not whole.
    """
    own = installed_hash()
    if own not in Approvals(files.approvals).all():
        raise ConfigError(
            f"the MedVeil installed here ({own}) is not approved at this site",
            where=files.config.name,
            cure=f"once the coordinator reads out the same hash, or you know what changed: medveil-site approve {own}",
        )
    return own


def load_approved(files: OwnFiles) -> str:
    """Load all code a site runs, and see that it was approved and did not change meanwhile; its hash.

    Raises
    ------
    ConfigError, IntegrityError
        As for `approved_code`, or the code changed while it was loaded.
    """
    own = approved_code(files)
    load_all(LOADED)
    if installed_hash() != own:
        raise IntegrityError("the installed MedVeil changed while it was loaded", where=files.config.name)
    return own
