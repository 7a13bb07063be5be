"""A running site, from outside: starting and ending its supervisor, and what it is doing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fl_client.data.left_open import left_open
from fl_client.data.left_open import said as said_of_open
from fl_client.deployment import node_log
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.door import why_not_in
from fl_client.deployment.draining import forget
from fl_client.deployment.handing import handed
from fl_client.deployment.own_files import SERVED, SERVED_VERSION, OwnFiles
from fl_client.deployment.supernode import answered_file, others_file
from fl_client.deployment.supervisor import NODE, SUPERVISOR, WORKER, read_state
from fl_client.export.held import MODELS, held, said
from fl_client.privacy.ledger import Ledger
from medveil import processes
from medveil.certificates import days_left, load_certificate
from medveil.errors import ConfigError, FederationError
from medveil.files import make_folder
from medveil.flower_session import others
from medveil.shapes import read_document
from medveil.times import moment

_CONNECT_S = 30.0
_POLL_S = 0.25
_STOP_S = 45.0
_SILENT_S = 30.0


def refuse_running(files: OwnFiles) -> None:
    """Refuse a site that runs already (ConfigError): a second node with its key would be refused by the server."""
    pid = processes.running(files.record(SUPERVISOR))
    if pid is not None:
        raise ConfigError(f"runs already, as process {pid}", where=files.config.name, cure="medveil-site stop")


def start(files: OwnFiles, passphrases: Mapping[str, str], *, stock: bool, attended: bool = False) -> int:
    """Start the supervisor; returns its process id.

    Parameters
    ----------
    files
        The site.
    passphrases
        By key file.
    stock
        Let Flower run the server's app.
    attended
        Have it end with this process, however that ends.

    Raises
    ------
    FederationError
        It ended at once.
    KeyMaterialError
        Flower's own processes could not read the passphrase (`stock`).
    """
    # Its words say whether the node is connected: they count from here.
    files.node_log.unlink(missing_ok=True)
    # A drain that was killed must not keep the site from work.
    forget(files)
    own = [sys.executable, "-Pm", "fl_client.deployment.supervisor", str(files.file)]
    process = processes.start(
        [*own, *(["--stock"] if stock else []), *(["--attended"] if attended else [])],
        record=files.record(SUPERVISOR),
        log=files.log.with_name("supervisor.out"),
        folder=make_folder(files.state / "work", mode=0o700),
        environment=files.environment(**(files.stock_environment() if stock else {})),
        stdin=handed(passphrases),
    )
    end = time.monotonic() + _CONNECT_S
    while processes.running(files.record(NODE)) is None and time.monotonic() < end:
        if processes.running(files.record(SUPERVISOR)) is None:
            said = node_log.last_words(files.log.with_name("supervisor.out"))
            raise FederationError(f"the site's supervisor ended at once: {said}", where=files.config.name)
        time.sleep(_POLL_S)
    return process.pid


def wait_connected(files: OwnFiles, *, seconds: float = _CONNECT_S) -> tuple[bool, str]:
    """Wait for the node to be let in; whether it was, and what it said last."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_connected(files):
            return True, ""
        child = read_state(files).get("children", {}).get(NODE, {})
        if child.get("state") == "waiting":
            break
        time.sleep(_POLL_S)
    return False, told_why(files)


def told_why(files: OwnFiles) -> str:
    """Why the site is not in session with its server.

    What the supervisor found as the node ended holds for as long as the node has ended; else it is looked up now.
    """
    child = read_state(files).get("children", {}).get(NODE, {})
    if child.get("state") == "waiting" and child.get("why"):
        return str(child["why"])
    return why_not_in(files)


def is_connected(files: OwnFiles) -> bool:
    """Whether the node runs, was let in since it was started and, where it keeps that, was answered just now."""
    return _was_let_in(files) and not is_silent(last_answer(files))


def last_answer(files: OwnFiles) -> datetime | None:
    """When the server last answered the running node; None where that is not known: a stock node does not keep it."""
    try:
        return datetime.fromtimestamp(answered_file(files).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def is_silent(answered: datetime | None) -> bool:
    """Whether the last answer is so old that the server must be away: a node's heartbeats are up to 23 s apart."""
    return answered is not None and _age(answered) > _SILENT_S


def _was_let_in(files: OwnFiles) -> bool:
    if processes.running(files.record(NODE)) is None:
        return False
    state = read_state(files)
    # A supervisor of an earlier MedVeil does not say.
    return bool(state["connected"]) if "connected" in state else node_log.is_connected(files.node_log)


def _age(answered: datetime) -> float:
    # A clock that was set back must not give an answer from the time to come.
    return max(0.0, (datetime.now(UTC) - answered).total_seconds())


def stop(files: OwnFiles) -> bool:
    """End the supervisor and with it node and worker; whether it was running."""
    was = processes.stop(files.record(SUPERVISOR), seconds=_STOP_S)
    # What a killed supervisor left behind.
    left = [processes.stop(files.record(name)) for name in (NODE, WORKER)]
    files.secret.unlink(missing_ok=True)
    return was or any(left)


def status(files: OwnFiles) -> dict[str, Any]:
    """What the site is doing, as plain data."""
    state = read_state(files)
    alive = {name: processes.running(files.record(name)) for name in (SUPERVISOR, NODE, WORKER)}
    authority = files.path(files.config.ca)
    let_in = _was_let_in(files)
    answered = last_answer(files) if let_in else None
    apart = alive[SUPERVISOR] is not None and not let_in
    return {
        "site": files.config.name,
        "server": files.config.server,
        "let_in": let_in,
        "connected": let_in and not is_silent(answered),
        "answered": None if answered is None else _told(answered),
        "processes": alive,
        "children": state.get("children", {}) if alive[SUPERVISOR] is not None else {},
        "stock": bool(state.get("stock")) if alive[SUPERVISOR] is not None else False,
        "others": others(others_file(files)) if let_in else None,
        "node_says": told_why(files) if apart else node_log.why_it_ended(files.node_log),
        "authority_days_left": int(days_left(load_certificate(authority))) if authority.exists() else None,
        "approvals": sorted(Approvals(files.approvals).all()),
        "open": left_open(files.own).plain(),
        "models": [each.plain() for each in held(files.own / MODELS)],
        "privacy": spent_of(files),
        "served": _served(files) if files.served.exists() else None,
    }


def _ended(name: str, child: dict[str, Any], *, said: str) -> str:
    """What keeps a process from running; a reason that was `said` is not said again."""
    times = "once," if child["ended"] == 1 else f"{child['ended']} times, the last time"
    why = "for the reason above" if child["why"] and str(child["why"]) in said else f"because: {child['why']}"
    return f"the {name} ended {times} {why}"


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    alive = found["processes"]
    shown = ", ".join(f"{name} {pid}" for name, pid in alive.items() if pid is not None) or "not running"
    lines = [f"{found['site']}: {shown}"]
    lines += ["running the SERVER's code (--stock)"] if found["stock"] else []
    if alive[SUPERVISOR] is not None:
        lines.append(_connection(found))
    if found["others"] is not None:
        lines.append(node_log.of_others(found["others"]))
    for name, child in found["children"].items():
        if child["state"] == "waiting":
            lines.append(_ended(name, child, said="\n".join(lines)))
    approvals = ", ".join(digest[:12] for digest in found["approvals"]) or "none: medveil-site approve HASH"
    lines.append(f"approved apps: {approvals}")
    lines.append(said(found["models"]))
    lines.append(said_of_open(found["open"]))
    lines += [] if found["privacy"] is None else [f"privacy: {said_of_privacy(found['privacy'])}"]
    if found["served"] is not None:
        last = found["served"]["last"]
        lines.append(f"last message: {last['kind']} at {moment(last['at'])}, {last['seconds']:g} s: {last['outcome']}")
    if found["authority_days_left"] is not None:
        lines.append(f"the authority's certificate is good for {found['authority_days_left']} days")
    return "\n".join(lines)


def said_of_privacy(found: dict[str, Any]) -> str:
    """What training has cost the site's images, in a line."""
    of = "" if found["limit"] is None else f" of {found['limit']:g}"
    runs = f"{found['runs']} run{'' if found['runs'] == 1 else 's'}"
    text = f"{runs} cost each {found['unit']} epsilon {found['epsilon']:.2f}{of} at delta {found['delta']:g}"
    return text if not found["without"] else f"{text}; {found['without']} more without noise, which no number covers"


def spent_of(files: OwnFiles) -> dict[str, Any] | None:
    """What its ledger tells, beside the site's own limit."""
    spent = Ledger(files.ledger).spent()
    return None if spent is None else {**asdict(spent), "limit": files.config.limits.epsilon}


def _served(files: OwnFiles) -> dict[str, Any]:
    """What the worker wrote down of its last message; its own module takes long to import."""
    last = {"kind": str, "at": str, "seconds": float, "outcome": str}
    return read_document(files.served, {"answered": int, "last": last}, name=SERVED, newest=SERVED_VERSION)


def _told(answered: datetime) -> dict[str, Any]:
    return {"at": answered.isoformat(timespec="seconds"), "seconds_ago": round(_age(answered), 1)}


def _connection(found: dict[str, Any]) -> str:
    answered = found["answered"]
    if found["connected"]:
        if answered is None:
            return f"connected to {found['server']} when its node began; whether the server still answers is not known"
        return f"connected to {found['server']}; the server answered {answered['seconds_ago']:.0f} s ago"
    if found["let_in"]:
        return f"no answer from {found['server']} since {moment(answered['at'])}; the node tries on"
    return f"not connected to {found['server']}: {found['node_says']}"
