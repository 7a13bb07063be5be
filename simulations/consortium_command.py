"""`medveil-sim consortium`: a real coordinator and real sites on this machine, to try and to learn from."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medveil.cli import add_json, subcommand
from medveil.completing import completing, settings_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.files import make_folder
from medveil.plain import tell, tell_block, tell_json
from simulations.consortium.places import FEWEST_SITES, MOST_SITES, refuse_given, was_typed

_GRACE_S = 30.0
"""For sites to take leave, and the server's app to write down that it was ended."""
_STANDING_GRACE_S = 120.0
"""Where the commands that end it are still typed."""
_LOOK_S = 1.0


def add_consortium(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `consortium`."""
    made = subcommand(
        commands,
        "consortium",
        text="Try a consortium: a real coordinator and real sites on this machine, over TLS, from keys to predictions "
        "and audit logs. Each command is printed as a person types it between machines.",
        example="medveil-sim consortium --sites 3 --data images/ rounds=5",
    )
    settings = made.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings of the run: those of 'medveil-server run'"
    )
    completing(settings, settings_of(_schema))
    words = "hospitals, 3 or more (default: 3, or as many as folders are given)"
    made.add_argument("--sites", type=int, metavar="N", help=words)
    made.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="images, DICOM or PNG, JPEG, BMP, TIFF, one folder a class: one DIR is dealt to the hospitals; given as "
        "often as there are hospitals, each has its own (default: drawn phantoms)",
    )
    made.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of all parties, new or empty, which stays (default: it does not)",
    )
    made.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C, and its folder for good")
    add_json(made)
    for name in ("--attended", "--stays"):
        made.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    made.set_defaults(command=_do_consortium)


def _schema() -> type:
    from fl_server.deployment.plan import RunFile  # noqa: PLC0415

    return RunFile


def _do_consortium(arguments: argparse.Namespace) -> int:
    if arguments.sites is None:
        arguments.sites = max(FEWEST_SITES, len(arguments.data))
    if arguments.attended:
        return _play(arguments)
    _refuse(arguments)
    return _tied(arguments)


def _refuse(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be, before anything is made: numbers, settings, folders (ConfigError, DataError)."""
    from medveil.config import load_config  # noqa: PLC0415

    if not FEWEST_SITES <= arguments.sites <= MOST_SITES:
        cure = f"{FEWEST_SITES} to {MOST_SITES}: of fewer the server would read single updates"
        raise ConfigError(f"is {arguments.sites}", where="--sites", cure=cure)
    for each in arguments.overrides:
        if "=" not in each:
            raise ConfigError(f"'{each}' is no setting", where="medveil-sim consortium", cure="KEY=VALUE")
    load_config(_schema(), None, arguments.overrides)
    refuse_given(arguments.data, arguments.sites)
    if arguments.out is not None and arguments.out.exists():
        if not arguments.out.is_dir():
            raise ConfigError("is a file where a folder is needed", where=arguments.out, cure="name another folder")
        if any(arguments.out.iterdir()):
            raise ConfigError("is not empty", where=arguments.out, cure="name another folder")


def _tied(arguments: argparse.Namespace) -> int:
    """Do it in a process that ends with this one, however this one ends, and with all that it started.

    Servers and sites are made to outlive who starts them.
    """
    stays = arguments.out is not None or arguments.keep
    folder = make_folder(arguments.out) if arguments.out else Path(tempfile.mkdtemp(prefix="medveil-consortium-"))
    own = [] if arguments.out else ["--out", str(folder)]
    program = [sys.executable, "-m", "simulations.cli", *arguments.words, *own, "--attended"]
    try:
        code, printed = _ended([*program, *(["--stays"] if stays else [])], arguments, None if stays else folder)
    except BaseException:
        if not stays:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    tell_block(printed, end="")
    whole = code in {EXIT_OK, EXIT_PARTIAL}
    if not stays and (whole or not was_typed(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        if whole:
            tell(f"cleaned up: {folder} is gone", error=arguments.json)
    else:
        tell(f"its folder, with the keys of this trial: {folder}", error=arguments.json or not whole)
    return code


def _ended(program: list[str], arguments: argparse.Namespace, removes: Path | None) -> tuple[int, str]:
    """Run it to its end; its exit code and, of JSON, what it printed.

    One that stands until Ctrl-C stops in order then, and its exit code says whether it had come so far.
    """
    from medveil.tied import tied  # noqa: PLC0415

    grace = _STANDING_GRACE_S if arguments.keep else _GRACE_S
    heard = subprocess.PIPE if arguments.json else None
    with tied(program, removes=removes, grace=grace, text=True, stdout=heard) as process:
        try:
            printed, _ = process.communicate()
        except KeyboardInterrupt:
            if not arguments.keep:
                raise
            process.terminate()
            printed, _ = process.communicate()
    return int(process.returncode), printed or ""


def _play(arguments: argparse.Namespace) -> int:
    from simulations.consortium.rehearsal import Rehearsal  # noqa: PLC0415

    given = [each.resolve() for each in arguments.data]
    # What is told on the way is the result for people, and beside it for a program.
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        made = Rehearsal(arguments.out.resolve(), arguments.sites, given=given, settings=arguments.overrides)
        try:
            whole = made.play()
            if arguments.keep:
                _stand(made.folder)
            made.stop()
        finally:
            made.end()
        if arguments.stays:
            made.tell_how_to_go_on()
    if arguments.json:
        left = {"folder": str(made.folder), "go_on": made.to_go_on()} if arguments.stays else {"folder": None}
        tell_json({"whole": whole, **made.found(), **left})
    return EXIT_OK if whole else EXIT_PARTIAL


def _stand(folder: Path) -> None:
    """Wait for Ctrl-C, or whatever else ends this process."""
    tell("")
    tell(f"# it stands until Ctrl-C; meanwhile, in another terminal: cd {folder}/coordinator")
    tell("#   medveil-server status --watch")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(_LOOK_S)
