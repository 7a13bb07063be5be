"""Pulling the images of a query, one after another, each sealed as it comes; cut short, it goes on where it was.

Nothing but this and counting asks a server: a run trains on what was pulled, so that it stands on the same images from
its first round to its last, whatever the PACS holds by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crypto.files.streams import decoding
from crypto.reading.dicom_quiet import quiet
from fl_client.data.base import Skipped
from fl_client.data.items import said
from fl_client.dicomweb.cohort import Cohort
from fl_client.dicomweb.pulled import Instance, Pulled, PulledList, new_name
from fl_client.dicomweb.retrieving import retrieve
from fl_client.dicomweb.searching import Found, reports_of, search
from fl_client.dicomweb.session import PacsSession
from fl_client.dicomweb.structured import Labelling, labels_of_report, merged
from fl_client.reports.codes import read_classes
from medveil.errors import DataError, MedVeilError, PacsError
from medveil.plain import shown

_IN_A_ROW = 5
"""Instances that a server fails to give one after another before it is taken for out of order."""
_EVERY = 500
Progress = Callable[[int, int], None]


def find(cohort: Cohort, session: PacsSession) -> tuple[list[Found], list[Skipped]]:
    """What the server has of a cohort; of images that a table labels, those alone. Errors as `search`."""
    found, skipped = search(cohort.server, session, cohort.query, only=cohort.only)
    if cohort.labels is None:
        return found, skipped
    labelled = [each for each in found if cohort.labels.of(each) is not None]
    left = [each for each in found if cohort.labels.of(each) is None]
    return labelled, [*skipped, *(Skipped(each.instance, f"no row of {cohort.labels.name} is of it") for each in left)]


def pull(cohort: Cohort, pulled: Pulled, session: PacsSession, *, progress: Progress | None = None) -> PulledList:
    """Pull what is not here yet.

    Parameters
    ----------
    progress
        Called with (instances here, instances in all).

    Raises
    ------
    PacsError
        The server is out of reach, does not let this site in, or fails again and again: what came is kept.
    DataError
        The query finds nothing, or more than is taken.
    """
    found, skipped = find(cohort, session)
    if not found:
        why = f" ({len(skipped)} left out: {skipped[0].reason})" if skipped else ""
        raise DataError(f"the query finds no image{why}", where=cohort.server.url, cure="see 'medveil-site cohort'")
    labels, unclear = _by_reports(cohort, session, found)
    unmatched = len((labels.keys() | unclear.keys()) - {each.instance for each in found})
    if cohort.reports:
        skipped += [
            Skipped(each.instance, unclear.get(each.instance, "no report labels it"))
            for each in found
            if each.instance not in labels
        ]
        found = [each for each in found if each.instance in labels]
        if not found:
            problem = f"no report labels any of {len(skipped)} images"
            raise DataError(problem, where=cohort.server.url, cure="see data.query.codes and data.query.unverified")
    before, digest = pulled.read(), cohort.digest()
    known = {} if before is None else {each.uid: each for each in before.instances}
    if before is not None and before.query != digest:
        # They are here, and whether they are what this query asks for is still to be seen.
        known = {uid: replace(each, sha256="") for uid, each in known.items()}
    wanted = [_wanted(each, known, labels) for each in found]
    # From here on a pull that is cut short knows which file is which.
    pulled.write(PulledList(digest, False, tuple(wanted), tuple(skipped)))
    pulled.sweep({each.uid: each for each in wanted})
    kept, left = _Pull(cohort, pulled, session, dict(zip((each.instance for each in found), found, strict=True))).all(
        wanted, progress
    )
    if cohort.labels is not None:
        unmatched = cohort.labels.unmatched(kept)
    made = PulledList(digest, True, tuple(kept), (*skipped, *left), len(left), unmatched)
    pulled.write(made)
    if not kept:
        raise DataError(f"none of {len(wanted)} images can be taken: {left[0].reason}", where=cohort.server.url)
    return made


class _Pull:
    def __init__(self, cohort: Cohort, pulled: Pulled, session: PacsSession, found: Mapping[str, Found]) -> None:
        self._cohort, self._pulled, self._session, self._found = cohort, pulled, session, found
        self._most = int(cohort.server.config.most_gigabytes * 1e9)

    def all(self, wanted: Sequence[Instance], progress: Progress | None) -> tuple[list[Instance], list[Skipped]]:
        kept: list[Instance] = []
        left: list[Skipped] = []
        size = failed = 0
        for at, each in enumerate(wanted, start=1):
            try:
                instance = self._one(each)
                kept.append(instance)
                size, failed = size + instance.size, 0
            except DataError as error:
                self._pulled.drop(each)
                left.append(Skipped(each.uid, said(error)))
                failed += isinstance(error, _FailedError)
                if failed == _IN_A_ROW:
                    problem = f"fails to give {failed} instances one after another: {error.problem}"
                    raise PacsError(
                        problem, where=self._cohort.server.url, cure="when it is well again, go on"
                    ) from None
            if size > self._most:
                cure = "a narrower query, or a higher 'most_gigabytes' in the server's file"
                raise DataError(
                    f"the images take more than {self._most / 1e9:g} GB", where=self._cohort.server.url, cure=cure
                )
            if progress is not None and (at % _EVERY == 0 or at == len(wanted)):
                progress(at, len(wanted))
        return kept, left

    def _one(self, instance: Instance) -> Instance:
        if instance.sha256 and self._pulled.holds(instance):
            return instance
        if self._pulled.holds(instance):
            # It came, and the list that says so did not get written.
            data = self._pulled.data(instance)
            instance = replace(instance, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        else:
            try:
                data = retrieve(self._cohort.server, self._session, self._found[instance.uid])
            except DataError as error:
                raise _FailedError(error.problem, cure=error.cure) from None
            instance = self._pulled.keep(instance, data)
        return self._described(instance)

    def _described(self, instance: Instance) -> Instance:
        """The instance by its own header, which must be the one that was asked for (DataError)."""
        with quiet():
            return self._by_header(instance)

    def _by_header(self, instance: Instance) -> Instance:
        try:
            with decoding(instance.uid):
                image = self._pulled.image(instance)
                if image.hidden:
                    raise image.is_hidden()
        except MedVeilError as error:
            raise DataError(error.problem, cure=error.cure) from None
        asked = {
            "SOPInstanceUID": instance.uid,
            "SeriesInstanceUID": instance.series,
            "StudyInstanceUID": instance.study,
        }
        for keyword, uid in asked.items():
            if image.text(keyword) != uid:
                raise DataError(f"is another instance than was asked for: its {keyword} differs")
        missed = self._cohort.query.misses(image.text, strict=True)
        if missed:
            raise DataError(f"its {missed} is not what the query asks for")
        texts = {"patient": "PatientID", "accession": "AccessionNumber", "institution": "InstitutionName"}
        taken: dict[str, Any] = {name: image.text(keyword) for name, keyword in texts.items()}
        labels = self._cohort.labels
        if labels is not None and labels.keyword == "AccessionNumber" and taken["accession"] not in labels.rows:
            raise DataError("its AccessionNumber is none of the table's")
        return replace(instance, frames=image.about.frames, channels=image.about.channels, **taken)


class _FailedError(DataError):
    """An instance that the server did not give."""


def _wanted(found: Found, known: Mapping[str, Instance], labels: Labelling) -> Instance:
    before = known.get(found.instance)
    if before is None or (before.study, before.series) != (found.study, found.series):
        before = Instance(uid=found.instance, study=found.study, series=found.series, name=new_name())
    return replace(before, label=labels.get(found.instance, ""))


def _by_reports(cohort: Cohort, session: PacsSession, found: Sequence[Found]) -> tuple[Labelling, dict[str, str]]:
    """The label of each image that reports give one, and why others have none."""
    if not cohort.reports:
        return {}, {}
    codes = read_classes(cohort.server.file.parent / Path(str(cohort.query.codes)).expanduser())
    said_by: list[Labelling] = []
    refused: list[str] = []
    for each in reports_of(cohort.server, session, sorted({one.study for one in found})):
        try:
            data = retrieve(cohort.server, session, each)
            said_by.append(labels_of_report(data, each, codes, unverified=cohort.query.unverified))
        except DataError as error:
            refused.append(shown(error.problem, most=120))
    labels, unclear = merged(said_by)
    if not labels and refused:
        raise DataError(f"none of {len(refused)} reports can be used: {refused[0]}", where=cohort.server.url)
    return labels, unclear
