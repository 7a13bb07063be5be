"""What an administrator needs to run a server or a site for good: units, containers, wheels, proxy, log rotation.

The files lie in ``medveil/kit`` and are written with the paths of this installation filled in.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from medveil.cli import add_json, subcommand
from medveil.errors import EXIT_OK, ConfigError
from medveil.files import make_folder, write_text
from medveil.plain import tell_result

SERVER, SITE = "server", "site"
_FILES = Path(__file__).parent / "kit"
_PROGRAMS = {SERVER: "medveil-server", SITE: "medveil-site"}
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_UNFIT = re.compile(r"[\"\\%$\x00-\x1f]")
_EXECUTABLE = ".sh"


def write_kit(role: str, out: Path, *, file: Path, user: str) -> list[Path]:
    """Write the kit of a role into a folder.

    Parameters
    ----------
    role
        ``server`` or ``site``.
    out
        The folder; a file that is there is never replaced.
    file
        The consortium's or the site's file, which the units name; it need not be there yet.
    user
        The account the units run under.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ConfigError
        A file is there already, or a name cannot stand in a unit.
    StorageError
        The disk refuses.
    """
    if not _USER.fullmatch(user):
        raise ConfigError(f"'{user}' is no account name", where="--user", cure="lower-case letters, digits, - and _")
    file = file.resolve()
    values = {
        "USER": user,
        "FILE": str(file),
        "FOLDER": str(file.parent),
        "WRITABLE": f'"{file.parent}"',
        # Of the virtual environment, not of the Python it links to.
        "BIN": str(Path(sys.executable).parent.absolute()),
        "COMMAND": _PROGRAMS[role],
    }
    for value in (values["FILE"], values["BIN"]):
        if _UNFIT.search(value):
            raise ConfigError("has a character no unit may have", where=value, cure="a plain path")
    made = {out / source.name: _filled(source, values) for source in kit_files(role)}
    for path in made:
        if path.exists():
            raise ConfigError("is there already", where=path, cure="name another folder with --out")
    make_folder(out)
    for path, text in made.items():
        write_text(path, text, mode=0o755 if path.suffix == _EXECUTABLE else 0o644)
    return sorted(made)


def kit_files(role: str) -> list[Path]:
    """The files of a role's kit, as they are packed."""
    return sorted([*(_FILES / role).iterdir(), *(_FILES / "common").iterdir()])


def add_kit(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, role: str, chosen: str
) -> argparse.ArgumentParser:
    """Add `kit` to a role's commands; `chosen` is the argument that holds the consortium's or the site's file."""
    program = _PROGRAMS[role]
    made = subcommand(
        commands,
        "kit",
        text="Write what runs it for good: systemd unit, container files, offline wheels, proxy, log rotation.",
        example=f"{program} kit --out kit",
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files; none is replaced")
    made.add_argument("--user", default="medveil", metavar="NAME", help="account of the service (default: medveil)")

    def do(arguments: argparse.Namespace) -> int:
        written = write_kit(role, arguments.out, file=getattr(arguments, chosen), user=arguments.user)
        tell_result({"files": list(map(str, written))}, *written, as_json=arguments.json)
        return EXIT_OK

    add_json(made)
    made.set_defaults(command=do)
    return made


def _filled(source: Path, values: dict[str, str]) -> str:
    text = source.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text
