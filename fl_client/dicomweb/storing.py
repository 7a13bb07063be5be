"""Sending reports to a DICOMweb server (STOW-RS, PS3.18 10.5), one after another; nothing else is ever sent."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import ComprehensiveSRStorage

from crypto.reading.dicom_quiet import quiet
from fl_client.data.base import Skipped
from fl_client.data.items import said
from fl_client.dicomweb.searching import client_of
from fl_client.dicomweb.server import Server
from fl_client.dicomweb.session import PacsSession
from medveil.errors import DataError
from medveil.files import read_bytes

_LARGEST = 64 * 2**20


def store_reports(server: Server, session: PacsSession, folder: Path) -> tuple[int, list[Skipped]]:
    """Send every report of a folder that was just written.

    Returns
    -------
    tuple
        How many the server took, and which it did not, with the reason.

    Raises
    ------
    PacsError
        The server is out of reach, or does not let this site in; what was sent before stays there.
    """
    client, sent, left = client_of(server, session), 0, list[Skipped]()
    # Warnings of pydicom quote names of patients.
    with quiet():
        for path in sorted(folder.glob("*.dcm")):
            try:
                answer = client.store_instances([_report(path)])
                refuse_untaken(answer, path.stem)
                sent += 1
            except DataError as error:
                left.append(Skipped(path.name, said(error)))
    return sent, left


def _report(path: Path) -> Dataset:
    """One of our own reports, and nothing else that lies there (DataError)."""
    read_bytes(path, most=_LARGEST)
    dataset = dcmread(path)
    if dataset.get("SOPClassUID") != ComprehensiveSRStorage:
        raise DataError("is no report of MedVeil's")
    return dataset


def refuse_untaken(answer: Dataset, uid: str) -> None:
    """Refuse an answer that does not say the instance was stored (DataError): PS3.18 10.5.3.1.2."""
    try:
        stored = {str(each.ReferencedSOPInstanceUID) for each in answer.get("ReferencedSOPSequence", [])}
        failed = [each.get("FailureReason", 0) for each in answer.get("FailedSOPSequence", [])]
    # What a server writes into its answer may be anything.
    except Exception:
        raise DataError("the server's answer does not say whether it was stored") from None
    if failed:
        raise DataError(f"the server did not store it (failure reason {str(failed[0])[:8]!a})")
    if uid not in stored:
        raise DataError("the server does not say that it was stored")
