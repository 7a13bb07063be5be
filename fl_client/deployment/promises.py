"""A site judges what a run promises its images (`medveil.privacy`), and what that has come to in all runs."""

from __future__ import annotations

import math
from collections.abc import Callable

from fl_client.deployment.limits_config import LimitsConfig
from fl_client.leaving import EVERYTHING
from fl_client.privacy.accountant import check_installed
from medveil.contract import RunConfig
from medveil.errors import PolicyError


def check_promise(run: RunConfig, limits: LimitsConfig) -> None:
    """Refuse a promise that is less than this site asks for, or that its own settings would void.

    Raises
    ------
    PolicyError, ConfigError
        With a text the server may read.
    """
    privacy = run.private
    if privacy is None:
        if limits.epsilon is not None:
            problem = f"this site agrees to epsilon {limits.epsilon:g} in all, and the run has no 'privacy'"
            raise PolicyError(problem, where="limits.epsilon", cure="privacy.unit example or patient")
        if limits.noise is not None and run.trains:
            problem = f"this site trains with noise of {limits.noise:g} at least, and the run has no 'privacy'"
            raise PolicyError(problem, where="limits.noise", cure="privacy.unit example or patient")
        return
    check_private(limits)
    for name, asked, most in (
        ("epsilon", privacy.epsilon, limits.epsilon or math.inf),
        ("delta", privacy.delta, limits.delta),
    ):
        if asked > most:
            problem = f"this site agrees to {name} {most:g} in all, and the run asks for more"
            raise PolicyError(problem, where=f"limits.{name}")


def check_private(limits: LimitsConfig) -> None:
    """Refuse what this site could promise nothing with (ConfigError, PolicyError; a server may read the text)."""
    check_installed(where="privacy, at this site")
    if limits.smallest_count <= EVERYTHING:
        problem = "this site tells measures exactly, and no noise covers them"
        cure = "'limits.smallest_count' 2 or more at the site"
        raise PolicyError(f"{problem}: 'privacy' would promise what does not hold", where="privacy", cure=cure)


def check_epsilon(spent: Callable[[float], float], limits: LimitsConfig) -> None:
    """Refuse a round after which all runs together cost the site's images more than it allows (PolicyError).

    Parameters
    ----------
    spent
        What they cost then, as a function of delta.
    """
    if limits.epsilon is not None and spent(limits.delta) > limits.epsilon:
        problem = f"one more round would cost this site's images more than epsilon {limits.epsilon:g} in all runs"
        raise PolicyError(problem, where="limits.epsilon")
