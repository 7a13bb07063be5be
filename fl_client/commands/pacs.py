"""Images from a hospital's PACS: counting what a query finds, and pulling it, sealed, for runs to train on."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_client.commands.common import PROG, Commands, Passphrases, confirm, refuse_while_running, site_of
from medveil.cli import add_json, subcommand
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_block, tell_json, tell_result

if TYPE_CHECKING:
    from fl_client.data.config import DataConfig
    from fl_client.deployment.own_files import OwnFiles
    from fl_client.dicomweb.cohort import Cohort
    from fl_client.dicomweb.pulled import PulledList

NEEDS = ("dicomweb_client", "requests")


def add_cohort(commands: Commands) -> argparse.ArgumentParser:
    """Add `cohort`."""
    made = subcommand(
        commands,
        "cohort",
        text="Count what a query finds in the PACS: images, series, studies, patients, images of each label. Nothing "
        "is retrieved; small counts are not shown.",
        example=f"{PROG} cohort --query modality=DX dates=20240101-20241231",
    )
    made.add_argument(
        "--query", nargs="+", metavar="KEY=VALUE", default=[], help="settings of data.query in place of the site's own"
    )
    made.add_argument("--server", type=Path, metavar="FILE", help="the server's file (default: the site's data.path)")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(command=_do_cohort)
    return made


def _do_cohort(arguments: argparse.Namespace) -> int:
    from fl_client.dicomweb.counting import counts_of, table_of  # noqa: PLC0415
    from fl_client.dicomweb.pulling import find  # noqa: PLC0415
    from fl_client.dicomweb.session import PacsSession  # noqa: PLC0415

    files, where = site_of(arguments), f"{PROG} cohort"
    data = _asked(files, arguments, where)
    cohort = _cohort(data, where)
    with PacsSession(cohort.server) as session:
        found, skipped = find(cohort, session)
    counts = counts_of(found, skipped, cohort.labels, smallest=files.config.limits.smallest_count)
    if arguments.json:
        tell_json(counts)
    else:
        tell_block(table_of(counts))
    return EXIT_OK


def _asked(files: OwnFiles, arguments: argparse.Namespace, where: str) -> DataConfig:
    """The site's images, but for what was asked on the command line."""
    from fl_client.data.config import NO_LABELS  # noqa: PLC0415
    from fl_client.dicomweb.query import QueryConfig  # noqa: PLC0415
    from medveil.config import load_config  # noqa: PLC0415

    data = files.data
    if arguments.server is not None:
        # Another server need have no image of the site's table.
        data = dataclasses.replace(data, path=str(arguments.server.absolute()), labels=NO_LABELS)
    elif data.source != "dicomweb":
        problem = "this site's images come from no PACS"
        raise ConfigError(problem, where=where, cure="name the server's file with --server")
    if arguments.query:
        query = load_config(QueryConfig, overrides=arguments.query)
        # A query of one's own need not be of the site's table.
        data = dataclasses.replace(data, query=query, labels=NO_LABELS)
    return data


def add_pull(commands: Commands) -> argparse.ArgumentParser:
    """Add `pull`."""
    made = subcommand(
        commands,
        "pull",
        text="Pull the images of this site's query from its PACS and seal each under the site's key; cut short, it "
        "goes on where it was. Runs train on what was pulled, and ask no PACS.",
        example=f"{PROG} pull",
    )
    made.add_argument(
        "--plain", type=Path, metavar="DIR", help="also write what was pulled as plain DICOM files into this new folder"
    )
    made.add_argument("--remove", action="store_true", help="remove what was pulled instead")
    made.add_argument("--yes", action="store_true", help="do not ask before removing")
    add_json(made)
    made.set_defaults(command=_do_pull)
    return made


def _do_pull(arguments: argparse.Namespace) -> int:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.data.dicomweb import pulled_of  # noqa: PLC0415
    from fl_client.data.documents import Documents  # noqa: PLC0415
    from fl_client.deployment.own_keys import open_keys  # noqa: PLC0415
    from fl_client.dicomweb.plain import refuse_plain, write_plain  # noqa: PLC0415
    from fl_client.dicomweb.pulling import pull  # noqa: PLC0415
    from fl_client.dicomweb.session import PacsSession  # noqa: PLC0415

    files, where = site_of(arguments), f"{PROG} pull"
    if files.config.data.source != "dicomweb":
        raise ConfigError("this site's images come from no PACS", where=where, cure="data.source: dicomweb")
    refuse_while_running(files, where=where, doing="trains on what was pulled")
    if arguments.remove:
        return _remove(files, asked=not arguments.yes, as_json=arguments.json)
    cohort = _cohort(files.data, where)
    if arguments.plain is not None:
        refuse_plain(arguments.plain)
    ring = open_keys(files, Passphrases(read_passphrase), serving=False).own
    pulled = pulled_of(files.data, Documents.of(files.own, ring.current, ring.retired))
    files.audit.append("pull-began", query=cohort.digest())
    with PacsSession(cohort.server) as session:
        made = pull(cohort, pulled, session, progress=_progress)
    files.audit.append("pulled", query=cohort.digest(), images=len(made.instances), skipped=len(made.skipped))
    found, line = _said(made)
    lines = [line]
    if arguments.plain is not None:
        write_plain(pulled, made, arguments.plain)
        found |= {"plain": str(arguments.plain)}
        lines += [f"{arguments.plain}: the same as plain files, with the patients' names: remove it when done with it"]
    tell_result(found, *lines, as_json=arguments.json)
    return EXIT_PARTIAL if made.missed else EXIT_OK


def _remove(files: OwnFiles, *, asked: bool, as_json: bool) -> int:
    from fl_client.data.named import source_name  # noqa: PLC0415
    from fl_client.dicomweb.pulled import remove_pulled  # noqa: PLC0415

    if asked:
        confirm("remove all that was pulled from the PACS?", where=f"{PROG} pull --remove")
    files.audit.append("pulled-removed")
    removed = remove_pulled(files.own, source_name(files.data))
    said = f"removed: {removed} files" if removed else "nothing was pulled here"
    tell_result({"removed_files": removed}, said, as_json=as_json)
    return EXIT_OK


def _cohort(data: DataConfig, where: str) -> Cohort:
    from fl_client.dicomweb.cohort import cohort_of  # noqa: PLC0415
    from fl_client.dicomweb.server import read_server  # noqa: PLC0415

    refuse_without(where)
    return cohort_of(data, read_server(Path(str(data.path))))


def refuse_without(where: str) -> None:
    """Refuse where the extra is not installed (ConfigError)."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        cure = "install the extra: pip install 'medveil[dicomweb]'"
        raise ConfigError(f"needs {' and '.join(missing)}", where=where, cure=cure)


def _progress(done: int, total: int) -> None:
    tell(f"{done} of {total} images", error=True)


def _said(made: PulledList) -> tuple[dict[str, Any], str]:
    """What was pulled, for a program and for people; what was left out is told aside."""
    from fl_client.data.items import by_reason  # noqa: PLC0415

    size = sum(each.size for each in made.instances)
    frames = sum(each.frames for each in made.instances)
    more = "" if frames == len(made.instances) else f" with {frames} frames"
    for told in by_reason(made.skipped):
        tell(f"left out {told}", error=True)
    if made.unmatched:
        tell(f"{made.unmatched} labels are of no image that was pulled", error=True)
    found = {"images": len(made.instances), "frames": frames, "bytes": size, "left_out": len(made.skipped)}
    found |= {"labels_without_images": made.unmatched}
    return found, f"pulled {len(made.instances)} images{more}, {size / 1e6:.1f} MB, sealed under this site's key"
