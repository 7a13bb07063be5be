"""What a site's own file lets other packages add to it (`medveil.plugins`), for whoever answers for the site."""

from __future__ import annotations

from typing import NamedTuple

from fl_client.deployment.config import SiteConfig
from medveil import plugins


class Added(NamedTuple):
    """What is added in words, and what to do about it."""

    found: str
    cure: str


def added(config: SiteConfig) -> Added:
    """Whose code runs here with the site's images and key, beside MedVeil's."""
    taken = [each for each in plugins.installed() if plugins.takes(each.package)]
    if not taken:
        return Added(
            f"{', '.join(config.plugins)}: nothing of it is installed", "install it, or take it out of 'plugins'"
        )
    said = "; ".join(f"{each.group} '{each.name}' of {each.package} {each.version}" for each in taken)
    cure = "take out of 'plugins' whose code you do not trust with images and key"
    return Added(f"runs the code of others: {said}", cure)
