"""What a site lets a run do, point by point: policies, weights, approvals, roster, masks, privacy, disclosure."""

from __future__ import annotations

from collections.abc import Callable

from fl_client.deployment import running
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_weights import looked_at
from fl_client.deployment.points import FAILED, OK, WARNING, Point
from fl_client.deployment.promises import check_private
from fl_client.deployment.roster import NO_ROSTER, ApprovedRoster, own_identity
from fl_client.deployment.served_runs import trained_here
from fl_client.disclosure.required import in_words, is_required
from medveil.errors import ConfigError
from medveil.installed import installed_hash
from models.policy import POLICIES

_APPROVE = "of three sites or more: medveil-site approve-roster HEX --roster FILE, as the coordinator reads it out"


def terms(files: OwnFiles) -> list[tuple[str, Callable[[], Point]]]:
    """What is looked at, by name, in the order it is told."""
    return [
        ("policies", lambda: _policies(files)),
        ("weights", lambda: _weights(files)),
        ("approvals", lambda: _approvals(files)),
        ("roster", lambda: _roster(files)),
        ("masks", lambda: _masks(files)),
        ("privacy", lambda: _privacy(files)),
        ("disclosure", lambda: _disclosure(files)),
    ]


def _policies(files: OwnFiles) -> Point:
    allowed = files.config.limits.policies
    said = policy_warnings(files)
    if said:
        return Point("policies", WARNING, "; ".join(said), "'limits.send_stem' false, unless you mean to")
    return Point("policies", OK, f"allowed: {'; '.join(allowed)}")


def policy_warnings(files: OwnFiles) -> list[str]:
    """What this site must know of the policies its own limits allow a server to choose."""
    limits = files.config.limits
    allowed = [each for each in POLICIES if {each.keys, str(each)} & set(limits.policies)]
    travels = [each for each in allowed if limits.send_stem or not each.stem_travels]
    return [f"{each}: {each.warning}" for each in travels if each.warning is not None]


def _weights(files: OwnFiles) -> Point:
    """Which pre-trained weights runs may begin from, and which files here they may not."""
    right, found, cure = looked_at(files.weights, files.config.limits)
    return Point("weights", OK if right else WARNING, found, cure)


def _approvals(files: OwnFiles) -> Point:
    approved, own = Approvals(files.approvals).all(), installed_hash()
    if own not in approved:
        cure = f"'start' refuses it; once the coordinator reads out the same hash: medveil-site approve {own}"
        found = f"{len(approved)} approved, none of them the MedVeil installed here ({own[:12]})"
        return Point("approvals", FAILED, found, cure, ConfigError.exit_code)
    used, most = len(approved[own].runs), files.config.limits.most_runs
    found = f"the MedVeil installed here is approved ({own[:12]}), and {used} of {most} runs used it"
    if used >= most:
        cure = f"a new run is refused; to grant as many anew: medveil-site approve {own}"
        return Point("approvals", WARNING, found, cure)
    return Point("approvals", OK, found)


def _roster(files: OwnFiles) -> Point:
    roster, least = ApprovedRoster(files.roster).roster(), files.config.limits.least_sites
    if roster is None:
        return Point("roster", OK, f"none is approved: {NO_ROSTER}", _APPROVE)
    name = files.config.name
    if roster.members.get(name) != own_identity(files):
        cure = "the coordinator makes a new roster, and every site approves it: medveil-site approve-roster HEX"
        return Point("roster", FAILED, f"{name} is not on it under its identity", cure, ConfigError.exit_code)
    found = f"{len(roster.members)} sites are approved ({roster.fingerprint[:12]}), {least} of them must sign for a run"
    return Point("roster", OK, found)


def _masks(files: OwnFiles) -> Point:
    """What a server reads of this site's updates, as far as roster and limits decide it."""
    limits, read = files.config.limits, "of one without it the server reads this site's own updates"
    if ApprovedRoster(files.roster).roster() is None:
        if limits.secagg:
            found = "'limits.secagg' refuses a run without secagg.on, and without a roster one with it is refused too"
            return Point("masks", FAILED, found, _APPROVE, ConfigError.exit_code)
        return Point("masks", OK, f"without a roster a run with secagg.on is refused; {read}")
    found = "in a run with secagg.on updates leave masked; "
    found += "one without it is refused ('limits.secagg')" if limits.secagg else read
    if limits.own_measures:
        found += "; its measures leave one by one ('limits.own_measures')"
    return Point("masks", OK, found)


def _disclosure(files: OwnFiles) -> Point:
    """Whether anything leaves without being disclosed."""
    limits = files.config.limits
    if not is_required(limits):
        return Point("disclosure", OK, "updates and models leave without one ('limits.disclosure' is optional)")
    return Point("disclosure", OK, f"required: {in_words(limits)}")


def _privacy(files: OwnFiles) -> Point:
    """What runs may cost this site's images, and have."""
    limits, spent = files.config.limits, running.spent_of(files)
    so_far = "no run had a number yet" if spent is None else running.said_of_privacy(spent)
    if limits.epsilon is None:
        return Point("privacy", OK, f"a run costs what it says, or has no number ('limits.epsilon' is null); {so_far}")
    check_private(limits)
    found = f"all runs together may cost epsilon {limits.epsilon:g} at delta {limits.delta:g}; {so_far}"
    if not files.ledger.exists() and (trained := trained_here(files)):
        found += f"; {trained} run{'' if trained == 1 else 's'} trained here, and the ledger is gone"
        cure = f"put the newest {files.ledger.name} back: without it what they cost is forgotten"
        return Point("privacy", WARNING, found, cure)
    if spent is not None and spent["epsilon"] >= limits.epsilon:
        return Point("privacy", WARNING, found, "no round fits into 'limits.epsilon' any more: other images, or more")
    return Point("privacy", OK, found)
