"""The page about DICOM as who runs a PACS asks for it (PS3.2), from the lists of the code that reads and writes it."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from crypto.deid.method import IMPLEMENTATION_UID
from crypto.deid.table import EDITION
from crypto.dicom.private import CREATOR
from crypto.reading.dicom_frames import plugins_for
from crypto.reading.dicom_objects import REFUSED
from docsite.tables import code, safe, table
from fl_client.dicomweb.query import MATCHED
from fl_client.dicomweb.retrieving import ACCEPT
from fl_client.dicomweb.searching import TAGS
from fl_client.dicomweb.session import JSON
from fl_client.dicomweb.tables import KEYS, STUDY_KEYS
from fl_client.reports.subjects import TAKEN

_NETWORK = """\
# DICOM conformance

What a DICOM Conformance Statement (PS3.2) says of a product, of MedVeil: research software, and no medical device.

## Network

MedVeil opens no association and listens for none: it is neither SCU nor SCP of any DIMSE service, and no origin server.
As a user agent of DICOMweb (PS3.18) it asks the server that [a site's file](../how-to/pacs.md) names for these,
by `GET` but for the last; it deletes and updates nothing. What else it reads and writes are files.
"""
_WEB = """\
Queries ask for these attributes, and match by keyword; results of other values, of no UIDs or named twice are dropped.
Pages are asked for by `limit` and `offset` until one is empty. An instance is one part of `application/dicom`, in the
transfer syntax the server keeps, and must have the UIDs it was asked by. HTTP/1.1, with TLS beyond this
machine; bearer token, HTTP Basic or client certificate; redirects and content codings are refused.

With `data.labels: sr` Structured Reports of the same studies are retrieved, and finding and images of each of their
measurement groups (TID 1501) are read; a group with a probability is passed over.
"""
_MEDIA = """\
## Media

Single files of PS3.10 in folders. It is no reader of a File-set: a `DICOMDIR` is passed over, and so is what it says.
Files without preamble, and bare data sets without file meta information, are read too.

## Objects read

Every image storage SOP class, private ones too, whose `PixelData` holds integers of up to 16 bits, but for these and
what begins with their UIDs:
"""
_WRITTEN = """\
Which attributes of an image matter, and what is refused of single images, says [Images](images.md#dicom).

## Transfer syntaxes read
"""
_OBJECTS = """\
Character sets are those that pydicom decodes.

## Objects written
"""
_WRITERS = f"""\
All are written in {ExplicitVRLittleEndian.name} (`{ExplicitVRLittleEndian}`), with a preamble and file meta
information; the implementation class UID is `{IMPLEMENTATION_UID}`. Hidden files carry private attributes
under the creator `{CREATOR}`.

De-identification is that of PS3.15 {EDITION}, Annex E, Basic Profile with modified dates; `DeidentificationMethod`
and its code sequence say in each file what was done.
[Hide files](../how-to/hide-files.md#identity-in-dicom-files) says what stays.

## Reports
"""
_TEMPLATES = (
    (
        "1500",
        "Measurement Report",
        "language, observer, procedure reported, measurements, a comment: research use only",
    ),
    (
        "1501",
        "Measurement and Qualitative Evaluation Group",
        "one class of one image: tracking identifier (the class's name) and UID, finding, algorithm, image or frame",
    ),
    ("300", "Measurement", '(122157, DCM, "Probability") in units of (1, UCUM, "no units")'),
    ("4019", "Algorithm Identification", "name, version; the model's SHA-256 and how it was asked, as parameters"),
    ("1002, 1004", "Observer Context, Device Observer", "a UID of the model's own, MedVeil and its version"),
)
_REPORTS = """\
`CompletionFlag` is COMPLETE, `VerificationFlag` UNVERIFIED and `PreliminaryFlag` PRELIMINARY. A report has a new SOP
instance UID each time, and the reports that one call makes of a study are one series. Text is written as ISO_IR 192.
From the image it takes, and refuses the report where a value is longer or of another form:
"""


def page() -> str:
    """What is asked of servers, read and written."""
    taken = ((code(each.keyword), str(each.longest)) for each in TAKEN)
    objects = ((code(stem), safe(what), safe(why)) for stem, (what, why) in sorted(REFUSED.items()))
    lines = [
        _NETWORK,
        table(("service", "request", "accepted", "asked by"), _requests()),
        _WEB,
        table(("attribute", "tag", "matched by"), _queried()),
        _MEDIA,
        table(("SOP class", "what it is", "why it is refused"), objects),
        _WRITTEN,
        table(("UID", "transfer syntax"), ((code(each), safe(each.name)) for each in _read())),
        _OBJECTS,
        table(("object", "SOP class", "written by"), _written()),
        _WRITERS,
        table(("template", "of PS3.16", "what it holds here"), _TEMPLATES),
        _REPORTS,
        table(("attribute", "characters at most"), taken),
    ]
    return "\n".join(lines)


def _requests() -> Iterator[tuple[str, str, str, str]]:
    kept = code("/studies/{study}/series/{series}/instances/{instance}")
    query = ", ".join(map(code, JSON))
    yield "QIDO-RS Search", code("/instances"), query, "`medveil-site cohort`, `pull`"
    yield "WADO-RS Retrieve", kept, code(ACCEPT), "`medveil-site pull`"
    yield "STOW-RS Store", code("/studies"), query, "`medveil-site predict --stow`"


def _queried() -> Iterator[tuple[str, str, str]]:
    settings = {keyword: f"data.query.{name}" for name, keyword in MATCHED.items()}
    columns = {keyword: f"column {name} of data.labels" for name, keyword in KEYS.items() if keyword in STUDY_KEYS}
    for keyword, tag in TAGS.items():
        by = settings.get(keyword) or columns.get(keyword)
        yield code(keyword), code(f"({tag[:4]},{tag[4:]})"), "" if by is None else code(by)


def _read() -> Iterator[UID]:
    """Transfer syntaxes whose pixels are decoded here."""
    for each in AllTransferSyntaxes:
        try:
            if not each.is_encapsulated or plugins_for(each):
                yield each
        except NotImplementedError:
            continue


def _written() -> Iterator[tuple[str, str, str]]:
    secondary = f"its image's own, or where that cannot hold 8 bits {code(SecondaryCaptureImageStorage)} and its kin"
    yield "Hidden and shown archive files", "their image's own", "`medveil-crypto encrypt`, `decrypt`"
    yield "Files hidden for training", secondary, "`medveil-crypto encrypt --for training`"
    yield ComprehensiveSRStorage.name, code(ComprehensiveSRStorage), "`medveil-site predict --dicom-sr`"
