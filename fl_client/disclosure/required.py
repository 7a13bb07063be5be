"""Whether a site may let something go: where its limits require a disclosure there must be one, of that and recent.

It fails closed: a file that cannot be read, that another key signed, that is too old or from the time to come, or in
which nothing was tried but what fails on its own control, is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fl_client.deployment.limits_config import REQUIRED, LimitsConfig
from fl_client.deployment.own_files import OwnFiles
from fl_client.disclosure.document import JSON, Disclosure, check_signed, read_disclosure
from medveil.errors import MedVeilError, PolicyError

FOLDER = "disclosures"
WHERE = "limits.disclosure"
_MOST = 1000
"""Disclosures that are looked at, newest first."""
_SKEW = timedelta(hours=1)


def is_required(limits: LimitsConfig) -> bool:
    """Whether nothing leaves without one."""
    return limits.disclosure == REQUIRED


def valid(
    files: OwnFiles, public: str, *, settings: str, model: str | None = None, now: datetime | None = None
) -> Disclosure | None:
    """The newest disclosure that counts; None where none does.

    Parameters
    ----------
    files
        The site.
    public
        The public half of its identity.
    settings
        Digest of the settings it must be about.
    model
        Digest of the model it must be about; None where no model leaves.
    now
        For tests.
    """
    moment, days = now or datetime.now(UTC), timedelta(days=files.config.limits.disclosure_days)
    for each in _held(files, public):
        recent = moment - days <= each.made <= moment + _SKEW
        about = each.settings == settings and (model is None or each.model == model)
        if about and recent and each.counts and each.site == files.config.name:
            return each
    return None


def require(files: OwnFiles, public: str, *, settings: str, run: str, model: str | None = None) -> Disclosure | None:
    """Refuse to let an update of a run, or its model, go without a disclosure where the limits require one.

    Parameters
    ----------
    files, public, settings, model
        As `valid`.
    run
        Identity of the run, for the error.

    Returns
    -------
    Disclosure or None
        The one that counts; None where none is required.

    Raises
    ------
    PolicyError
        It is required, and there is none; the text may be read by a server.
    """
    if not is_required(files.config.limits):
        return None
    found = valid(files, public, settings=settings, model=model)
    if found is None:
        what = "a run of these settings" if model is None else "this model"
        problem = f"this site discloses what {what} gives away before it lets it go, and has not"
        cure = f"a person at the site: medveil-site disclose --run {run} --out report.html"
        raise PolicyError(problem, where=WHERE, cure=cure)
    return found


def in_words(limits: LimitsConfig) -> str:
    """What the limit means, for a person at the site."""
    return (
        "no update of a run and no model leaves before 'medveil-site disclose' tried attacks on this site's own images "
        f"under that run's settings; it counts for {limits.disclosure_days:g} days, and for no other settings or model"
    )


def _held(files: OwnFiles, public: str) -> Iterator[Disclosure]:
    """What this site signed and kept, newest first; what is not whole is passed over."""
    found = sorted((files.state / FOLDER).glob(f"*{JSON}"), key=_age, reverse=True)
    for path in found[:_MOST]:
        try:
            each = read_disclosure(path)
            check_signed(each, public, where=path)
        except MedVeilError:
            continue
        yield each


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns
