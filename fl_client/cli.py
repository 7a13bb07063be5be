"""`medveil-site`: a hospital's part in a consortium, from its keys to its work."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fl_client.commands import disclosing, join, model, pacs, sealing, serve, stores
from fl_client.commands.common import DEFAULT, PROG, site_of
from medveil.audit_commands import add_audit
from medveil.cli import parser, run_command
from medveil.kits import SITE, add_kit

if TYPE_CHECKING:
    from medveil.audit import AuditLog
    from medveil.audit_heads import KeysOf
    from medveil.signing import SigningKey

_ADD = (
    join.add_rejoin,
    join.add_check,
    join.add_approve,
    join.add_approve_roster,
    serve.add_start,
    serve.add_status,
    serve.add_metrics,
    serve.add_stop,
    pacs.add_cohort,
    pacs.add_pull,
    model.add_predict,
    model.add_export,
    model.add_models,
    disclosing.add_disclose,
    stores.add_stores,
    sealing.add_seal,
    sealing.add_unseal,
    functools.partial(add_kit, role=SITE, chosen="site"),
)


def main(argv: list[str] | None = None) -> int:
    """Run a `medveil-site` command.

    Returns
    -------
    int
        0 ok, 2 usage or configuration, 3 data or disk, 4 key, 5 network, 6 finished in part, 128 and the
        signal where one ended it (130 Ctrl-C, 143 SIGTERM).
    """
    return run_command(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    made = parser(PROG, "One hospital of a consortium.", f"{PROG} enroll --name st-anna --out enrol")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    join.add_enroll(commands)
    for add in _ADD:
        _choose(add(commands))
    add_audit(
        commands,
        program=PROG,
        log_of=_audit,
        key_of=_key,
        known_to=_known,
        heads_option="--countersigned",
        choose=_choose,
    )
    return made


def _choose(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--site", type=Path, default=DEFAULT, metavar="FILE", help=f"the site's file (default: {DEFAULT})"
    )


def _audit(arguments: argparse.Namespace) -> tuple[AuditLog, str]:
    from medveil.audit_heads import site  # noqa: PLC0415

    files = site_of(arguments)
    return files.audit, site(files.config.name)


def _key(arguments: argparse.Namespace) -> SigningKey:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.commands.common import Passphrases  # noqa: PLC0415
    from fl_client.deployment.signatures import open_identity, refuse_unsigned  # noqa: PLC0415

    files = site_of(arguments)
    refuse_unsigned(files)
    return open_identity(files, Passphrases(read_passphrase))


def _known(arguments: argparse.Namespace) -> KeysOf:
    config = site_of(arguments).config
    # As a server counts each identity a site ever had.
    keys = [key for key in (config.server_key, *config.former_server_keys) if key]
    return lambda owner: keys if owner.startswith("server ") else []


if __name__ == "__main__":
    sys.exit(main())
