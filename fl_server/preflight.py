"""Before round 1: who is there, and whether they agree on what they must agree on."""

from __future__ import annotations

import functools
import operator
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fl_server.collect import Collector, Reply, said
from fl_server.config import ServerSettings
from fl_server.rows import SiteRow, read_row
from fl_server.secagg.joined import check_joined
from medveil import errors
from medveil.contract import CONFIG, RunConfig
from medveil.errors import FederationError, MedVeilError
from medveil.log import logger
from medveil.secagg.roster import Roster
from medveil.versions import medveil_version

_log = logger("server")


def preflight(
    collector: Collector,
    *,
    run: RunConfig,
    settings: ServerSettings,
    model_hash: str,
    say: Callable[[str], None] = lambda text: None,
) -> list[SiteRow]:
    """Wait for the sites, ask each what it brings, and refuse what does not fit together.

    Parameters
    ----------
    collector
        Sends the queries; it knows the sites by name afterwards.
    run
        What the sites must agree with.
    settings
        How many sites are expected, and how long to wait for them.
    model_hash
        Hash of the server's own initial model.
    say
        Hears what is being waited for.

    Returns
    -------
    list of SiteRow
        The sites that take part, sorted by name.

    Raises
    ------
    FederationError
        Too few sites came or can take part, or a site disagrees: site and field are named, with what is wanted.
    MedVeilError
        Of the kind every failing site reports, where they all report the same and too few are left.
    """
    nodes = _wait(collector, settings, say)
    first = "" if run.counted is not None else "; a first run builds their stores"
    say(f"asking {', '.join(collector.name(node) for node in nodes)} what they bring{first}")
    messages = [
        Message(
            RecordDict({CONFIG: ConfigRecord()}), message_type=MessageType.QUERY, dst_node_id=node, group_id="preflight"
        )
        for node in nodes
    ]
    replies = collector.collect(messages, seconds=settings.server.prepare_deadline)
    roster = settings.summing
    rows, failed = _read(replies, collector.registered(), run=run, model_hash=model_hash, roster=roster)
    if len(rows) < settings.fewest:
        raise _cannot_start(failed, rows, settings)
    for reply in failed:
        _log.warning("%s takes no part: %s", reply.site, said(reply.problem))
    check_agreement(rows, keys=run.keys, use="to train on" if run.trains else "to measure")
    collector.know({row.node: row.site for row in rows})
    return rows


def check_agreement(rows: Sequence[SiteRow], *, keys: str, use: str = "to train on") -> None:
    """Refuse sites that disagree with one another, or share what must differ; `use` is what images are there for.

    Raises
    ------
    FederationError
        Names the site and the field, what is wanted and what was found.
    """
    twice = [site for site, times in Counter(row.site for row in rows).items() if times > 1]
    if twice:
        raise FederationError(
            "'site' is the name of more than one site", where=twice[0], cure="wanted a name of its own"
        )
    for name in ("block", "negate", "scheme"):
        _refuse_differing(rows, name)
    _check_fingerprints(rows, keys)
    for row in rows:
        if row.version != medveil_version():
            _log.warning("%s runs MedVeil %s, this server %s", row.site, row.version, medveil_version())
        if row.missing:
            missing = ", ".join(row.missing)
            _log.warning("%s has no image %s, or fewer than it tells of, of: %s", row.site, use, missing)


def check_same_keys(rows: Sequence[SiteRow], before: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a site that comes back to a resumed run with another key: its stem belongs to the first.

    Parameters
    ----------
    rows
        The sites as they are now.
    before
        The rows the manifest kept.

    Raises
    ------
    FederationError
        Names the site, the key it came with and the one it began with.
    """
    began = {row["site"]: row["fingerprint"] for row in before}
    for row in rows:
        wanted = began.get(row.site, row.fingerprint)
        if row.fingerprint != wanted:
            found = f"'fingerprint' is {row.fingerprint!r}"
            raise FederationError(found, where=row.site, cure=f"wanted {wanted!r}, with which it began this run")


def _wait(collector: Collector, settings: ServerSettings, say: Callable[[str], None]) -> list[int]:
    seconds = settings.server.wait_for_sites
    end, nodes = time.monotonic() + seconds, collector.online()
    while len(nodes) < settings.expected and (left := end - time.monotonic()) > 0:
        here = ", ".join(collector.name(node) for node in nodes) or "none"
        say(f"waiting up to {seconds:g} s for {settings.expected} sites; here: {here}")
        nodes = collector.wait_until(functools.partial(operator.ne, len(nodes)), seconds=left)
    if len(nodes) < settings.fewest:
        came = f" ({', '.join(collector.name(node) for node in nodes)})" if nodes else ""
        raise FederationError(
            f"{len(nodes)} of {settings.expected} sites came within {seconds:g} s{came}",
            cure=f"at least {settings.fewest} are needed: start the others, then {settings.going_on}",
        )
    if len(nodes) < settings.expected:
        _log.warning("%d of %d sites came; going on without the others", len(nodes), settings.expected)
    return nodes


def _read(
    replies: Sequence[Reply],
    registered: Mapping[int, str],
    *,
    run: RunConfig,
    model_hash: str,
    roster: Roster | None,
) -> tuple[list[SiteRow], list[Reply]]:
    """The rows of those who can take part, sorted by name, and the others, each with its reason."""
    rows, failed = [], [reply for reply in replies if reply.message is None]
    for reply in replies:
        if reply.message is None:
            continue
        name = registered.get(reply.node)
        try:
            row = read_row(reply, run=run, model_hash=model_hash, registered=name)
            if roster is not None:
                check_joined(row, roster, run=run.run)
            rows.append(row)
        except FederationError as error:
            problem = error.problem if error.cure is None else f"{error.problem}; {error.cure}"
            failed.append(Reply(reply.node, error.where or reply.site, problem=problem))
    return sorted(rows, key=lambda row: row.site), sorted(failed, key=lambda each: (each.site, each.node))


def _cannot_start(failed: Sequence[Reply], rows: Sequence[SiteRow], settings: ServerSettings) -> MedVeilError:
    texts = [said(reply.problem) for reply in failed]
    reasons = "; ".join(f"{reply.site}: {text}" for reply, text in zip(failed, texts, strict=True))
    problem = f"{len(failed)} of {len(failed) + len(rows)} sites cannot take part: {reasons}"
    kinds = {text.partition(":")[0] for text in texts}
    kind = getattr(errors, kinds.pop(), None) if len(kinds) == 1 else None
    if isinstance(kind, type) and issubclass(kind, MedVeilError):
        return kind(problem)
    return FederationError(problem, cure=f"at least {settings.fewest} are needed")


def _refuse_differing(rows: Sequence[SiteRow], name: str) -> None:
    for row in rows[1:]:
        if getattr(row, name) != getattr(rows[0], name):
            raise FederationError(
                f"'{name}' is {getattr(row, name)!r}",
                where=row.site,
                cure=f"wanted {getattr(rows[0], name)!r} as at {rows[0].site}",
            )


def _check_fingerprints(rows: Sequence[SiteRow], keys: str) -> None:
    first: dict[str, str] = {}
    for row in rows:
        shown = repr(row.fingerprint)
        if keys == "none":
            if row.fingerprint:
                raise FederationError(f"'fingerprint' is {shown}", where=row.site, cure="wanted none with keys 'none'")
            continue
        if not row.fingerprint:
            raise FederationError("'fingerprint' is empty", where=row.site, cure=f"wanted a key with keys '{keys}'")
        if keys == "shared" and row.fingerprint != rows[0].fingerprint:
            wanted = f"wanted {rows[0].fingerprint!r} as at {rows[0].site} with keys 'shared'"
            raise FederationError(f"'fingerprint' is {shown}", where=row.site, cure=wanted)
        if keys == "per-site" and row.fingerprint in first:
            wanted = f"wanted another than that of {first[row.fingerprint]} with keys 'per-site'"
            raise FederationError(f"'fingerprint' is {shown}", where=row.site, cure=wanted)
        first[row.fingerprint] = row.site
