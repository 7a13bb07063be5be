"""`audit`, as `medveil-server` and `medveil-site` have it: looking through one's own log, and handing over heads."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medveil.cli import add_json, subcommand
from medveil.errors import EXIT_OK, ConfigError, IntegrityError, StorageError
from medveil.plain import tell, tell_block, tell_json, tell_result

if TYPE_CHECKING:
    from medveil.audit import AuditLog
    from medveil.audit_heads import KeysOf
    from medveil.signing import SigningKey

LogOf = Callable[[argparse.Namespace], "tuple[AuditLog, str]"]
"""The log that a command's arguments mean, and what others file its heads under."""
KeyOf = Callable[[argparse.Namespace], "SigningKey"]
"""The key that signs for the owner of that log."""
KnownTo = Callable[[argparse.Namespace], "KeysOf"]
"""By which keys others are known to that owner."""


def add_audit(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    *,
    program: str,
    log_of: LogOf,
    key_of: KeyOf,
    known_to: KnownTo,
    heads_option: str,
    choose: Callable[[argparse.ArgumentParser], object],
) -> None:
    """Add `audit verify`, `audit head` and `audit heads` to a program.

    Parameters
    ----------
    program
        As typed.
    log_of
        Finds the log.
    key_of, known_to
        What signs its heads of others, and what verifies others' heads of it.
    heads_option
        Option of `verify` that names a file of heads.
    choose
        Adds the option that says which consortium or site.
    """
    text = "Look through the audit log; what was changed, cut, moved or put in is named by its line."
    made = commands.add_parser(
        "audit", help=text, description=text, epilog=f"example: {program} audit verify", allow_abbrev=False
    )
    inner = made.add_subparsers(required=True, metavar="COMMAND")

    verify = subcommand(inner, "verify", text=text, example=f"{program} audit verify {heads_option} heads.json")
    verify.add_argument(
        heads_option,
        dest="heads",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="heads of this log that others kept, as their 'audit heads' wrote them: they show a cut or rewritten end",
    )
    verify.add_argument(
        "--log", dest="logs", type=Path, action="append", default=[], metavar="FILE", help="a log that was moved away"
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(command=lambda arguments: _verify(arguments, log_of, known_to))

    text = "Print how far the log has come: LOG:NUMBER:DIGEST."
    head = subcommand(inner, "head", text=text, example=f"{program} audit head")
    add_json(head)
    head.set_defaults(command=lambda arguments: _head(arguments, log_of))

    text = "Write the heads of others that this log holds, signed; it must be whole."
    heads = subcommand(inner, "heads", text=text, example=f"{program} audit heads --out heads.json")
    heads.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON; nothing in it is secret")
    add_json(heads)
    heads.set_defaults(command=lambda arguments: _heads(arguments, log_of, key_of))
    for each in (verify, head, heads):
        choose(each)


def _verify(arguments: argparse.Namespace, log_of: LogOf, known_to: KnownTo) -> int:
    from medveil.audit_heads import load_heads  # noqa: PLC0415
    from medveil.audit_verify import compare, verify  # noqa: PLC0415

    log, filed = log_of(arguments)
    found = [verify(path) for path in _at_hand(log, arguments.logs)]
    for path in arguments.heads:
        kept = load_heads(path, owner=filed, keys_of=known_to(arguments))
        compare(found, kept.heads, kept_by=kept.kept_by)
        found[0].notes.append(kept.note)
    if arguments.json:
        tell_json([each.as_data() for each in found])
    else:
        tell_block("\n".join(each.as_text() for each in found))
        if not log.path.exists():
            tell(f"{log.path}: no such file; nothing was written down since")
    broken = next((each for each in found if not each.whole), None)
    if broken is not None:
        cure = "keep the file as it is, and find out who could write it"
        raise IntegrityError(f"is not whole: {broken.problems[0]}", where=broken.path, cure=cure)
    return EXIT_OK


def _at_hand(log: AuditLog, moved_away: list[Path]) -> list[Path]:
    if log.path.exists():
        return [log.path, *moved_away]
    if not moved_away:
        cure = "the first record makes it; if it was moved away, name where to with --log"
        raise StorageError("there is no log", where=log.path, cure=cure)
    return moved_away


def _head(arguments: argparse.Namespace, log_of: LogOf) -> int:
    log, _ = log_of(arguments)
    head = log.head()
    if head is None:
        raise ConfigError("nothing was written down yet", where=log.path)
    tell_result(dataclasses.asdict(head), head, as_json=arguments.json)
    return EXIT_OK


def _heads(arguments: argparse.Namespace, log_of: LogOf, key_of: KeyOf) -> int:
    from medveil.audit_heads import kept_in, save_heads  # noqa: PLC0415
    from medveil.audit_verify import verify  # noqa: PLC0415

    log, _ = log_of(arguments)
    found = verify(log.path)
    if not found.whole:
        raise IntegrityError(f"is not whole: {found.problems[0]}", where=log.path, cure="it can vouch for nobody")
    kept = kept_in(found.records)
    save_heads(arguments.out, kept, kept_by=log.owner, key=key_of(arguments))
    rows = {owner: {"heads": len(each), "newest": each[-1].sequence} for owner, each in sorted(kept.items())}
    lines = [f"{owner}: {row['heads']} heads, the newest of record {row['newest']}" for owner, row in rows.items()]
    tell_result({"file": str(arguments.out), "heads": rows}, *lines, as_json=arguments.json)
    return EXIT_OK
