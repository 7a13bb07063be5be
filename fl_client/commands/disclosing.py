"""Disclosing what an update or a model gives away, before it leaves; and verifying what a site disclosed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fl_client.commands.common import PROG, Commands, Passphrases, site_of
from medveil.cli import subcommand
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, IntegrityError
from medveil.plain import tell, tell_json
from medveil.times import moment

if TYPE_CHECKING:
    from fl_client.deployment.own_files import OwnFiles
    from fl_client.disclosure.document import Disclosure
    from fl_client.disclosure.make import Effort
    from fl_client.disclosure.subject import Subject

_WHERE = f"{PROG} disclose"
_MOST_MINUTES, _MOST_KEYS = 1440.0, 100


def add_disclose(commands: Commands) -> argparse.ArgumentParser:
    """Add `disclose`."""
    made = subcommand(
        commands,
        "disclose",
        text="Try attacks on this site's own images under a run's settings, and sign what came of them.",
        example=f"{PROG} disclose --run 0f2c7cf0 --out report.html",
    )
    chosen = made.add_mutually_exclusive_group()
    chosen.add_argument(
        "--run",
        metavar="RUN",
        help="first characters of a run that was asked of this site, and of the model kept of it, if there is one "
        "(default: the newest)",
    )
    chosen.add_argument("--model", type=Path, metavar="DIR", help="an exported model of this site's instead")
    chosen.add_argument(
        "--verify", type=Path, metavar="FILE", help="see whether a page or document is as its site signed it"
    )
    made.add_argument("--key", type=Path, metavar="FILE", help="with --verify: another site's .pub file")
    made.add_argument("--out", type=Path, metavar="FILE", help="the page, FILE.html; its document goes beside it")
    made.add_argument("--minutes", type=float, default=30.0, metavar="N", help="budget by the clock (default: 30)")
    made.add_argument("--keys", type=int, default=3, metavar="N", help="keys of each attack, at most (default: 3)")
    made.add_argument("--json", action="store_true", help="print the document as JSON")
    made.set_defaults(command=_do_disclose)
    return made


def _do_disclose(arguments: argparse.Namespace) -> int:
    if arguments.verify is not None:
        return _verify(arguments)
    if arguments.key is not None:
        raise ConfigError("--key without --verify", where=_WHERE, cure="a site signs with its own identity")
    _check(arguments)
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment.signatures import open_identity, refuse_unsigned  # noqa: PLC0415
    from fl_client.disclosure.make import Effort, check_out, disclose  # noqa: PLC0415

    files = site_of(arguments)
    refuse_unsigned(files)
    check_out(arguments.out)
    passphrases = Passphrases(read_passphrase)
    # First what can be refused in a second: an hour of attacks is not for a passphrase that is wrong.
    identity = open_identity(files, passphrases)
    subject = _subject(files, arguments, passphrases)
    effort = Effort(minutes=arguments.minutes, keys=arguments.keys)
    tell(f"trying attacks for {arguments.minutes:g} minutes at most", error=True)
    made = disclose(files, identity, subject, arguments.out, effort=effort)
    _tell(made, arguments, effort)
    return EXIT_PARTIAL if made.unfinished or not made.counts else EXIT_OK


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is None or arguments.out.suffix != ".html":
        raise ConfigError("needs --out FILE.html", where=_WHERE, cure="for example --out report.html")
    if not 0 < arguments.minutes <= _MOST_MINUTES:
        raise ConfigError(f"is {arguments.minutes:g}", where="--minutes", cure=f"above 0, at most {_MOST_MINUTES:g}")
    if not 1 <= arguments.keys <= _MOST_KEYS:
        raise ConfigError(f"is {arguments.keys}", where="--keys", cure=f"1 to {_MOST_KEYS}")


def _subject(files: OwnFiles, arguments: argparse.Namespace, passphrases: Passphrases) -> Subject:
    from fl_client.disclosure.subject import Subject, asked_or_kept, exported, model_digest  # noqa: PLC0415

    if arguments.model is not None:
        return exported(files, arguments.model)
    run, path = asked_or_kept(files, arguments.run)
    if path is None:
        assert run is not None
        if run.counted is not None:
            raise ConfigError("the run counts images: it has no update and no model", where=_WHERE, cure="another run")
        return Subject(run, None)
    from fl_client.deployment.own_keys import open_keys  # noqa: PLC0415
    from fl_client.export.kept import open_kept  # noqa: PLC0415

    keys = open_keys(files, passphrases, serving=False)
    kept = open_kept(path, keys.own)

    def hand(folder: Path) -> None:
        from fl_client.export.write import export_plain  # noqa: PLC0415 - timm is slow to import

        export_plain(kept, keys, folder)

    return Subject(kept.run if run is None else run, model_digest(kept), hand)


def _tell(made: Disclosure, arguments: argparse.Namespace, effort: Effort) -> None:
    from fl_client.disclosure.make import SHORT_MINUTES  # noqa: PLC0415

    if arguments.json:
        tell_json(made.document)
        return
    about = made.document["about"]
    tell(f"run {about['run']}: {made.said}")
    for each in made.document["untried"]:
        if each["attack"] in made.unfinished:
            tell(f"{each['attack']} {each['kind']}: {each['reason']}", error=True)
    if made.broken and effort.short:
        tell(
            f"attacks ran with the effort of a trial; --minutes {SHORT_MINUTES:g} and more run them in full", error=True
        )
    tell(f"page: {arguments.out}; signed, and in the audit log as {made.digest}")
    if not made.counts:
        what = "no attack that works was tried" if made.tried else "nothing was tried"
        tell(f"{what}: this counts for nothing; give it more --minutes", error=True)


def _verify(arguments: argparse.Namespace) -> int:
    from fl_client.disclosure.document import PAGE, check_signed, read_disclosure  # noqa: PLC0415
    from medveil.files import read_bytes  # noqa: PLC0415

    path: Path = arguments.verify
    found = read_disclosure(path)
    page = path.with_suffix(PAGE)
    shown = read_bytes(page) if page.is_file() else None
    if arguments.key is not None:
        from medveil.node_keys import load_public  # noqa: PLC0415

        check_signed(found, load_public(arguments.key).identity, where=path, page=shown)
        told = f"signed by the identity of {arguments.key.name}"
    else:
        from fl_client.deployment.roster import own_identity  # noqa: PLC0415

        files = site_of(arguments)
        check_signed(found, own_identity(files), where=path, page=shown)
        told = f"signed by {files.config.name}, {_logged(files, found)}"
    if arguments.json:
        tell_json(found.document)
        return EXIT_OK
    tell(f"{path}: {told}; page {'as it was signed' if shown is not None else 'not at hand'}")
    tell(f"made {moment(found.document['made'])} of run {found.document['about']['run']}: {found.said}")
    return EXIT_OK


def _logged(files: OwnFiles, found: Disclosure) -> str:
    """Which record of the site's log holds it (IntegrityError where none does, or the log was changed)."""
    from fl_client.disclosure.make import DISCLOSED  # noqa: PLC0415
    from medveil.audit_verify import verify  # noqa: PLC0415

    log = files.audit.path
    read = verify(log)
    if not read.whole:
        raise IntegrityError(f"is not whole: {read.problems[0]}", where=log, cure=f"see '{PROG} audit verify'")
    for each in read.records:
        if each["event"] == DISCLOSED and each["details"].get("document") == found.digest:
            return f"record {each['sequence']} of its audit log"
    problem = "no record of it is in the audit log"
    raise IntegrityError(problem, where=log, cure="a log that was moved away may hold it: 'audit verify --log FILE'")
