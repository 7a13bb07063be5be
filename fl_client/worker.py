"""The process that does a hospital's work: ``python -m fl_client.worker SITE.yaml --address HOST:PORT``.

Flower's own way is a fresh process a message, which runs the app the server sent. This one stays, with model, key and
store open, and runs the MedVeil that is installed here and nothing else: what a server sends is compared with the
site's approvals and thrown away. Passphrases come in by stdin, never by argument or environment.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from flwr.app import Message

from fl_client.app import make_app
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.code import load_approved
from fl_client.deployment.draining import is_asked, say_empty
from fl_client.deployment.handing import read_handed
from fl_client.deployment.own_files import SERVED, SERVED_VERSION, OwnFiles, load_site
from fl_client.deployment.own_keys import OwnKeys, open_keys
from fl_client.deployment.own_site import OwnHost
from fl_client.deployment.records import SiteRecords
from fl_client.host import outcome, refusal
from medveil import fab
from medveil.bounded import word
from medveil.cli import guarded
from medveil.errors import FederationError, FormatError, MedVeilError, StorageError
from medveil.files import read_bytes, write_json
from medveil.flower import FLOWERS_ENDS, ErrorCode, Task, Tasks
from medveil.installed import installed_hash
from medveil.kinds import KINDS
from medveil.log import logger, set_up_logging
from medveil.pace import Pace
from medveil.parent import end_with_parent

_AWAY_S = 2.0
_NAMED = 5
_log = logger("worker")


class _StopError(BaseException):
    """The site is being stopped."""


class Worker:
    """Takes one message after another, and answers each.

    Parameters
    ----------
    files
        The site.
    host
        Its open site.
    tasks
        Where messages come from.
    own
        Hash of the code that is loaded (`fl_client.deployment.code.load_approved`); None: what is installed now.
    """

    def __init__(self, files: OwnFiles, host: OwnHost, tasks: Tasks, own: str | None = None) -> None:
        self._files, self._tasks = files, tasks
        self._own = installed_hash() if own is None else own
        self._approvals, self._records = Approvals(files.approvals), SiteRecords(files)
        self._host, self._app = host, make_app(host)
        self._answered = 0

    def run(self, *, sleep: Callable[[float], None] = time.sleep) -> NoReturn:
        """Work until the process is ended; a node that is away for a while is waited for."""
        away, pace = False, Pace(self._files.config.poll)
        while True:
            looked = time.monotonic()
            try:
                task = self._tasks.take()
                if away:
                    _log.info("the node is back")
                away = False
            except FederationError as error:
                if not away:
                    _log.warning("%s; waiting for the node", error)
                away = True
                sleep(_AWAY_S)
                continue
            if task is None:
                self._say_empty()
                sleep(pace.wait(time.monotonic() - looked))
            else:
                self._serve(task)

    def _say_empty(self) -> None:
        """Where the site is drained, say that nothing is in hand, once that is so."""
        if is_asked(self._files) and not self._host.in_hand:
            with suppress(StorageError):
                say_empty(self._files)

    def answer(self, task: Task) -> Message:
        """The reply to one message: from the installed app if the site approved it and the server's, else a refusal.

        Whatever is wrong with one message, the next is served.
        """
        try:
            return self._answer(task)
        except FLOWERS_ENDS as error:
            _log.exception("an error MedVeil did not expect")
            return self._refused(task, type(error).__name__, "the message cannot be served; see the log of the site")

    def _answer(self, task: Task) -> Message:
        digest = fab.hash_of(task.fab)
        try:
            approved = {digest, self._own} <= self._approvals.all().keys()
        except MedVeilError as error:
            _log.error("%s: refusing every app until it is whole", error)
            approved = False
        if not approved:
            return self._unapproved(task, digest)
        kind = task.message.metadata.message_type
        if kind not in KINDS:
            # Flower runs what stands behind the dot: another function of an app.
            return self._refused(task, "UnknownMessage", f"a site knows {', '.join(KINDS)}, and no other message")
        if not task.message.has_content():
            return self._refused(task, "EmptyMessage", "the message has no content")
        self._host.serving(lambda run: self._approvals.use(digest, run, most=self._files.config.limits.most_runs))
        return self._app(task.message, task.context)

    def _refused(self, task: Task, kind: str, told: str) -> Message:
        shown_kind = word(task.message.metadata.message_type)
        _log.warning("refused a '%s' message: %s", shown_kind, told)
        self._note(lambda: self._records.refused(task.message, task.context, kind=kind, about=None))
        return refusal(task.message, told)

    def _unapproved(self, task: Task, digest: str) -> Message:
        compared = _compared(task.fab)
        if digest in self._known():
            compared, digest = "the MedVeil installed here lost its approval", self._own
        _log.warning(
            "refused a %s message: the app %s is not approved here (%s); 'medveil-site approve' approves it",
            word(task.message.metadata.message_type),
            digest,
            compared,
        )
        self._note(lambda: self._records.unapproved(task.message, task.context, digest))
        return refusal(task.message, f"the app {digest} is not approved at this site", ErrorCode.INVALID_FAB)

    def _known(self) -> set[str]:
        with suppress(MedVeilError):
            return set(self._approvals.all())
        return set()

    def started(self, keys: OwnKeys) -> None:
        """Write down with which keys the site works."""
        prints = {"own": keys.own.current.fingerprint}
        if keys.shared is not None:
            prints["shared"] = keys.shared.current.fingerprint
        self._note(lambda: self._records.started(app=self._own, keys=prints))

    @staticmethod
    def _note(write: Callable[[], object]) -> None:
        """Write into the audit log what holds no reply up: where it cannot be written, every message is refused."""
        try:
            write()
        except Exception as error:  # what a server sent may be unlike anything that can be described
            _log.error("not in the audit log: %s: %s", type(error).__name__, word(error, 200))

    def _serve(self, task: Task) -> None:
        kind, began = task.message.metadata.message_type, time.monotonic()
        stopped, self._host.why = False, None
        try:
            reply = self.answer(task)
        except _StopError:
            stopped = True
            reply = self._host.refused(task.message, "the site was stopped", ErrorCode.CLIENT_APP_CRASHED)
        said = outcome(reply)
        try:
            task.answer(reply)
        except FederationError as error:
            said = f"the reply was lost: {error}"
        seconds = time.monotonic() - began
        kind = word(kind)
        _log.info("answered a %s message of round %s in %.1f s: %s", kind, _round(task), seconds, said)
        # What a server is told of a refusal is less than what the site knows of it.
        self._tell(kind, seconds, self._host.why or str(said))
        if stopped:
            raise _StopError

    def _tell(self, kind: str, seconds: float, said: str) -> None:
        """Write down what was done last, for `medveil-site status`."""
        self._answered += 1
        document: dict[str, Any] = {
            "format": SERVED,
            "version": SERVED_VERSION,
            "answered": self._answered,
            "last": {"kind": kind, "at": _now(), "seconds": round(seconds, 3), "outcome": said},
        }
        # A full disk must not end a worker that has sent its reply.
        with suppress(StorageError):
            write_json(self._files.served, document, mode=0o600)


def _compared(bundle: bytes) -> str:
    """How the server's app differs from the installed one, for the log."""
    try:
        differing = fab.differing(bundle)
    except FormatError as error:
        return str(error)
    if not differing:
        return "its files are those of the MedVeil installed here"
    more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
    return f"it differs from the MedVeil installed here in {', '.join(word(each) for each in differing[:_NAMED])}{more}"


def _round(task: Task) -> str:
    config = task.message.content.config_records.get("config") if task.message.has_content() else None
    round_ = config.get("server-round") if config else None
    return f"{round_:g}" if isinstance(round_, int | float) else "-"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def passphrases(sent: Mapping[str, str]) -> Callable[[Path | None], str]:
    """A reader of passphrases that were handed over: of a named file's, or of none's."""

    def read(named: Path | None) -> str:
        return sent.get("" if named is None else str(named), "")

    return read


def main(argv: list[str] | None = None) -> int:
    """Be the worker's process."""
    parser = argparse.ArgumentParser(prog="python -m fl_client.worker")
    parser.add_argument("site", type=Path)
    parser.add_argument("--address", required=True)
    given = parser.parse_args(argv)

    def stop(number: int, frame: object) -> None:
        raise _StopError

    def body() -> int:
        files = load_site(given.site)
        set_up_logging("info", files.log, stderr=False, keep_days=files.config.log_days)
        sent = read_handed(sys.stdin)
        # Before any key is opened.
        own = load_approved(files)
        keys = open_keys(files, passphrases(sent))
        tasks = Tasks(given.address, read_bytes(files.secret))
        worker = Worker(files, OwnHost(files, keys), tasks, own)
        _log.info("%s is ready, with the key %s", files.config.name, keys.own.current.fingerprint)
        worker.started(keys)
        worker.run()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C goes to the whole terminal; whoever started us stops us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        return guarded(body)
    except _StopError:
        _log.info("stopped")
        return 0


if __name__ == "__main__":
    sys.exit(main())
