"""Flower's SuperLink as a process of the consortium's: started, waited for, ended by its recorded id.

``python -m fl_server.deployment.superlink CONSORTIUM -- ARGUMENTS`` is ``flower-superlink ARGUMENTS`` with two doors of
ours: one for its own commands, which show a secret, and one for sites (`medveil.flower_superlink.run_superlink`).
"""

from __future__ import annotations

import argparse
import shlex
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from fl_server.deployment.consortium import Consortium, load_consortium
from medveil import processes
from medveil.audit import FILE_VARIABLE, OWNER_VARIABLE, ROSTER_VARIABLE, SIGNING_VARIABLE
from medveil.cli import guarded
from medveil.environment import HERE
from medveil.errors import ConfigError, FederationError
from medveil.files import make_folder
from medveil.flower_superlink import Places, run_superlink
from medveil.parent import end_with_parent

_START_S = 120.0
_POLL_S = 0.2
_SHOWN = (
    "FLWR_HOME",
    "FLWR_TELEMETRY_ENABLED",
    "FLWR_DISABLE_UPDATE_CHECK",
    "MEDVEIL_HOME",
    FILE_VARIABLE,
    OWNER_VARIABLE,
    SIGNING_VARIABLE,
    ROSTER_VARIABLE,
)


def stock_command(consortium: Consortium) -> list[str]:
    """Flower's own command; it serves everything on one port, so it listens on this machine only."""
    key, certificate = consortium.certificate
    return [
        "flower-superlink",
        *("--host", HERE, "--port", str(consortium.config.control.port)),
        *("--ssl-ca-certfile", str(consortium.authority[1])),
        *("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)),
        "--enable-supernode-auth",
        *("--database", str(consortium.database)),
        *("--isolation", "subprocess", "--disable-runtime-dependency-installation"),
        *("--log-file", str(consortium.log), "--log-rotation-backup-count", str(consortium.config.log_days)),
    ]


def command(consortium: Consortium, *, attended: bool = False) -> list[str]:
    """The same with a login at that port, and the sites' door beside it; `attended`, it ends with who starts it."""
    own = [sys.executable, "-Pm", "fl_server.deployment.superlink", *(["--attended"] if attended else [])]
    return [*own, str(consortium.file), "--", *stock_command(consortium)[1:]]


def shown_commands(consortium: Consortium) -> str:
    """What an administrator would type to do it by hand."""
    environment = consortium.environment()
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in _SHOWN]
    lines += [
        "",
        "# Flower's own command. All its interfaces share one port and ask for no login: any account of this machine",
    ]
    lines += [
        "# can submit an app that runs as this one, and a site can speak in another's name. For a trial, by hand:"
    ]
    lines += [
        shlex.join(stock_command(consortium)),
        "",
        "# The same as 'medveil-server start' runs it, with two doors:",
    ]
    return "\n".join([*lines, shlex.join(command(consortium))])


def start(consortium: Consortium, *, attended: bool = False) -> int:
    """Start the SuperLink, wait until both doors answer, and return its process id.

    Parameters
    ----------
    consortium
        Whose.
    attended
        Have it end with this process, however that ends.

    Raises
    ------
    ConfigError
        It runs already.
    FederationError
        It ended at once, or does not answer.
    """
    pid = processes.running(consortium.record)
    if pid is not None:
        raise ConfigError(f"runs already, as process {pid}", where=consortium.config.name, cure="medveil-server stop")
    # A drain that was killed must not keep the server from work.
    consortium.drain.forget()
    # An empty folder: Python looks for modules where a process was started.
    folder = make_folder(consortium.state / "work", mode=0o700)
    output = consortium.log.with_suffix(".out")
    began = output.stat().st_size if output.exists() else 0
    process = processes.start(
        command(consortium, attended=attended),
        record=consortium.record,
        log=output,
        folder=folder,
        environment=consortium.environment(),
    )
    try:
        _wait_until_up(consortium, output, began)
    except BaseException:
        processes.stop(consortium.record)
        raise
    return process.pid


def is_up(consortium: Consortium) -> bool:
    """Whether the SuperLink answers on its inner door."""
    return _status(consortium, f"https://{consortium.control}/health") == 200


def _wait_until_up(consortium: Consortium, output: Path, began: int) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if processes.running(consortium.record) is None:
            raise FederationError(f"Flower's SuperLink ended at once: {_last_words(output, began)}", where=output)
        if is_up(consortium):
            return
        time.sleep(_POLL_S)
    raise FederationError(f"Flower's SuperLink did not answer within {_START_S:g} s", where=consortium.control)


def _status(consortium: Consortium, url: str) -> int | None:
    """HTTP status of a request to this machine, no proxy asked; None where nobody answers."""
    context = ssl.create_default_context(cafile=str(consortium.authority[1]))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _last_words(output: Path, began: int, *, lines: int = 3) -> str:
    """The last lines that were added to a program's output."""
    with output.open("rb") as stream:
        stream.seek(began)
        said = [line.strip() for line in stream.read().decode(errors="replace").splitlines()]
    return " ".join([line for line in said if line][-lines:]) or "it said nothing"


def main() -> int:
    """Be the SuperLink's process."""
    parser = argparse.ArgumentParser(prog="python -m fl_server.deployment.superlink")
    parser.add_argument("consortium", type=Path)
    parser.add_argument("--attended", action="store_true", help="end with the process that started this one")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    arguments = given.arguments[1:] if given.arguments[:1] == ["--"] else given.arguments

    def body() -> int:
        if given.attended:
            end_with_parent()
        consortium = load_consortium(given.consortium)
        fleet = consortium.config.fleet
        places = Places(consortium.home, consortium.database, consortium.superexec_secret, consortium.refusals)
        run_superlink(arguments, fleet=(fleet.host, fleet.port), places=places, audit=consortium.audit)
        return 0

    return guarded(body)


if __name__ == "__main__":
    sys.exit(main())
