"""`medveil-server`: a consortium's server, from its certificates to its runs."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fl_server.commands import provision, run, serve
from fl_server.commands.common import DEFAULT, PROG, consortium_of
from medveil.audit_commands import add_audit
from medveil.cli import parser, run_command
from medveil.kits import SERVER, add_kit

if TYPE_CHECKING:
    from medveil.audit import AuditLog
    from medveil.audit_heads import KeysOf
    from medveil.signing import SigningKey

_ADD = (
    provision.add_renew,
    provision.add_admit,
    provision.add_revoke,
    provision.add_list,
    provision.add_roster,
    serve.add_start,
    run.add_run,
    run.add_resume,
    serve.add_status,
    serve.add_metrics,
    serve.add_stop,
    functools.partial(add_kit, role=SERVER, chosen="consortium"),
)


def main(argv: list[str] | None = None) -> int:
    """Run a `medveil-server` command.

    Returns
    -------
    int
        0 ok, 2 usage or configuration, 3 disk, 5 federation, 6 finished in part, 128 and the
        signal where one ended it (130 Ctrl-C, 143 SIGTERM).
    """
    return run_command(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    made = parser(PROG, "The server of a consortium of hospitals.", f"{PROG} init consortium.yaml")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    provision.add_init(commands)
    for add in _ADD:
        _choose(add(commands))
    add_audit(
        commands,
        program=PROG,
        log_of=_audit,
        key_of=_key,
        known_to=_known,
        heads_option="--heads",
        choose=_choose,
    )
    return made


def _choose(made: argparse.ArgumentParser) -> None:
    chosen = f"the consortium's file (default: {DEFAULT})"
    made.add_argument("--consortium", type=Path, default=DEFAULT, metavar="FILE", help=chosen)


def _audit(arguments: argparse.Namespace) -> tuple[AuditLog, str]:
    from medveil.audit_heads import SERVER  # noqa: PLC0415

    return consortium_of(arguments).audit, SERVER


def _key(arguments: argparse.Namespace) -> SigningKey:
    from medveil.signing import load_signing_key  # noqa: PLC0415

    return load_signing_key(consortium_of(arguments).signing_key)


def _known(arguments: argparse.Namespace) -> KeysOf:
    from fl_server.deployment.roster import Roster  # noqa: PLC0415
    from medveil.audit_heads import site  # noqa: PLC0415

    # Of a site that was revoked and came back, each identity it ever had: its old heads count as well.
    members = Roster(consortium_of(arguments).roster).members()
    return lambda owner: [each.identity for each in members if each.identity and site(each.name) == owner]


if __name__ == "__main__":
    sys.exit(main())
