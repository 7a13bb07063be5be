"""`medveil-sim consortium`: a real coordinator and real sites on this machine, to try and to learn from."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from medveil.cli import subcommand
from medveil.completing import completing, settings_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.files import make_folder
from medveil.plain import tell

_GRACE_S = 30.0
"""For sites to take leave, and the server's app to write down that it was ended."""
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
    made.add_argument("--sites", type=int, default=3, metavar="N", help="hospitals, 3 or more (default: 3)")
    made.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="deal these images to them, DICOM or PNG, JPEG, BMP, TIFF, one folder a class (default: drawn phantoms)",
    )
    made.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of all parties, new or empty, which stays (default: it does not)",
    )
    made.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C, and its folder for good")
    made.add_argument("--attended", action="store_true", help=argparse.SUPPRESS)
    made.set_defaults(command=_do_consortium)


def _schema() -> type:
    from fl_server.deployment.plan import RunFile  # noqa: PLC0415

    return RunFile


def _do_consortium(arguments: argparse.Namespace) -> int:
    from simulations.consortium.rehearsal import FEWEST_SITES  # noqa: PLC0415

    if arguments.sites < FEWEST_SITES:
        cure = f"{FEWEST_SITES} or more: of fewer the server would read single updates"
        raise ConfigError(f"is {arguments.sites}", where="--sites", cure=cure)
    for each in arguments.overrides:
        if "=" not in each:
            raise ConfigError(f"'{each}' is no setting", where="medveil-sim consortium", cure="KEY=VALUE")
    return _play(arguments) if arguments.attended else _tied(arguments)


def _tied(arguments: argparse.Namespace) -> int:
    """Do it in a process that ends with this one, however this one ends, and with all that it started.

    Servers and sites are made to outlive who starts them.
    """
    from medveil.tied import run_tied  # noqa: PLC0415

    stays = arguments.out is not None or arguments.keep
    if arguments.out is not None and arguments.out.exists() and any(arguments.out.iterdir()):
        raise ConfigError("is not empty", where=arguments.out, cure="name another folder")
    folder = make_folder(arguments.out) if arguments.out else Path(tempfile.mkdtemp(prefix="medveil-consortium-"))
    own = [] if arguments.out else ["--out", str(folder)]
    program = [sys.executable, "-m", "simulations.cli", *arguments.words, *own, "--attended"]
    try:
        done = run_tied(program, removes=None if stays else folder, grace=_GRACE_S)
    except BaseException:
        if not stays:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    code = int(done.returncode)
    if stays or code not in {EXIT_OK, EXIT_PARTIAL}:
        tell(f"its folder, with the keys of this trial: {folder}", error=code not in {EXIT_OK, EXIT_PARTIAL})
    else:
        shutil.rmtree(folder, ignore_errors=True)
        tell(f"cleaned up: {folder} is gone")
    return code


def _play(arguments: argparse.Namespace) -> int:
    from simulations.consortium.rehearsal import Rehearsal  # noqa: PLC0415

    given = None if arguments.data is None else arguments.data.resolve()
    made = Rehearsal(arguments.out.resolve(), arguments.sites, given=given, settings=arguments.overrides)
    try:
        whole = made.play()
        if arguments.keep:
            _stand(made.folder)
        made.stop()
    finally:
        made.end()
    return EXIT_OK if whole else EXIT_PARTIAL


def _stand(folder: Path) -> None:
    """Wait for Ctrl-C, or whatever else ends this process."""
    tell("")
    tell(f"# it stands until Ctrl-C; meanwhile, in another terminal: cd {folder}/coordinator")
    tell("#   medveil-server status --watch")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(_LOOK_S)
