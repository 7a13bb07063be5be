"""`encrypt`, `decrypt`, `verify` and `show`: files and trees of files, hidden and shown again."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from crypto.commands.common import Commands, add_passphrase
from crypto.config import CipherConfig
from crypto.files.recipe import IDENTITIES, PURPOSES, REMOVED, Recipe
from medveil.cli import subcommand
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.files import make_folder
from medveil.plain import tell

if TYPE_CHECKING:
    from crypto.keyring import Keyring
    from crypto.tree.plan import Plan
    from crypto.tree.run import Result

_PROG = "medveil-crypto"


def add_file_commands(commands: Commands) -> None:
    """Add the commands for files to `medveil-crypto`."""
    _add_encrypt(commands)
    _add_decrypt(commands)
    _add_verify(commands)
    _add_show(commands)


def _add_encrypt(commands: Commands) -> None:
    made = subcommand(
        commands,
        "encrypt",
        text="Hide a file, or every image of a folder, under the site's key. Names are kept. A run over a folder that "
        "was interrupted goes on when it is started again.",
        example=f"{_PROG} encrypt scans/ hidden/ --key mercy.key --for training --size 224",
    )
    _add_ends(made, "file or folder of DICOM, PNG, TIFF, JPEG or BMP images", "file or folder to write")
    purpose = "training: 8 bit, windowed and resized, to be trained on while hidden; archive: every stored bit"
    made.add_argument("--for", dest="purpose", choices=PURPOSES, required=True, help=purpose)
    _add_image_options(made.add_argument_group("training images"))
    _add_cipher_options(made.add_argument_group("cipher"))
    _add_identity_options(made.add_argument_group("identity"))
    _add_run(made)
    made.set_defaults(command=_encrypt)


def _add_image_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--size", metavar="PIXELS", type=int, help="side of an image, a multiple of the block")
    group.add_argument("--channels", metavar="N", type=int, choices=(1, 3), help="1 or 3 (default: as in the file)")
    window = "grey window, in the units after rescaling (default: the file's own)"
    group.add_argument("--window", metavar=("CENTRE", "WIDTH"), type=float, nargs=2, help=window)


def _add_cipher_options(group: argparse._ArgumentGroup) -> None:
    default = CipherConfig()
    group.add_argument("--scheme", metavar="NAME", default=default.scheme, help="image cipher (default: %(default)s)")
    block = "edge of a cipher block (default: %(default)s)"
    group.add_argument("--block", metavar="PIXELS", type=int, default=default.block, help=block)
    group.add_argument("--negate", action="store_true", help="also negate pixels at keyed positions")
    seal = "archives only: AES-256-GCM around each hidden file, for confidentiality instead of learnability"
    group.add_argument("--seal", action="store_true", help=seal)


def _add_identity_options(group: argparse._ArgumentGroup) -> None:
    identity = (
        "what becomes of attributes that say who was seen: removed for good, sealed in the file under the key, or "
        "kept in the clear (default: %(default)s)"
    )
    group.add_argument("--identity", choices=IDENTITIES, default=REMOVED, help=identity)
    keep = "leave this DICOM attribute as it is (may be repeated)"
    group.add_argument("--keep", metavar="KEYWORD", action="append", default=[], help=keep)
    private = "keep this private DICOM attribute (may be repeated)"
    group.add_argument("--safe-private", metavar="CREATOR:GGGG,EE", action="append", default=[], help=private)


def _add_decrypt(commands: Commands) -> None:
    made = subcommand(
        commands,
        "decrypt",
        text="Show hidden files again; each is checked before it is decrypted.",
        example=f"{_PROG} decrypt hidden/ shown/ --key mercy.key",
    )
    _add_ends(made, "hidden file or folder", "file or folder to write, readable by its owner alone")
    renamed = "also take files hidden under other names than they have now, and say each; else they are refused"
    made.add_argument("--renamed", action="store_true", help=renamed)
    _add_run(made)
    made.set_defaults(command=_decrypt)


def _add_verify(commands: Commands) -> None:
    made = subcommand(
        commands,
        "verify",
        text="Check a hidden file, or a folder against its manifest: missing, added, changed and renamed files are "
        "named. Nothing is decrypted or written.",
        example=f"{_PROG} verify hidden/ --key mercy.key",
    )
    made.add_argument("source", metavar="DST", help="hidden file, or folder with a manifest")
    _add_key(made)
    _add_jobs(made)
    made.set_defaults(command=_verify)


def _add_show(commands: Commands) -> None:
    made = subcommand(
        commands,
        "show",
        text="Print what a hidden file says openly of itself. No key is needed; nothing is proven before 'verify'.",
        example=f"{_PROG} show hidden/scan.png --json",
    )
    made.add_argument("file", metavar="FILE", help="hidden file")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(command=_show)


def _add_ends(made: argparse.ArgumentParser, source: str, target: str) -> None:
    made.add_argument("source", metavar="SRC", help=source)
    made.add_argument("target", metavar="DST", help=target)
    _add_key(made)


def _add_key(made: argparse.ArgumentParser) -> None:
    made.add_argument("--key", metavar="FILE", required=True, help="the site's key file")
    add_passphrase(made)


def _add_run(made: argparse.ArgumentParser) -> None:
    made.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    made.add_argument("--force", action="store_true", help="replace files that are there; without it none is")
    _add_jobs(made)


def _add_jobs(made: argparse.ArgumentParser) -> None:
    jobs = "processes that work side by side (default: one for each core, %(default)s)"
    made.add_argument("--jobs", metavar="N", type=int, default=_cores(), help=jobs)
    made.add_argument("--json", action="store_true", help="print the result as JSON")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _encrypt(arguments: argparse.Namespace) -> int:
    recipe = Recipe(
        purpose=arguments.purpose,
        cipher=CipherConfig(scheme=arguments.scheme, block=arguments.block, negate=arguments.negate),
        size=arguments.size,
        channels=arguments.channels,
        window=None if arguments.window is None else (arguments.window[0], arguments.window[1]),
        seal=arguments.seal,
        identity=arguments.identity,
        keep=tuple(arguments.keep),
        safe_private=tuple(arguments.safe_private),
    )
    return _run(arguments, recipe)


def _decrypt(arguments: argparse.Namespace) -> int:
    return _run(arguments, None)


def _run(arguments: argparse.Namespace, recipe: Recipe | None) -> int:
    from crypto.tree.either import check_jobs, is_folder  # noqa: PLC0415 - pulls in every kind of file
    from crypto.tree.plan import Plan  # noqa: PLC0415

    check_jobs(arguments.jobs)
    source, target = Path(arguments.source), Path(arguments.target)
    asked = {"force": arguments.force, "jobs": arguments.jobs, "renamed": getattr(arguments, "renamed", False)}
    plan = Plan(source=source, target=target, recipe=recipe, **asked)
    is_tree = is_folder(source)
    if not is_tree and arguments.target.endswith(os.sep):
        make_folder(target, plan.folder_mode)
    keys = open_keyring(arguments)
    if arguments.dry_run:
        return _forecast(plan, keys, is_tree=is_tree, as_json=arguments.json)
    if is_tree:
        return _tree(plan, keys, as_json=arguments.json)
    return _file(plan, keys, as_json=arguments.json)


def _tree(plan: Plan, keys: Keyring, *, as_json: bool) -> int:
    from crypto.commands.tell import tell_result  # noqa: PLC0415
    from crypto.tree.run import run_tree  # noqa: PLC0415

    result = run_tree(plan, keys)
    tell_result(plan, result, as_json=as_json)
    return _code(plan.source, result)


def _code(source: Path, result: Result) -> int:
    """The exit code of a run; where the key alone stood in the way of everything, that is the error."""
    from crypto.tree.either import refuse_other_key  # noqa: PLC0415

    refuse_other_key(source, result)
    return EXIT_PARTIAL if result.summary.failed else EXIT_OK


def _forecast(plan: Plan, keys: Keyring, *, is_tree: bool, as_json: bool) -> int:
    from crypto.commands.tell import tell_forecast  # noqa: PLC0415
    from crypto.tree.dry import forecast  # noqa: PLC0415

    if not is_tree:
        raise ConfigError("is for folders", where="--dry-run", cure="leave it out for one file")
    found = forecast(plan, keys)
    tell_forecast(plan, found, as_json=as_json)
    return EXIT_PARTIAL if found.summary.failed else EXIT_OK


def _file(plan: Plan, keys: Keyring, *, as_json: bool) -> int:
    from crypto.commands.tell import RECODED, print_json  # noqa: PLC0415
    from crypto.tree.said import ADVICE  # noqa: PLC0415
    from crypto.tree.single import run_file  # noqa: PLC0415
    from medveil.plain import shown  # noqa: PLC0415

    written, outcome = run_file(plan, keys)
    advice = {} if plan.recipe is None else {"purpose": plan.recipe.purpose, "advice": ADVICE[plan.recipe.purpose]}
    report = outcome.report
    if as_json:
        said = {"removed": report.removed, "replaced": report.replaced, "warnings": report.warnings}
        print_json({"action": plan.action, "file": str(written), "frames": report.frames, **advice, **said})
        return EXIT_OK
    tell(f"{'hidden' if plan.recipe is not None else 'shown'}: {shown(str(written))}")
    if advice:
        tell(f"{advice['purpose']}: {advice['advice']}")
    recoded = [RECODED.format(1)] if plan.recipe is not None and outcome.task.kind in {"jpeg", "bmp"} else []
    for warning in (*report.warnings, *recoded):
        tell(warning, error=True)
    return EXIT_OK


def _verify(arguments: argparse.Namespace) -> int:
    from crypto.commands.tell import print_json, tell_check  # noqa: PLC0415
    from crypto.files.header import ELSEWHERE  # noqa: PLC0415
    from crypto.tree.either import check_jobs, is_folder  # noqa: PLC0415
    from crypto.tree.tasks import MOVED  # noqa: PLC0415
    from crypto.tree.verify import verify_file, verify_tree  # noqa: PLC0415
    from medveil.plain import shown  # noqa: PLC0415

    check_jobs(arguments.jobs)
    source = Path(arguments.source)
    is_tree = is_folder(source)
    keys = open_keyring(arguments)
    if is_tree:
        result = verify_tree(source, keys, jobs=arguments.jobs)
        tell_check(source, result, as_json=arguments.json)
        return _code(source, result)
    place = verify_file(source, keys)
    if arguments.json:
        print_json({"action": "verify", "file": arguments.source, "whole": True, "place": place})
        return EXIT_OK
    tell(f"whole: {shown(arguments.source)}")
    if place == ELSEWHERE:
        tell(f"it {MOVED}", error=True)
    return EXIT_OK


def _show(arguments: argparse.Namespace) -> int:
    from crypto.commands.tell import tell_header, tell_sealed  # noqa: PLC0415
    from crypto.files.sealing import sealed_fingerprint  # noqa: PLC0415
    from crypto.tree.said import header_of, identity_in  # noqa: PLC0415

    path = Path(arguments.file)
    header = header_of(path)
    if header is None:
        tell_sealed(arguments.file, sealed_fingerprint(path), as_json=arguments.json)
    else:
        tell_header(arguments.file, header, identity_in(path, header), as_json=arguments.json)
    return EXIT_OK


def open_keyring(arguments: argparse.Namespace) -> Keyring:
    """Open the keys that `--key` names, with the passphrase from wherever it comes.

    Raises
    ------
    KeyMaterialError, FormatError, IntegrityError, StorageError
        As `crypto.keyfile.load_keyring`.
    """
    from crypto.keyfile import load_keyring  # noqa: PLC0415
    from crypto.passphrase import read_passphrase  # noqa: PLC0415

    return load_keyring(arguments.key, read_passphrase(arguments.passphrase_file))
