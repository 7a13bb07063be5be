"""Joining a consortium: enrolling, checking, approving the app and the roster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_client.commands.common import PROG, Commands, Passphrases, confirm, site_of
from medveil.cli import add_json, subcommand
from medveil.completing import completing, settings_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_block, tell_json, tell_result
from medveil.times import moment

if TYPE_CHECKING:
    from fl_client.deployment.approvals import Approval
    from fl_client.deployment.enroll import Enrolled
    from fl_client.deployment.points import Point
    from medveil.invitation import Invitation


def add_enroll(commands: Commands) -> None:
    """Add `enroll`."""
    made = subcommand(
        commands,
        "enroll",
        text="Make this site's own keys, its identity and its configuration. Only the .pub file leaves.",
        example=f"{PROG} enroll --name st-anna --invitation consortium.invitation --out enrol data.source=dicom "
        "data.path=/dicom/labelled",
    )
    settings = made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings for the configuration")
    completing(settings, settings_of(_schema))
    made.add_argument("--name", required=True, help="name of the site")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for it, new or without such files")
    made.add_argument("--invitation", type=Path, metavar="FILE", help="what the coordinator handed out")
    made.add_argument("--fingerprint", metavar="HEX", help="refuse another server than the coordinator read out")
    made.add_argument("--key", type=Path, metavar="FILE", help="a key file the site has already; otherwise one is made")
    made.add_argument("--passphrase-file", type=Path, metavar="FILE", help="file with the key file's passphrase")
    add_json(made)
    made.set_defaults(command=_do_enroll)


def _schema() -> type:
    from fl_client.deployment.config import SiteConfig  # noqa: PLC0415

    return SiteConfig


def _do_enroll(arguments: argparse.Namespace) -> int:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment.enroll import enroll  # noqa: PLC0415
    from medveil.invitation import load_invitation  # noqa: PLC0415
    from medveil.node_keys import check_name  # noqa: PLC0415

    check_name(arguments.name)
    invitation = None if arguments.invitation is None else load_invitation(arguments.invitation)
    _compare(arguments, invitation)
    passphrase = read_passphrase(arguments.passphrase_file, confirm=arguments.key is None)
    overrides = list(arguments.overrides)
    if arguments.passphrase_file is not None:
        overrides.append(f"passphrase_file={arguments.passphrase_file.resolve()}")
    made = enroll(
        arguments.name,
        arguments.out,
        invitation=invitation,
        key=arguments.key,
        passphrase=passphrase,
        overrides=overrides,
    )
    line = f"{made.folder} holds this site's keys and site.yaml; keep it"
    return _told_next(arguments, made, invitation, {"folder": str(made.folder)}, line)


def add_rejoin(commands: Commands) -> argparse.ArgumentParser:
    """Add `rejoin`."""
    made = subcommand(
        commands,
        "rejoin",
        text="Take a new invitation of this site's consortium; keys, settings and state stay.",
        example=f"{PROG} rejoin --invitation consortium.invitation",
    )
    made.add_argument("--invitation", type=Path, required=True, metavar="FILE", help="what the coordinator handed out")
    made.add_argument("--fingerprint", metavar="HEX", help="refuse another server than the coordinator read out")
    add_json(made)
    made.set_defaults(command=_do_rejoin)
    return made


def _do_rejoin(arguments: argparse.Namespace) -> int:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment.enroll import rejoin  # noqa: PLC0415
    from medveil.invitation import load_invitation  # noqa: PLC0415

    files, invitation = site_of(arguments), load_invitation(arguments.invitation)
    _compare(arguments, invitation)
    made = rejoin(files, invitation, Passphrases(read_passphrase))
    line = f"{files.file} trusts the new invitation; what it was before is in {files.file.name}.old"
    return _told_next(arguments, made, invitation, {"file": str(files.file)}, line)


def _compare(arguments: argparse.Namespace, invitation: Invitation | None) -> None:
    """Refuse an invitation that is not what was read out."""
    from medveil.fingerprints import plain_fingerprint  # noqa: PLC0415

    wanted = plain_fingerprint(arguments.fingerprint or "")
    if wanted and (invitation is None or invitation.fingerprint != wanted):
        found = "no invitation was given" if invitation is None else f"its fingerprint is {invitation.fingerprint}"
        cure = "this is not what the coordinator read out: do not use it"
        raise ConfigError(found, where=arguments.invitation, cure=cure)


def _told_next(
    arguments: argparse.Namespace, made: Enrolled, invitation: Invitation | None, found: dict[str, Any], line: str
) -> int:
    """Say what was made, and what comes next: what is sent, read out and compared."""
    lines = [
        line,
        f"send the coordinator {made.public}, and nothing else of it",
        f"and read out over another channel: {made.key.fingerprint}",
    ]
    if invitation is not None and not arguments.fingerprint:
        lines += [f"compare the server with what the coordinator reads out: {invitation.fingerprint}"]
    lines += [f"before 'start', approve the app by the hash the coordinator reads out: {PROG} approve HASH"]
    found |= {
        "public": str(made.public),
        "fingerprint": made.key.fingerprint,
        "server_fingerprint": None if invitation is None else invitation.fingerprint,
        "compared": bool(arguments.fingerprint),
    }
    tell_result(found, *lines, as_json=arguments.json)
    return EXIT_OK


def add_check(commands: Commands) -> argparse.ArgumentParser:
    """Add `check`."""
    made = subcommand(
        commands, "check", text="See whether this site is ready, point by point.", example=f"{PROG} check"
    )
    words = "look instead at what guards it: accounts, file modes, swap, core dumps, unit, limits; 6 where any is weak"
    made.add_argument("--hardening", action="store_true", help=words)
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(command=_do_check)
    return made


def _do_check(arguments: argparse.Namespace) -> int:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment.check import check  # noqa: PLC0415

    if arguments.hardening:
        from fl_client.deployment.hardening import WEAK, hardening  # noqa: PLC0415

        points = hardening(site_of(arguments))
        _tell(points, as_json=arguments.json)
        return EXIT_PARTIAL if any(point.state == WEAK for point in points) else EXIT_OK
    points = check(site_of(arguments), Passphrases(read_passphrase))
    _tell(points, as_json=arguments.json)
    return next((point.exit_code for point in points if point.exit_code), EXIT_OK)


def _tell(points: list[Point], *, as_json: bool) -> None:
    if as_json:
        tell_json([vars(point) for point in points])
    else:
        tell_block(_table(points))


def _table(points: list[Point]) -> str:
    from medveil.tables import plain_table  # noqa: PLC0415

    rows = [{"point": point.what, "state": point.state, "found": point.found} for point in points]
    lines = plain_table(rows).splitlines()
    cures = [f"{point.what}: {point.cure}" for point in points if point.cure]
    return "\n".join([*lines, *(["", "what to do:", *(f"  {cure}" for cure in cures)] if cures else [])])


def add_approve(commands: Commands) -> argparse.ArgumentParser:
    """Add `approve`."""
    made = subcommand(
        commands,
        "approve",
        text="Let this site work for an app, by the hash the coordinator read out; without HASH, list them. Or approve "
        "a run that was asked of it: what it does and what leaves is told first, and what changed since the last.",
        example=f"{PROG} approve 0123...cdef",
    )
    chosen = made.add_mutually_exclusive_group()
    chosen.add_argument("hash", nargs="?", metavar="HASH", help="64 hex digits")
    chosen.add_argument(
        "--run",
        nargs="?",
        const="",
        metavar="RUN",
        help="approve the settings of a run that was asked of this site, by its first characters (default: the "
        "newest), for limits.approve_runs",
    )
    made.add_argument("--yes", action="store_true", help="with --run, do not ask after telling")
    words = "print the result as JSON; with --run and without --yes, what the run does, and approve nothing"
    made.add_argument("--json", action="store_true", help=words)
    made.add_argument("--withdraw", action="store_true", help="take the approval back; it counts at once")
    made.set_defaults(command=_do_approve)
    return made


def _do_approve(arguments: argparse.Namespace) -> int:
    if arguments.run is not None:
        return _do_approve_run(arguments)
    if arguments.yes:
        raise ConfigError("--yes without --run", where=f"{PROG} approve", cure="an app is approved by its hash")
    from fl_client.deployment.approvals import Approvals  # noqa: PLC0415
    from fl_client.deployment.check_terms import policy_warnings  # noqa: PLC0415
    from fl_client.disclosure.required import in_words, is_required  # noqa: PLC0415
    from medveil.installed import installed_hash  # noqa: PLC0415

    files = site_of(arguments)
    approvals, own = Approvals(files.approvals, files.audit), installed_hash()
    if arguments.hash is None:
        if arguments.withdraw:
            raise ConfigError("needs HASH", where=f"{PROG} approve --withdraw")
        return _listed(approvals.all(), own, most=files.config.limits.most_runs, as_json=arguments.json)
    digest = arguments.hash.lower()
    if arguments.withdraw:
        approvals.withdraw(digest)
        found = {"hash": digest, "approved": False, "installed": own}
        tell_result(found, f"withdrawn: {digest}", as_json=arguments.json)
        return EXIT_OK
    approvals.approve(digest)
    most = files.config.limits.most_runs
    lines = [f"approved: {digest}, for {most} runs"]
    for warning in policy_warnings(files):
        tell(f"warning: this site's limits allow policy {warning}", error=True)
    if is_required(files.config.limits):
        lines += [f"limits.disclosure is required: {in_words(files.config.limits)}"]
    if digest == own:
        lines += ["it is the MedVeil installed here"]
    else:
        lines += [
            f"it is not the MedVeil installed here ({own}), which is all this site ever runs;",
            "other code, or the same packed by another zlib: the site's log names the files that differ;",
            f"'start' wants the installed one approved as well: {PROG} approve {own}",
        ]
    tell_result({"hash": digest, "approved": True, "most_runs": most, "installed": own}, *lines, as_json=arguments.json)
    return EXIT_OK


def _listed(approved: dict[str, Approval], own: str, *, most: int, as_json: bool) -> int:
    """Tell which apps are approved."""
    rows = [{"hash": digest, "at": each.at, "runs": len(each.runs)} for digest, each in approved.items()]
    lines = [
        f"{digest}  {moment(each.at)}  {len(each.runs)} of {most} runs"
        f"{'  the MedVeil installed here' if digest == own else ''}"
        for digest, each in approved.items()
    ]
    found = {"approvals": rows, "most_runs": most, "installed": own}
    tell_result(found, *lines, f"the MedVeil installed here is {own}", as_json=as_json)
    return EXIT_OK


def _do_approve_run(arguments: argparse.Namespace) -> int:
    from fl_client.deployment.approved_runs import ApprovedRuns, approval_digest  # noqa: PLC0415
    from fl_client.deployment.own_weights import weights_in_words  # noqa: PLC0415
    from fl_client.deployment.run_words import changes, in_words  # noqa: PLC0415
    from fl_client.disclosure.subject import asked_run  # noqa: PLC0415

    files = site_of(arguments)
    run, approved = asked_run(files, arguments.run or None), ApprovedRuns(files, files.audit)
    if arguments.withdraw:
        digest = approved.withdraw(run)
        found = {"run": run.run, "name": run.name, "settings": digest, "approved": False}
        tell_result(found, f"withdrawn: {digest}", as_json=arguments.json)
        return EXIT_OK
    last, words = approved.last(), in_words(run, weights_in_words(run, files.config.limits))
    changed = None if last is None else changes(last.run, run)
    known = approval_digest(run) in {each.digest for each in approved.all()}
    if arguments.json:
        if arguments.yes:
            approved.approve(run)
        found = {"run": run.run, "name": run.name, "words": words, "changed": changed}
        tell_json({**found, "approved": known or arguments.yes})
        return EXIT_OK
    tell(f"run {run.name} ({run.run[:8]}), as the server asked it of {files.config.name}:")
    for about, said in words.items():
        tell(f"  {about}: {said}")
    _tell_changes(changed, "" if last is None else moment(last.at))
    if not arguments.yes:
        confirm("approve these settings?", where=f"{PROG} approve --run", does="approve", done="approved")
    tell(f"approved: {approved.approve(run)}; it counts for every run of these settings")
    if not files.config.limits.approve_runs:
        tell("limits.approve_runs is false: this site takes part in other runs within its limits too")
    return EXIT_OK


def _tell_changes(changed: list[str] | None, at: str) -> None:
    if changed is None:
        tell("it is the first run whose settings are approved here")
        return
    tell(f"since the settings approved {at}: {'nothing changed' if not changed else ''}".rstrip())
    for each in changed:
        tell(f"  {each}")


def add_approve_roster(commands: Commands) -> argparse.ArgumentParser:
    """Add `approve-roster`."""
    made = subcommand(
        commands,
        "approve-roster",
        text="Approve who takes part, by the digest of the roster that was read out; without HEX, show who may.",
        example=f"{PROG} approve-roster 0123...cdef --roster roster.json",
    )
    made.add_argument("digest", nargs="?", metavar="HEX", help="64 hex digits")
    made.add_argument("--roster", type=Path, metavar="FILE", help="what the coordinator handed out")
    made.add_argument("--withdraw", action="store_true", help="take the approval back; it counts at once")
    add_json(made)
    made.set_defaults(command=_do_approve_roster)
    return made


def _do_approve_roster(arguments: argparse.Namespace) -> int:
    from fl_client.deployment.roster import NO_ROSTER, ApprovedRoster, own_identity  # noqa: PLC0415
    from medveil.secagg.roster import load_roster  # noqa: PLC0415

    files, where = site_of(arguments), f"{PROG} approve-roster"
    approved = ApprovedRoster(files.roster, files.audit)
    if arguments.withdraw:
        gone = approved.withdraw().fingerprint
        tell_result({"approved": False, "fingerprint": gone}, f"withdrawn: {gone}", as_json=arguments.json)
        return EXIT_OK
    if arguments.digest is not None:
        if arguments.roster is None:
            raise ConfigError("needs the roster itself", where=where, cure="--roster FILE, from the coordinator")
        found = load_roster(arguments.roster)
        approved.approve(found, arguments.digest, site=files.config.name, identity=own_identity(files))
    elif arguments.roster is not None:
        raise ConfigError("needs HEX, as it was read out over another channel", where=where)
    roster = approved.roster()
    if roster is None:
        none = f"no roster is approved: {NO_ROSTER}"
        tell_result({"approved": False, "fingerprint": None}, none, as_json=arguments.json)
        return EXIT_OK
    said = f"approved: {roster.fingerprint}, {len(roster.members)} sites"
    tell_result({"approved": True, **roster.facts()}, said, *roster.lines(), as_json=arguments.json)
    return EXIT_OK
