"""What a server is doing: its process, certificates, sites and runs."""

from __future__ import annotations

from typing import Any

from fl_server.deployment import progress
from fl_server.deployment.consortium import Consortium
from fl_server.deployment.control import ONLINE, Control
from fl_server.deployment.roster import ADMITTED, Member, Roster
from fl_server.deployment.runs import Submission, state_of, submissions
from fl_server.deployment.superlink import is_up
from medveil import processes
from medveil.certificates import days_left, load_certificate
from medveil.door_notes import refusals
from medveil.errors import FederationError
from medveil.flower_commands import Node
from medveil.tables import plain_table
from medveil.times import moment

_NEWEST = 10
_NEVER = "never"
Nodes = dict[int, Node]


def status(consortium: Consortium, nodes: tuple[Nodes, str | None] | None = None) -> dict[str, Any]:
    """Look at everything, and ask a running SuperLink for its nodes.

    Parameters
    ----------
    consortium
        Whose server.
    nodes
        What `ask_nodes` said, to not ask again: it takes seconds, and the rest milliseconds.

    Returns
    -------
    dict
        Plain data: server, certificates, sites, the newest run in full and the newest runs in short, newest first.
    """
    pid = processes.running(consortium.record)
    up = pid is not None and is_up(consortium)
    known, trouble = ask_nodes(consortium) if nodes is None else nodes
    runs = submissions(consortium)[-_NEWEST:]
    return {
        "consortium": consortium.config.name,
        "server": {"process": pid, "answers": up, "address": consortium.address, "trouble": trouble},
        "certificates": {
            "authority_days_left": int(days_left(load_certificate(consortium.authority[1]))),
            "server_days_left": int(days_left(load_certificate(consortium.certificate[1]))),
        },
        "sites": [_site(member, known.get(member.node)) for member in Roster(consortium.roster).members()],
        "refused": refusals(consortium.refusals)[:_NEWEST] if pid is not None else [],
        "run": progress.progress(runs[-1], consortium) if runs else None,
        "runs": [_run(each, consortium) for each in reversed(runs)],
    }


def ask_nodes(consortium: Consortium) -> tuple[Nodes, str | None]:
    """The nodes as Flower lists them, and why it did not; none of a server that is not up."""
    if processes.running(consortium.record) is None or not is_up(consortium):
        return {}, None
    try:
        return Control(consortium).nodes(), None
    except FederationError as error:
        return {}, str(error)


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    server, days = found["server"], found["certificates"]
    state = "not running" if server["process"] is None else f"process {server['process']}"
    if server["process"] is not None and not server["answers"]:
        state += ", does not answer"
    lines = [f"{found['consortium']}: {state}; sites reach it at {server['address']}"]
    lines += [server["trouble"]] if server["trouble"] else []
    lines += [f"certificates: server {days['server_days_left']} days, authority {days['authority_days_left']} days"]
    lines += ["", plain_table(_headed(found["sites"])) if found["sites"] else "no site was admitted yet"]
    for row in found["refused"]:
        lines.append(f"refused {row['count']} times, the last at {moment(row['at'])}: {row['site']} {row['why']}")
    if found["run"] is None:
        return "\n".join([*lines, "", "no run was submitted yet"])
    lines += ["", progress.as_text(found["run"])]
    if found["runs"][1:]:
        lines += ["", "earlier runs", plain_table(found["runs"][1:])]
    return "\n".join(lines)


def _headed(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name.replace("_", " "): value for name, value in row.items()} for row in rows]


def _site(member: Member, node: Node | None) -> dict[str, str]:
    online = node is not None and node.status == ONLINE
    seen = "" if node is None else node.offline_since
    return {
        "site": member.name,
        "status": member.status if node is None or member.status != ADMITTED else node.status,
        "last_seen": "now" if online else seen or _NEVER,
        "since": node.online_since if node is not None and online else member.since,
        "key": member.public.fingerprint,
    }


def _run(submission: Submission, consortium: Consortium) -> dict[str, str]:
    state = state_of(submission, consortium)
    return {
        "run": submission.folder(consortium).name,
        "status": str(state["status"]),
        "stage": str(state["error"] or state["stage"] or ""),
        "submitted": submission.submitted,
        "app": submission.fab[:12],
    }
