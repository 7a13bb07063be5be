"""What a server is doing: its process, certificates, sites and runs."""

from __future__ import annotations

from typing import Any

from fl_server.deployment.consortium import Consortium
from fl_server.deployment.control import Control, Node
from fl_server.deployment.roster import ADMITTED, Member, Roster
from fl_server.deployment.runs import Submission, state_of, submissions
from fl_server.deployment.superlink import is_up
from medveil import processes
from medveil.certificates import days_left, load_certificate
from medveil.errors import FederationError
from medveil.tables import plain_table

_NEWEST = 10


def status(consortium: Consortium) -> dict[str, Any]:
    """Look at everything, and ask a running SuperLink for its nodes.

    Returns
    -------
    dict
        Plain data: server, certificates, sites and the newest runs, newest first.
    """
    pid = processes.running(consortium.record)
    up = pid is not None and is_up(consortium)
    nodes, trouble = _nodes(consortium) if up else ({}, None)
    runs = submissions(consortium)[-_NEWEST:]
    return {
        "consortium": consortium.config.name,
        "server": {"process": pid, "answers": up, "address": consortium.address, "trouble": trouble},
        "certificates": {
            "authority_days_left": int(days_left(load_certificate(consortium.authority[1]))),
            "server_days_left": int(days_left(load_certificate(consortium.certificate[1]))),
        },
        "sites": [_site(member, nodes.get(member.node)) for member in Roster(consortium.roster).members()],
        "runs": [_run(each, consortium) for each in reversed(runs)],
    }


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    server, days = found["server"], found["certificates"]
    state = "not running" if server["process"] is None else f"process {server['process']}"
    if server["process"] is not None and not server["answers"]:
        state += ", does not answer"
    lines = [f"{found['consortium']}: {state}; sites reach it at {server['address']}"]
    lines += [server["trouble"]] if server["trouble"] else []
    lines += [f"certificates: server {days['server_days_left']} days, authority {days['authority_days_left']} days"]
    lines += ["", plain_table(found["sites"]) if found["sites"] else "no site was admitted yet"]
    lines += ["", plain_table(found["runs"]) if found["runs"] else "no run was submitted yet"]
    return "\n".join(lines)


def _nodes(consortium: Consortium) -> tuple[dict[int, Node], str | None]:
    try:
        return Control(consortium).nodes(), None
    except FederationError as error:
        return {}, str(error)


def _site(member: Member, node: Node | None) -> dict[str, str]:
    seen = "" if node is None else (node.online_since if node.status == "online" else node.offline_since)
    return {
        "site": member.name,
        "status": member.status if node is None or member.status != ADMITTED else node.status,
        "since": member.since if seen in {"", "N/A"} else seen,
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
