"""A site's processes: the SuperNode that talks to the server and the worker that does the work, both kept running.

``python -m fl_client.deployment.supervisor SITE.yaml`` starts both, starts again what ends, and ends both when it is
ended. A node that was refused waits before it tries again: after a node was killed its server refuses the key until the
heartbeat has expired, which takes up to a minute.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fl_client.deployment.code import approved_code
from fl_client.deployment.door import why_not_in
from fl_client.deployment.handing import handed, read_handed
from fl_client.deployment.node_log import Follower, last_words, of_others
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_client.deployment.supernode import answered_file, command, others_file, worker_command
from medveil import processes
from medveil.cli import guarded
from medveil.errors import MedVeilError, StorageError
from medveil.files import make_folder, write_bytes, write_json
from medveil.flower_session import others
from medveil.log import logger, set_up_logging
from medveil.parent import end_with_parent
from medveil.ports import free_port
from medveil.shapes import read_document

FORMAT = "medveil-site-state"
VERSION = 1
NODE, WORKER, SUPERVISOR = "supernode", "worker", "supervisor"
_LOOK_S = 0.25
_CALM_LOOKS = 8
_WORKER_RETRY_S = 5.0
_log = logger("supervisor")


@dataclass
class Child:
    """One process that is kept running.

    Parameters
    ----------
    name
        ``supernode`` or ``worker``.
    begin
        Starts it.
    retry
        Seconds to wait before it is started again.
    """

    name: str
    begin: Callable[[], None]
    retry: float
    next: float = 0.0
    ended: int = 0
    state: str = "starting"
    why: str = ""


class Supervisor:
    """Keeps a site's processes running.

    Parameters
    ----------
    files
        The site.
    passphrases
        By key file, for the worker; kept in memory only.
    stock
        Let Flower run the server's app in processes of its own, instead of the site's worker.
    """

    def __init__(self, files: OwnFiles, passphrases: Mapping[str, str], *, stock: bool = False) -> None:
        self._files, self._passphrases, self._stock = files, dict(passphrases), stock
        self._port = files.config.port or free_port()
        self._said, self._let_in, self._told = Follower(files.node_log), False, False
        self._others = 0
        self._children = [Child(NODE, self._begin_node, files.config.retry)]
        if not stock:
            self._children.insert(0, Child(WORKER, self._begin_worker, _WORKER_RETRY_S))

    def run(self) -> None:
        """Keep both running until this process is ended."""
        make_folder(self._files.state / "work", mode=0o700)
        make_folder(self._files.weights, mode=0o700)
        write_bytes(self._files.secret, secrets.token_bytes(32), mode=0o600)
        # What an earlier supervisor told of its node no longer counts.
        self._tell()
        for child in self._children:
            # What a killed supervisor left behind would hold the port, and the key at the server.
            processes.stop(self._files.record(child.name))
            self._begin(child)
        try:
            while True:
                for child in self._children:
                    self._look_after(child)
                self._listen()
                self._rest()
        finally:
            self.stop()

    def stop(self) -> None:
        """End both: the node first, so that it takes leave of its server."""
        for child in reversed(self._children):
            processes.stop(self._files.record(child.name))
        self._files.secret.unlink(missing_ok=True)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _begin(self, child: Child) -> None:
        try:
            # It loads what is installed now, which may no longer be what was started.
            approved_code(self._files)
        except MedVeilError as error:
            self._put_off(child, str(error))
            return
        child.begin()
        child.state = "running"
        self._tell()

    def _listen(self) -> None:
        """Tell once that the node was let in, and again what could not be told."""
        heard = not self._let_in and self._said.look()
        self._let_in = self._let_in or heard
        if heard or not self._told:
            self._tell()
        found = others(others_file(self._files))
        # The first is said at once; a thousand are not said a thousand times.
        if found is not None and found["count"] > 2 * self._others:
            self._others = found["count"]
            _log.warning("%s", of_others(found))

    def _rest(self) -> None:
        """Wait for the next look: longer once all is well, as looks take time from the work, but not past an end."""
        for _ in range(_CALM_LOOKS if self._calm() else 1):
            time.sleep(_LOOK_S)
            if _reap():
                break

    def _calm(self) -> bool:
        return self._told and self._let_in and all(child.state == "running" for child in self._children)

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.state == "waiting":
            if now >= child.next:
                self._begin(child)
            return
        if processes.running(self._files.record(child.name)) is not None:
            return
        _reap()
        if child.name == NODE:
            # It may have been let in and ended between two looks.
            why = why_not_in(self._files, let_in=self._said.look())
            self._let_in = False
        else:
            why = last_words(self._files.log.with_name("worker.out"))
        self._put_off(child, why)

    def _put_off(self, child: Child, why: str) -> None:
        child.next, child.state, child.ended = time.monotonic() + child.retry, "waiting", child.ended + 1
        child.why = why
        _log.warning("the %s ended: %s; starting it again in %.0f s", child.name, child.why, child.retry)
        self._tell()

    def _begin_node(self) -> None:
        answered_file(self._files).unlink(missing_ok=True)
        others_file(self._files).unlink(missing_ok=True)
        self._others = 0
        self._said.begin()
        self._let_in = False
        own = self._files.stock_environment() if self._stock else {}
        processes.start(
            command(self._files, port=self._port, stock=self._stock),
            record=self._files.record(NODE),
            log=self._files.node_log,
            folder=self._files.state / "work",
            environment=self._files.environment(**own),
        )

    def _begin_worker(self) -> None:
        processes.start(
            worker_command(self._files, port=self._port),
            record=self._files.record(WORKER),
            log=self._files.log.with_name("worker.out"),
            folder=self._files.state / "work",
            environment=self._files.environment(),
            stdin=handed(self._passphrases),
        )

    def _tell(self) -> None:
        """Write down how the children are, for `medveil-site status`."""
        children = {
            child.name: {
                "state": child.state,
                "ended": child.ended,
                "why": child.why,
                "retry_in": round(max(0.0, child.next - time.monotonic()), 1) if child.state == "waiting" else None,
            }
            for child in self._children
        }
        document = {
            "format": FORMAT,
            "version": VERSION,
            "at": _now(),
            "stock": self._stock,
            "connected": self._let_in,
            "children": children,
        }
        self._told = False
        # A full disk must not end what keeps the site running: it is told again.
        with suppress(StorageError):
            write_json(state_file(self._files), document, mode=0o600)
            self._told = True


def state_file(files: OwnFiles) -> Path:
    """Where a supervisor says how its children are."""
    return files.state / "supervisor.json"


_STATE = {
    "stock?": bool,
    "connected?": bool,
    "children?": {str: {"state": str, "ended": int, "why": (str, None)}},
}


def read_state(files: OwnFiles) -> dict[str, Any]:
    """What the supervisor said last; empty where it never ran."""
    path = state_file(files)
    if not path.exists():
        return {}
    return read_document(path, _STATE, name=FORMAT, newest=VERSION)


def _reap() -> bool:
    """Take leave of children that ended, or they would stay as zombies; whether one had."""
    found = False
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            found = True
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(argv: list[str] | None = None) -> int:
    """Be the supervisor's process."""
    parser = argparse.ArgumentParser(prog="python -m fl_client.deployment.supervisor")
    parser.add_argument("site", type=Path)
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--attended", action="store_true", help="end with the process that started this one")
    given = parser.parse_args(argv)

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def body() -> int:
        files = load_site(given.site)
        log = files.log.with_name("supervisor.log")
        set_up_logging("info", log, stderr=False, keep_days=files.config.log_days)
        supervisor = Supervisor(files, read_handed(sys.stdin), stock=given.stock)
        _log.info("%s begins%s", files.config.name, ", running the server's code (--stock)" if given.stock else "")
        try:
            supervisor.run()
        except KeyboardInterrupt:
            _log.info("%s ends", files.config.name)
        return 0

    signal.signal(signal.SIGTERM, leave)
    if given.attended:
        end_with_parent()
    return guarded(body)


if __name__ == "__main__":
    sys.exit(main())
