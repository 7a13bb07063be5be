"""Asking a model about images at a terminal: its answers in a CSV, and in words what could not be read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fl_client.data.base import Skipped
from fl_client.export.described import otherwise_of
from fl_client.export.kept import KeptModel
from fl_client.export.predicting import Answers, predict_files, write_answers, write_missed
from fl_client.export.ready import Ready
from fl_client.looked.asking import check_page, write_page
from fl_client.reports.codes import Codes
from fl_client.reports.writing import Asking, check_asking, write_reports
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, DataError
from medveil.paths import check_writable
from medveil.plain import tell, tell_result
from medveil.predicting import check_level, check_views

if TYPE_CHECKING:
    from fl_client.dicomweb.server import Server
    from fl_client.dicomweb.session import PacsSession

_SHOWN = 3


def ask(
    ready: Ready,
    images: Path,
    out: Path,
    *,
    device: torch.device,
    named: str,
    views: int | None = None,
    level: str | None = None,
    reports: Asking | None = None,
    as_json: bool = False,
    page: Path | None = None,
) -> int:
    """Ask a model about a file or all files below a folder, write the answers and say what came of it.

    Parameters
    ----------
    named
        The model, in words.
    views
        Views of each image whose probabilities are averaged; None: as many as the model's run measured it with.
    level
        Of the augmentation of those after the first; None: that of the model's run.
    reports
        What DICOM reports are to be written of the answers.
    as_json
        Say what came of it as one JSON document.
    page
        Where some of the images are to be shown with what was answered; None for nowhere.

    Returns
    -------
    int
        The exit code: 0, or 6 where some images could not be read or reported.

    Raises
    ------
    ConfigError
        No report can be made as it is asked for; no image is read then.
    StorageError
        A file cannot be written; it is refused before an image is read where that shows.
    DataError
        No image could be read, or none reported.
    """
    check_writable(out)
    views = ready.described.views if views is None else views
    level = ready.described.level if level is None else level
    _check(ready, views, level)
    codes = None if reports is None else check_asking(reports, ready)
    if page is not None:
        check_page(ready, page)
        check_writable(page)
    # Before any image is read: where the reports go, and that this site has what lets it in.
    door = None if reports is None or reports.server is None else _door(reports.server)
    if ready.described.otherwise:
        tell(f"warning: {named}: {ready.described.otherwise}", error=True)
    answers = _answers(ready, images, device=device, views=views, level=level)
    beside = write_answers(answers, ready.described.classes, out)
    _tell(answers.skipped, "could not be read", beside)
    _tell(answers.no_images, "files are no images" if len(answers.no_images) > 1 else "file is no image", beside)
    if not answers.ids:
        raise DataError(_none_of(answers), where=images, cure=f"see {beside}")
    fitted = ready.described.temperature
    how = f"calibrated at temperature {fitted:.4f}" if fitted != 1 else "as the model gives them (temperature 1)"
    mean = f", each the mean of {views} views at level {level}" if views > 1 else ""
    lines = [f"{out}: {len(answers.ids)} images, by {named}; probabilities {how}{mean}"]
    found: dict[str, Any] = {"file": str(out), "images": len(answers.ids), "model": named, "temperature": fitted}
    found |= {"views": views, "level": level, "unread": len(answers.skipped), "no_images": len(answers.no_images)}
    if page is not None:
        shown = write_page(ready, answers, page, named=named, device=device)
        lines.append(f"{page}: {shown} of the images as they are, with what was answered; for this site alone")
        found |= {"page": str(page), "shown": shown}
    missed = [*answers.skipped]
    if reports is not None and codes is not None:
        unreported, said = _report(reports, codes, ready, answers, out, views=views, level=level)
        unsent, sent = ([], {}) if door is None else _send(*door, reports.folder, out)
        missed += [*unreported, *unsent]
        lines += [each.pop("line") for each in (said, sent) if each]
        found |= said | sent
    tell_result(found, *lines, as_json=as_json)
    return EXIT_PARTIAL if missed else EXIT_OK


def _report(
    reports: Asking, codes: Codes, ready: Ready, answers: Answers, out: Path, *, views: int, level: str
) -> tuple[list[Skipped], dict[str, Any]]:
    """Write the reports; gives what none could be made of, and how many there are, with a line that says it."""
    beside = out.with_name(f"{out.stem}.unreported.csv")
    made = write_reports(reports, codes, ready, answers, beside=beside, views=views, level=level)
    _tell(made.skipped, "got no report", beside)
    counted = f"{made.reports} {'report' if made.reports == 1 else 'reports'} of {made.images} images"
    line = f"{reports.folder}: {counted}, with the patients' names; RESEARCH USE ONLY"
    told = {"reports": made.reports, "reports_folder": str(reports.folder), "unreported": len(made.skipped)}
    return made.skipped, {**told, "line": line}


def _door(file: Path) -> tuple[Server, PacsSession]:
    from fl_client.dicomweb.server import read_server  # noqa: PLC0415 - of an extra
    from fl_client.dicomweb.session import PacsSession  # noqa: PLC0415

    server = read_server(file)
    return server, PacsSession(server)


def _send(server: Server, session: PacsSession, folder: Path, out: Path) -> tuple[list[Skipped], dict[str, Any]]:
    """Send the reports; gives those that were not taken, and how many were, with a line that says it."""
    from fl_client.dicomweb.storing import store_reports  # noqa: PLC0415

    with session:
        sent, left = store_reports(server, session, folder)
    beside = out.with_name(f"{out.stem}.unsent.csv")
    write_missed(left, beside)
    _tell(left, "not stored by the server", beside)
    line = f"{server.url}: stored {sent} {'report' if sent == 1 else 'reports'}"
    return left, {"stored": sent, "unsent": len(left), "line": line}


def asked(ready: Ready, images: Path, *, device: torch.device, views: int | None = None) -> Answers:
    """A model's answers about a file or all files below a folder; nothing is written or said.

    Raises
    ------
    ConfigError
        Several views are asked for, and none can be made.
    DataError
        There is nothing there, or no image could be read.
    """
    views = ready.described.views if views is None else views
    _check(ready, views, ready.described.level)
    found = _answers(ready, images, device=device, views=views, level=ready.described.level)
    if not found.ids:
        raise DataError(_none_of(found), where=images, cure="name images to ask about")
    return found


def _check(ready: Ready, views: int, level: str) -> None:
    check_views(views, where="--views")
    check_level(level, where="--view-level")
    if views > 1 and ready.described.hidden_source is not None:
        problem = "no view can be made of images another party hid, and the model reads such"
        raise ConfigError(problem, where="--views", cure="leave it out")


def _answers(ready: Ready, images: Path, *, device: torch.device, views: int, level: str) -> Answers:
    with warnings.catch_warnings():
        # What pydicom warns of in files it reads all the same; it would stand between our own lines.
        warnings.simplefilter("ignore")
        return predict_files(ready, images, device=device, views=views, level=level)


def _none_of(answers: Answers) -> str:
    missed = len(answers.skipped)
    return f"none of {missed} images could be read" if missed else "holds no image"


def warn_of_preparation(kept: KeptModel) -> None:
    """Say of a model that is handed out that images are prepared in another way now than when it learned."""
    said = otherwise_of(kept.facts)
    if said:
        tell(f"warning: {said}", error=True)


def _tell(missed: list[Skipped], what: str, beside: Path) -> None:
    for each in missed[:_SHOWN]:
        # A file may be called anything, and this goes to a terminal.
        tell(f"{each.path}: {each.reason}", error=True)
    if missed:
        tell(f"{len(missed)} {what}; {beside} says why", error=True)
