"""Retrieving one instance (WADO-RS, PS3.18 10.4): its bytes as the server keeps them, and nothing of them read here."""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING

from fl_client.dicomweb.searching import Found, is_uid
from medveil.errors import DataError, PacsError

if TYPE_CHECKING:
    from fl_client.dicomweb.server import Server
    from fl_client.dicomweb.session import PacsSession

ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_DICOM = "application/dicom"
_LONGEST_BOUNDARY = 256
"""RFC 2046 takes 70 characters; Orthanc 1.10 writes 73."""
_LONGEST_HEAD = 4096
_BROKEN = "the server's answer is no whole multipart message of one instance"


def retrieve(server: Server, session: PacsSession, found: Found) -> bytes:
    """The bytes of an instance, at most `most_megabytes` of the server's file.

    Raises
    ------
    PacsError
        The server is out of reach or does not let this site in.
    DataError
        It has it not, it is too large or cut short, or the answer is not one instance.
    """
    uids = (found.study, found.series, found.instance)
    if not all(map(is_uid, uids)):
        raise PacsError("an instance has no UIDs to ask by", where=server.url)
    url = "{}/studies/{}/series/{}/instances/{}".format(server.url, *uids)
    most = int(server.config.most_megabytes * 1e6)
    kind, data = session.fetch(url, accept=ACCEPT, most=most + 2 * _LONGEST_HEAD)
    instance = one_part(kind, data)
    if len(instance) > most:
        raise DataError(f"is larger than the {most} bytes that are taken")
    return instance


def one_part(kind: str, data: bytes) -> bytes:
    """The only part of a ``multipart/related`` message (RFC 2046 5.1), DICOM (DataError where it is none)."""
    head = Message()
    head["Content-Type"] = kind[:_LONGEST_HEAD]
    if head.get_content_type() == _DICOM:
        return data
    boundary = head.get_param("boundary")
    if head.get_content_type() != "multipart/related" or not isinstance(boundary, str) or not boundary.isascii():
        raise DataError(_BROKEN)
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise DataError(_BROKEN)
    mark = b"--" + boundary.encode("ascii")
    # A preamble may stand before the first mark, an epilogue behind the last.
    opening = 0 if data.startswith(mark) else data.find(b"\r\n" + mark) + 2
    closing = data.rfind(b"\r\n" + mark + b"--")
    begins = data.find(b"\r\n\r\n", opening)
    if opening == 1 or closing < 0 or not opening < begins <= closing or begins - opening > _LONGEST_HEAD:
        raise DataError(_BROKEN)
    body = data[begins + 4 : closing] if begins + 4 <= closing else b""
    if b"\r\n" + mark in body:
        raise DataError("the server sends several instances where one was asked for")
    named = [line for line in data[opening:begins].split(b"\r\n") if line.lower().startswith(b"content-type:")]
    if named and _DICOM.encode() not in named[0].lower():
        raise DataError("the server sends something else than DICOM")
    return body
