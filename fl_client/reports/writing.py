"""Reports of a model's answers: which images go into which, and the folder they are written to."""

from __future__ import annotations

import importlib.util
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from crypto.reading.dicom_quiet import quiet
from fl_client.data.base import Skipped
from fl_client.data.items import said
from fl_client.export.described import Description
from fl_client.export.predicting import Answers, write_missed
from fl_client.export.ready import Ready
from fl_client.export.write import refuse_folder
from fl_client.reports.codes import Codes, read_codes
from fl_client.reports.subjects import Instance, instance_of
from medveil.errors import ConfigError, DataError, MedVeilError
from medveil.files import new_folder, write_bytes
from models.hashes import model_hash

NEEDS = ("highdicom",)
IMAGE, SERIES = "image", "series"
PER = (IMAGE, SERIES)


@dataclass(frozen=True)
class Asking:
    """What is asked for in reports.

    Parameters
    ----------
    folder
        Where they go: new or empty.
    codes
        The file of coded concepts.
    per
        ``"image"``: a report for each file, with all its frames; ``"series"``: one for each series.
    server
        The file of a DICOMweb server they are sent to as well; None sends them nowhere.
    """

    folder: Path
    codes: Path
    per: str = IMAGE
    server: Path | None = None


class Reported(NamedTuple):
    """How many reports there are, of how many images, and of what there is none, with the reason."""

    reports: int
    images: int
    skipped: list[Skipped]


class _Seen(NamedTuple):
    """An image that a report is to be about: its id, row among the answers, and what its file says of it."""

    id: str
    row: int
    frame: int
    instance: Instance


def check_asking(asking: Asking, ready: Ready) -> Codes:
    """Refuse, before any image is read, what no report can be made of (errors of `read_codes` and of the folder)."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        cure = "install the extra: pip install 'medveil[sr]'"
        raise ConfigError(f"needs {' and '.join(missing)}", where="--dicom-sr", cure=cure)
    refuse_folder(asking.folder)
    return read_codes(asking.codes, ready.described.classes)


def write_reports(
    asking: Asking, codes: Codes, ready: Ready, answers: Answers, *, beside: Path, views: int, level: str
) -> Reported:
    """Write a report of each image or series that answers are about, each named by its own UID.

    Parameters
    ----------
    beside
        Where to write what got none, and why; written also where all did.
    views, level
        Of each image that an answer is the mean of, and how they were augmented.

    Raises
    ------
    DataError
        There is nothing a report could be about.
    StorageError
        The disk refuses; then no report is left.
    """
    # highdicom takes a moment to load.
    from highdicom import UID  # noqa: PLC0415

    from fl_client.reports.documents import Algorithm, Finding, document  # noqa: PLC0415

    skipped: list[Skipped] = []
    algorithm = Algorithm(*_named(ready, views, level))
    # What one call makes of a study is one series there.
    series: defaultdict[str, str] = defaultdict(UID)
    reports = images = 0
    # Warnings of pydicom and highdicom quote names of patients.
    with quiet(), new_folder(asking.folder, mode=0o700) as folder:
        for group in _grouped(_seen(answers, skipped), asking.per):
            findings = [Finding(each.instance, each.frame, answers.probabilities[each.row].tolist()) for each in group]
            try:
                _refuse_others(group)
                report = document(
                    findings,
                    ready.described.classes,
                    codes,
                    algorithm,
                    series=series[group[0].instance.subject["StudyInstanceUID"]],
                    number=reports + 1,
                )
            except DataError as error:
                skipped += [Skipped(each.id, said(error)) for each in group]
                continue
            stream = io.BytesIO()
            report.save_as(stream, enforce_file_format=True)
            write_bytes(folder / f"{report.SOPInstanceUID}.dcm", stream.getvalue(), mode=0o600)
            reports, images = reports + 1, images + len(group)
        write_missed(skipped, beside)
        if not reports:
            raise DataError("no image got a report", where=asking.folder, cure=f"see {beside}")
    return Reported(reports, images, skipped)


def _named(ready: Ready, views: int, level: str) -> tuple[str, str, tuple[str, ...]]:
    """Name, version and parameters of the model."""
    made: Description = ready.described
    parameters = (
        f"model SHA-256: {model_hash(ready.model)}",
        f"architecture: {made.architecture}",
        f"classes: {', '.join(made.classes)}",
        f"temperature: {made.temperature:.6f}",
        f"views averaged: {views}" + (f", augmented at level {level}" if views > 1 else ""),
        f"trained with MedVeil {made.medveil}",
    )
    return made.name, f"run {made.run}, round {made.round}", parameters


def _seen(answers: Answers, skipped: list[Skipped]) -> Iterator[_Seen]:
    """The images a report can be about; of the others, why there is none."""
    last: tuple[Path, Instance | MedVeilError] | None = None
    taken: dict[str, Path] = {}
    for row, (name, place) in enumerate(zip(answers.ids, answers.places, strict=True)):
        if last is None or last[0] != place.path:
            try:
                instance = instance_of(place)
                if taken.setdefault(instance.uid, place.path) != place.path:
                    raise DataError("is the same instance as another file", cure="remove one of the two")
                last = place.path, instance
            except MedVeilError as error:
                last = place.path, error
        found = last[1]
        if isinstance(found, MedVeilError):
            skipped.append(Skipped(name, said(found)))
        else:
            yield _Seen(name, row, place.frame, found)


def _grouped(seen: Iterable[_Seen], per: str) -> Iterator[Sequence[_Seen]]:
    groups: dict[tuple[str, str, str], list[_Seen]] = {}
    for each in seen:
        instance = each.instance
        key = (instance.subject["StudyInstanceUID"], instance.series, "" if per == SERIES else instance.uid)
        groups.setdefault(key, []).append(each)
    yield from groups.values()


def _refuse_others(group: Sequence[_Seen]) -> None:
    """Refuse one report of images that name several patients, or describe their study otherwise (DataError)."""
    first = group[0].instance.subject
    differ = sorted({name for each in group for name in first if each.instance.subject[name] != first[name]})
    if differ:
        problem = f"images of its series differ in {', '.join(differ)}"
        raise DataError(problem, cure="a report is of one patient and study: correct them, or leave out --sr-per")
