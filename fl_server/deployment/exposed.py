"""A server's state in numbers, for Prometheus: of what `status` shows, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fl_server.deployment.consortium import Consortium
from fl_server.deployment.control import ONLINE
from fl_server.deployment.status import status
from fl_server.metrics import ALL
from medveil.door_notes import refusals
from medveil.exposition import Family, disk_free, moment_of


def exposed(consortium: Consortium) -> Iterator[Family]:
    """Look at a server and its newest run (errors as `status`)."""
    found = status(consortium)
    server, days = found["server"], found["certificates"]
    yield Family("server_up", "Whether the server runs and answers.").add(server["answers"])
    left = Family("certificate_days_left", "Days until a certificate expires.")
    yield left.add(days["authority_days_left"], of="authority").add(days["server_days_left"], of="server")
    yield from _sites(found["sites"])
    refused = Family("refused_total", "Requests a door refused since the server started, by whose they were.")
    for site, count in _counted(refusals(consortium.refusals) if server["process"] is not None else []).items():
        refused.add(count, site=site)
    yield refused
    yield disk_free(state=consortium.state)
    if found["run"] is not None:
        yield from _run(found["run"])


def _sites(sites: list[dict[str, str]]) -> Iterator[Family]:
    connected = Family("site_connected", "Whether a site is in session with the server.")
    seen = Family("site_last_seen_timestamp_seconds", "When a site was in session last, in seconds since 1970.")
    for site in sites:
        connected.add(site["status"] == ONLINE, site=site["site"])
        seen.add(moment_of(site["last_seen"]), site=site["site"])
    yield connected
    yield seen


def _run(run: Mapping[str, Any]) -> Iterator[Family]:
    yield Family("run_status", "The newest run: 1, with its name and status.").add(
        1, run=run["run"], status=run["status"]
    )
    yield Family("run_rounds_done", "Rounds the newest run has finished.").add(run["round"], run=run["run"])
    yield Family("run_rounds_asked", "Rounds it is to have.").add(run["rounds"], run=run["run"])
    losses = Family("run_loss", "Newest loss, where it is told: of all sites together, and of each that tells its own.")
    newest = run["history"][-1] if run["history"] else {}
    for site, row in [(ALL, newest), *((each["site"], each) for each in run["sites"])]:
        for phase in ("train", "validation"):
            losses.add(row.get(f"{phase}_loss"), run=run["run"], site=site, phase=phase)
    test = run["test"] or {}
    yield losses.add(test.get("loss"), run=run["run"], site=ALL, phase="test")
    left_out = Family("run_left_out_total", "How often a site did not count in a round of the newest run.")
    for each in run["sites"]:
        left_out.add(each["left_out"], run=run["run"], site=each["site"])
    yield left_out


def _counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[str(row["site"])] = found.get(str(row["site"]), 0) + int(row["count"])
    return found
