"""Asking a DICOMweb server what it has (QIDO-RS, PS3.18 10.6), page by page, within bounds, read only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydicom.datadict import tag_for_keyword

from fl_client.data.base import Skipped
from fl_client.dicomweb.query import QueryConfig
from medveil.errors import DataError, PacsError
from medveil.plain import shown

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

    from fl_client.dicomweb.server import Server
    from fl_client.dicomweb.session import PacsSession

_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")
_LONGEST = 64
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_TEXTS = ("PatientID", "AccessionNumber", "StudyDate", "Modality", "BodyPartExamined", "SeriesDescription")
TAGS = {name: f"{tag_for_keyword(name):08X}" for name in (*_UIDS, *_TEXTS)}
REPORT = "SR"


class Found(NamedTuple):
    """An instance the server says it has; `texts` are what it says of it, by keyword, empty where it says nothing."""

    study: str
    series: str
    instance: str
    texts: Mapping[str, str]

    def text(self, keyword: str) -> str:
        """What the server says of it."""
        return self.texts.get(keyword, "")


class Search(NamedTuple):
    """What a query found: instances in the order of their UIDs, and what of the answers is left out, and why."""

    found: list[Found]
    skipped: list[Skipped]


def client_of(server: Server, session: PacsSession) -> DICOMwebClient:
    """dicomweb-client over our session: it writes requests and reads answers, and retries nothing by itself."""
    from dicomweb_client import DICOMwebClient  # noqa: PLC0415 - of an extra

    # A body in pieces could not be sent a second time.
    made = DICOMwebClient(server.url, session=session, chunk_size=2**40, timeout=server.config.timeout)
    made.set_http_retry_params(retry=False)
    return made


def search(
    server: Server,
    session: PacsSession,
    query: QueryConfig,
    *,
    only: tuple[str, Iterable[str]] | None = None,
) -> Search:
    """Find the instances of a query.

    Parameters
    ----------
    only
        A keyword and its values, each asked for by itself: accession numbers or UIDs of studies.

    Raises
    ------
    PacsError, DataError
        As `PacsSession.request`; there are more than `most_instances`; the server sends one page again and again.
    """
    client = client_of(server, session)
    asked = [{}] if only is None else [{only[0]: value} for value in only[1]]
    found: dict[str, Found] = {}
    skipped: list[Skipped] = []
    for filters in asked:
        for each in _instances(client, server, query.filters() | filters, skipped):
            missed = query.misses(each.text, strict=False) or _unlike(filters, each)
            if missed:
                skipped.append(Skipped(each.instance, f"the server names it, and its {missed} is another"))
            elif each.text("Modality") == REPORT and query.modality != REPORT:
                # What a report says of images is asked for by itself.
                continue
            else:
                # A server need not repeat what it was asked for.
                told = {name: value for name, value in each.texts.items() if value}
                found[each.instance] = each._replace(texts=filters | told)
            _refuse_many(len(found), server)
    return Search([found[uid] for uid in sorted(found)], skipped)


def reports_of(server: Server, session: PacsSession, studies: Iterable[str]) -> list[Found]:
    """The Structured Reports of some studies; errors as `search`."""
    client, skipped = client_of(server, session), list[Skipped]()
    made: dict[str, Found] = {}
    for study in studies:
        for each in _instances(client, server, {"Modality": REPORT, "StudyInstanceUID": study}, skipped):
            if each.study == study and each.text("Modality") in {REPORT, ""}:
                made[each.instance] = each
            _refuse_many(len(made), server)
    return [made[uid] for uid in sorted(made)]


def _instances(
    client: DICOMwebClient, server: Server, filters: Mapping[str, str], skipped: list[Skipped]
) -> Iterator[Found]:
    page, offset, known = server.config.page, 0, set[str]()
    while True:
        answer = client.search_for_instances(
            limit=page, offset=offset, fields=[TAGS[name] for name in _TEXTS], search_filters=dict(filters)
        )
        if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
            raise PacsError("answers a query with what is no list of instances", where=server.url)
        read = [_read(each, skipped) for each in answer]
        new = [each for each in read if each is not None and each.instance not in known]
        yield from new
        known.update(each.instance for each in new)
        _refuse_many(max(len(known), len(skipped)), server)
        if not answer or (not new and (offset == 0 or len(answer) != page)):
            return
        if not new:
            problem = "sends the same instances again, whichever are asked for"
            raise PacsError(problem, where=server.url, cure="a larger 'page', or a narrower query")
        # A server may give fewer than were asked for and have more: the end is a page without any.
        offset += len(answer)


def _refuse_many(found: int, server: Server) -> None:
    most = server.config.most_instances
    if found > most:
        cure = "a narrower query, or a higher 'most_instances' in the server's file"
        raise DataError(f"the query finds more than {most} instances", where=server.url, cure=cure)


def _unlike(filters: Mapping[str, str], found: Found) -> str:
    for name, wanted in filters.items():
        said = found.study if name == "StudyInstanceUID" else found.text(name)
        if said and said != wanted:
            return name
    return ""


def _read(entry: Mapping[str, Any], skipped: list[Skipped]) -> Found | None:
    """An instance of an answer; None where it has no UIDs, for nothing could be asked of it."""
    uids = [_value(entry, name) for name in _UIDS]
    wrong = next((name for name, uid in zip(_UIDS, uids, strict=True) if not is_uid(uid)), None)
    if wrong is not None:
        skipped.append(Skipped(shown(uids[2], most=_LONGEST) or "an instance", f"its {wrong} is no UID"))
        return None
    study, series, instance = uids
    return Found(study, series, instance, {name: _value(entry, name)[:_LONGEST] for name in _TEXTS})


def is_uid(text: str) -> bool:
    """Whether a text is a UID (PS3.5 9): digits and points, at most 64, and so nothing that could be a path."""
    return len(text) <= _LONGEST and _UID.fullmatch(text) is not None


def _value(entry: Mapping[str, Any], name: str) -> str:
    """An attribute of DICOM JSON (PS3.18 F.2) as text, its values beside one another; empty where it is none."""
    element = entry.get(TAGS[name])
    values = element.get("Value") if isinstance(element, dict) else None
    texts = (
        [str(each).strip(" \0") for each in values if isinstance(each, str | int)] if isinstance(values, list) else []
    )
    return "\\".join(texts)
