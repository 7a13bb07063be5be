"""A report as DICOM has it: TID 1500, "Measurement Report" (PS3.16), in a Comprehensive SR (PS3.3 A.35.3).

A measurement group (TID 1501) is one finding of one image: the class as coded finding, the image or frame it was seen
in, and one measurement, (122157, DCM, "Probability"). Who observed is a device; nobody verified it, and it says so:
unverified, preliminary, for research.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from highdicom import UID
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from crypto.deid.method import IMPLEMENTATION_UID
from fl_client.reports.codes import Codes, Concept
from fl_client.reports.subjects import Instance
from medveil.errors import DataError
from medveil.versions import medveil_version

SERIES_NUMBER = 9000
"""Behind the series of any scanner."""
SERIES_DESCRIPTION = "MedVeil class probabilities, RESEARCH USE ONLY"
RESEARCH = (
    "Research use only. Not a medical device: no diagnosis, and no decision about a patient, may rest on these numbers."
)
_MANUFACTURER = "MedVeil"
_UTF_8 = "ISO_IR 192"
_DECIMALS = 6
_LONGEST_VERSION = 16
_OPTIONAL = ("IssuerOfPatientID", "StudyDescription")
_QUALITATIVE = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")


@dataclass(frozen=True)
class Algorithm:
    """The model as a report names it.

    Parameters
    ----------
    name, version
        Of the run it came from: its name; its identity and the round.
    parameters
        What else tells what was asked, one text each; the model's hash is among them.
    """

    name: str
    version: str
    parameters: tuple[str, ...]


class Finding(NamedTuple):
    """An image with the probabilities of its classes, in the model's order.

    Parameters
    ----------
    frame
        Of the instance, from 0.
    """

    instance: Instance
    frame: int
    probabilities: Sequence[float]


def document(
    findings: Sequence[Finding],
    names: Sequence[str],
    codes_of: Codes,
    algorithm: Algorithm,
    *,
    series: str,
    number: int,
) -> ComprehensiveSR:
    """One report of images of one study.

    Parameters
    ----------
    findings
        Its images; patient and study are those of the first.
    names
        Of the classes.
    series, number
        UID of the series the report is in, and its number there, from 1.

    Raises
    ------
    DataError
        The class of the first image is none of those whose attributes highdicom knows.
    """
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(algorithm)),
        procedure_reported=_coded(codes_of.procedure),
        imaging_measurements=[
            group for found in findings for group in _groups(found, names, codes_of.classes, algorithm)
        ],
    )
    content[0].ContentSequence.append(_said(RESEARCH))
    evidence = {found.instance.uid: found.instance for found in findings}
    try:
        made = ComprehensiveSR(
            evidence=[_referred(each) for each in evidence.values()],
            content=content[0],
            series_instance_uid=series,
            series_number=SERIES_NUMBER,
            sop_instance_uid=UID(),
            instance_number=number,
            manufacturer=_MANUFACTURER,
            manufacturer_model_name=_MANUFACTURER,
            software_versions=medveil_version(),
            series_description=SERIES_DESCRIPTION,
            is_complete=True,
            specific_character_set=_UTF_8,
        )
    except KeyError:
        problem = f"its SOPClassUID {findings[0].instance.sop_class} is none that a report can be made about"
        raise DataError(problem, cure="convert it to a class that is not retired") from None
    made.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    made.file_meta.ImplementationVersionName = f"MEDVEIL {medveil_version()}"[:_LONGEST_VERSION]
    return made


def _observer(algorithm: Algorithm) -> ObserverContext:
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=["medveil", "observer", algorithm.version]),
            name=algorithm.name,
            manufacturer_name=_MANUFACTURER,
            model_name=f"{_MANUFACTURER} {medveil_version()}",
        ),
    )


def _groups(
    found: Finding, names: Sequence[str], concepts: Sequence[Concept], algorithm: Algorithm
) -> Iterator[MeasurementsAndQualitativeEvaluations]:
    instance = found.instance
    source = SourceImageForMeasurementGroup(
        instance.sop_class, instance.uid, [found.frame + 1] if instance.frames > 1 else None
    )
    for name, concept, probability in zip(names, concepts, found.probabilities, strict=True):
        yield MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=UID(), identifier=name),
            finding_type=_coded(concept),
            algorithm_id=AlgorithmIdentification(
                algorithm.name, algorithm.version, parameters=list(algorithm.parameters), manufacturer=_MANUFACTURER
            ),
            measurements=[Measurement(codes.DCM.Probability, round(probability, _DECIMALS), codes.UCUM.NoUnits)],
            source_images=[source],
        )


def _said(text: str) -> ContainerContentItem:
    """The container of qualitative evaluations (TID 1500, rows 13 to 15) with one text in it."""
    made = ContainerContentItem(_QUALITATIVE, relationship_type=RelationshipTypeValues.CONTAINS)
    made.ContentSequence = ContentSequence([TextContentItem(codes.DCM.Comment, text, RelationshipTypeValues.CONTAINS)])
    return made


def _coded(concept: Concept) -> CodedConcept:
    return CodedConcept(concept.code, concept.scheme, concept.meaning)


def _referred(instance: Instance) -> Dataset:
    """The instance as evidence: no more of it than a report takes over."""
    made = Dataset()
    made.SpecificCharacterSet = _UTF_8
    for keyword, value in instance.subject.items():
        if value or keyword not in _OPTIONAL:
            setattr(made, keyword, value)
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = instance.sop_class, instance.uid, instance.series
    return made
