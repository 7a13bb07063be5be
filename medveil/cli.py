"""What every MedVeil command shares: its common options, its errors in one line, its exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from medveil.arguments import SETTINGS, ordered
from medveil.errors import EXIT_INTERRUPTED, ConfigError, MedVeilError
from medveil.files import storage_error
from medveil.log import LEVELS, set_up_logging
from medveil.merged import refuse_merged
from medveil.plain import tell, tell_json
from medveil.versions import medveil_version

_COMPLETING = "_ARGCOMPLETE"
"""Set by the shell function of argcomplete (https://kislyuk.github.io/argcomplete/)."""
_JSON = "--json"


class _Help(argparse.HelpFormatter):
    """Parts lines between words alone: ``block-pixel`` broken at its hyphen is no name that can be typed."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(f"{indent}{line}" for line in self._split_lines(text, width - len(indent)))


class ToldToEnd(KeyboardInterrupt):
    """A signal asked this process to end.

    Parameters
    ----------
    number
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Answer SIGTERM (timeout, Slurm, systemd) and SIGHUP (a terminal that closes) as Ctrl-C is answered.

    What is ignored, as `nohup` has it, stays so. Only the main thread is told of signals: in another nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> NoReturn:
        raise ToldToEnd(number)

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose usage errors are ours, and whose settings stand anywhere among the arguments."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **options})

    def parse_args(self, *given: Any, **more: Any) -> Any:
        """As argparse; where a shell asks what could come next, it is told, and the process ends."""
        if _COMPLETING in os.environ:
            import argcomplete  # noqa: PLC0415 - only for a shell that asks

            argcomplete.autocomplete(self)
        return super().parse_args(*given, **more)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, of words in the order it takes (`medveil.arguments`); an option that is none is refused here."""
        if self._subparsers is not None or _COMPLETING in os.environ:
            return super().parse_known_args(args, namespace)
        given = sys.argv[1:] if args is None else list(args)
        nameless = [action.dest for action in self._get_positional_actions()]
        line = ordered(given, self._option_string_actions, nameless, prog=self.prog)
        namespace, left = super().parse_known_args(line.words, namespace)
        if line.settings is not None:
            setattr(namespace, SETTINGS, line.settings)
        return namespace, left

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(message, where=self.prog, cure=f"see '{self.prog} --help'")


def parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """Make the parser of a command, with `--version`.

    Parameters
    ----------
    prog
        The command as typed, for example ``"medveil-sim"``.
    description
        One or two sentences.
    example
        A command line that works.
    """
    completing = f'names and settings are completed by Tab after: eval "$(register-python-argcomplete {prog})"'
    epilog = f"example: {example}; {completing}"
    made = _Parser(prog=prog, description=description, epilog=epilog, allow_abbrev=False)
    made.add_argument("--version", action="version", version=f"%(prog)s {medveil_version()}")
    return made


def add_common(to: argparse.ArgumentParser, *, device: bool = False) -> None:
    """Add `--log-level`, `--log-file` and, for commands that compute, `--device`."""
    group = to.add_argument_group("common options")
    group.add_argument("--log-level", choices=LEVELS, default="warning", help="how much to log (default: warning)")
    group.add_argument("--log-file", metavar="FILE", help="also append the log to this file")
    if device:
        group.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:N or auto (default: auto)")


def subcommand(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    *,
    text: str,
    example: str,
    device: bool = False,
) -> argparse.ArgumentParser:
    """Add a subcommand with its help text, an example and the common options."""
    made = commands.add_parser(name, help=text, description=text, epilog=f"example: {example}", allow_abbrev=False)
    add_common(made, device=device)
    return made


def add_views(to: argparse.ArgumentParser) -> None:
    """Add ``--views`` and their level to a command that asks a model about images."""
    words = "average over N views of each image, itself and augmented ones; 1: the image alone (default: as its run)"
    to.add_argument("--views", type=int, metavar="N", help=words)
    words = "light, medium or strong: of the augmented views (default: as the model's run)"
    to.add_argument("--view-level", metavar="LEVEL", help=words)


def add_json(to: argparse.ArgumentParser) -> None:
    """Add ``--json``: the result as one JSON document, and an error that leaves no result as one too (`failure`)."""
    to.add_argument(_JSON, action="store_true", help="print the result as JSON")


def failure(error: BaseException, exit_code: int) -> dict[str, Any]:
    """Why a command ended without a result, for a program: what ``--json`` prints in place of one.

    Returns
    -------
    dict
        ``error`` alone: its kind, the command's exit code, what was wrong, where and what would be right, or None.
    """
    known = error if isinstance(error, MedVeilError) else None
    said = {
        "kind": type(error).__name__ if known is not None else "Interrupted",
        "exit_code": exit_code,
        "problem": str(error) or "interrupted" if known is None else known.problem,
        "where": None if known is None else known.where,
        "cure": None if known is None else known.cure,
    }
    return {"error": said}


def _done(arguments: argparse.Namespace) -> int:
    start_logging(arguments)
    try:
        code: int = arguments.command(arguments)
    except KeyboardInterrupt:
        if getattr(arguments, "goes_on", False) and not getattr(arguments, "dry_run", False):
            tell("go on with the same command", error=True)
        raise
    return code


def _telling_json(arguments: argparse.Namespace) -> int:
    """Do what a command says; where it ends in an error before it printed a result, print that as JSON."""
    count: Any = _Counted(sys.stdout)
    try:
        with contextlib.redirect_stdout(count), _disk_refusals():
            code = _done(arguments)
    except (MedVeilError, KeyboardInterrupt) as error:
        if not count.letters:
            tell_json(failure(error, getattr(error, "exit_code", EXIT_INTERRUPTED)))
        raise
    return code


@contextlib.contextmanager
def _disk_refusals() -> Iterator[None]:
    """Make a StorageError of what the system says of a file; a reader of our output that went away is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        raise storage_error(error, error.filename or "disk", "use the file") from error


class _Counted:
    """A stream that knows how much went through it.

    Parameters
    ----------
    stream
        Where it goes.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self.letters = stream, 0

    def write(self, text: str) -> int:
        """Let it through."""
        self.letters += len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def add_page(to: argparse.ArgumentParser) -> None:
    """Add ``--page`` to a command that asks a model about images."""
    words = (
        "also write an HTML page of some of the images as they are, with what was answered and attention rollout; "
        "an image in a folder named as a class is a hit or a miss"
    )
    to.add_argument("--page", type=Path, metavar="FILE", help=words)


def guarded(body: Callable[[], int]) -> int:
    """Run a command body; turn our errors into one line on stderr and an exit code.

    Returns
    -------
    int
        What `body` returned, the `exit_code` of the `MedVeilError` it raised, or 128 and the signal that ended it: 130
        after Ctrl-C.
    """
    try:
        with _disk_refusals():
            return body()
    except MedVeilError as error:
        _say(str(error))
        return error.exit_code
    except ToldToEnd as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run_command(make: Callable[[], argparse.ArgumentParser], argv: list[str] | None) -> int:
    """Run a command line: parse it, set up the log, and do what it says.

    Parameters
    ----------
    make
        Makes the parser; a subcommand sets ``command``, which takes the parsed arguments and gives the exit code.
    argv
        The words behind the program; None: this process's.

    Returns
    -------
    int
        The exit code, as `guarded`. A command that is asked to end (`ending_in_order`) ends as after Ctrl-C.
    """

    def body() -> int:
        refuse_merged()
        words = sys.argv[1:] if argv is None else argv
        try:
            arguments = make().parse_args(argv)
        except ConfigError as error:
            if _JSON in words:
                tell_json(failure(error, error.exit_code))
            raise
        arguments.words = words
        return _telling_json(arguments) if getattr(arguments, "json", None) is True else _done(arguments)

    with ending_in_order():
        return guarded(body)


def _say(text: str) -> None:
    tell(f"error: {text}", error=True)


def start_logging(arguments: argparse.Namespace) -> None:
    """Set up logging from the common options."""
    set_up_logging(arguments.log_level, arguments.log_file)
