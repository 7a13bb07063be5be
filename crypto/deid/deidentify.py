"""De-identification of DICOM data sets: the Basic Profile of PS3.15 Annex E with modified dates.

What the profile leaves to us, and what was chosen:

- *Patient* means PatientID as it is written, without its issuer: it sets pseudonym, PatientName and date shift. A file
  without one is shifted by its StudyInstanceUID, and its report says so.
- Dates and datetimes of a patient move by one number of whole days, at every depth; times of day stay, and so do zones
  in datetimes. TimezoneOffsetFromUTC goes. Birth dates are emptied, dates that are none go.
- Where a code allows several actions, the one that leaves every IOD valid (`crypto.deid.table.chosen`). Clean (C) is
  never attempted on text: the action of the Basic Profile is taken instead.
- Attributes that the table does not name stay, as the standard has it, with the exceptions of
  `crypto.deid.actions.action_for` and `crypto.deid.table.BEYOND`; long free text among them is named in a warning.
- What cannot be read, has a VR of another kind, or hides text in a number goes.

Pixels are not touched; `crypto.deid.burned_in` warns where they may hold text. An attacker who learns one true date of
a patient knows the others, and exact times of day can be matched with a hospital's own logs by whoever has those.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pydicom import Dataset, config
from pydicom.datadict import keyword_dict, tag_for_keyword

from crypto.deid.actions import Action, action_for, standard_vr
from crypto.deid.burned_in import burned_in_warnings
from crypto.deid.cleaning import Pass
from crypto.deid.dates import shift_days
from crypto.deid.method import clean_file_meta, say_method
from crypto.deid.private import parse_private
from crypto.deid.pseudonyms import Pseudonyms
from crypto.deid.table import annex_e_code
from crypto.deid.values import texts_of
from crypto.keys import SiteKey
from medveil.errors import ConfigError

_DIRECT: Final = frozenset(
    {
        "PatientID",
        "OtherPatientIDs",
        "AccessionNumber",
        "AdmissionID",
        "MedicalRecordLocator",
        "MilitaryRank",
        "InsurancePlanIdentification",
        "PatientAddress",
        "PatientBirthDate",
        "PatientBirthDateInAlternativeCalendar",
        "PatientTelephoneNumbers",
        "PatientTelecomInformation",
        "ReferencedPatientPhotoSequence",
        "ServiceEpisodeID",
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "PerformedProcedureStepID",
        "StudyID",
        "SpecimenIdentifier",
        "SpecimenAccessionNumber",
        "ContainerIdentifier",
        "ClinicalTrialSubjectID",
    }
)
"""Keywords whose values name a patient, or one of a patient's records, beside person names and instance UIDs."""


@dataclass
class DeidReport:
    """What de-identification did to one data set: names and warnings, never values.

    Parameters
    ----------
    removed, replaced
        Keywords of attributes (tags, where they are private or unknown), each once, in order.
    warnings
        What a person should look at, one sentence each.
    """

    removed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Deidentifier:
    """De-identifies data sets under a site's key, alike in every file, process and year.

    Parameters
    ----------
    key
        The site's key, of which the ``deid`` subkey makes pseudonyms, UIDs and date shifts.
    keep
        Keywords of attributes that stay as they are, at every depth; sequences among them are still cleaned inside, and
        ages above 89 become ``090Y``.
    safe_private
        Private attributes that stay, as ``CREATOR:GGGG,EE``. Dates and UIDs among them are replaced like others.

    Raises
    ------
    ConfigError
        A keyword is not in the standard, or a private attribute has another form.
    """

    def __init__(self, key: SiteKey, *, keep: Sequence[str] = (), safe_private: Sequence[str] = ()) -> None:
        self._pseudonyms = Pseudonyms(key)
        self._keep = frozenset(_tag_of(keyword) for keyword in keep)
        self._safe = frozenset(parse_private(text) for text in safe_private)

    def apply(self, dataset: Dataset, *, signs: Sequence[str] | None = None) -> DeidReport:
        """De-identify a data set in place, with its file meta and preamble.

        Parameters
        ----------
        dataset
            Of one patient. Pixel data may be absent; they are neither read nor changed.
        signs
            What `signs_of_text` said of a data set that was made into another kind of object since; None: ask here.

        Returns
        -------
        DeidReport
        """
        with _pydicom_silent():
            return self._apply(dataset, burned_in_warnings(dataset) if signs is None else list(signs))

    def _apply(self, dataset: Dataset, notes: list[str]) -> DeidReport:
        days, doubt = self._shift(dataset)
        done = Pass(self._pseudonyms, days, self._keep, self._safe)
        done.clean(dataset)
        done.removed.update(dict.fromkeys(clean_file_meta(dataset, self._pseudonyms)))
        direct = sorted(name for tag, name in done.kept.items() if _identifies(tag, name))
        unshifted = sorted(name for tag, name in done.kept.items() if action_for(tag) is Action.SHIFT)
        say_method(
            dataset,
            kept=done.kept.values(),
            basic=not any(annex_e_code(tag) for tag in done.kept),
            shifted=not unshifted,
            anonymous=not direct,
            safe_private=bool(self._safe),
        )
        notes += doubt
        notes += [f"{name} is kept and identifies the patient directly" for name in direct]
        notes += [f"{name} is kept as it is while other dates are shifted" for name in unshifted]
        notes += [f"{name} is free text, which Annex E lets stay: look at it" for name in sorted(done.free_text)]
        return DeidReport(sorted(done.removed), sorted(done.replaced), notes)

    def _shift(self, dataset: Dataset) -> tuple[int, list[str]]:
        """Days to shift by, and what is doubtful about them."""
        for keyword in ("PatientID", "StudyInstanceUID", "SOPInstanceUID"):
            if any(values := texts_of(dataset, keyword)):
                days = shift_days(self._pseudonyms, values[0])
                note = f"PatientID is empty: dates are shifted by {keyword}, so intervals hold within it alone"
                return days, [] if keyword == "PatientID" else [note]
        return shift_days(self._pseudonyms, ""), ["PatientID and UIDs are empty: dates are shifted by the key alone"]


def signs_of_text(dataset: Dataset) -> list[str]:
    """Why text may be in the pixels of a data set, before anything is made of it."""
    with _pydicom_silent():
        return burned_in_warnings(dataset)


@contextmanager
def _pydicom_silent() -> Iterator[None]:
    """Keep pydicom from warning and logging: it quotes the values it warns about."""
    logger = config.logger
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _tag_of(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        near = difflib.get_close_matches(keyword, keyword_dict, n=1)
        cure = f"did you mean '{near[0]}'?" if near else "a keyword of the standard, for example PatientSex"
        raise ConfigError(f"{keyword!a} is no DICOM keyword", where="--keep", cure=cure)
    return int(tag)


def _identifies(tag: int, keyword: str) -> bool:
    """Whether an attribute, kept, names a person or leads back to the archive."""
    vr = standard_vr(tag)
    return keyword in _DIRECT or vr == "PN" or (vr == "UI" and action_for(tag) is Action.UID)
