"""Names, identifiers and UIDs in other words: the same for the same key and original, in every file and process.

Everything is HMAC-SHA256 under the key's ``deid`` subkey over a label, a NUL and the original, so no table of originals
exists that could be lost or stolen. Whoever holds the key can test a guess of an original; nobody else can.
"""

from __future__ import annotations

import base64
import hmac
import unicodedata
from uuid import UUID

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import UID

from crypto.keys import Key

CODE_BYTES = 10
CODE_LETTERS = 16
"""A pseudonym's 80 bits in base 32: letters that every text VR allows, and as many as SH, AE and CS hold."""

_TEXT = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"})


def new_uid(key: Key, uid: str) -> str:
    """Return the UID that stands for another; see `Pseudonyms.uid`."""
    return Pseudonyms(key).uid(uid)


def pseudonym(key: Key, what: str, value: str) -> str:
    """Return the pseudonym of a value; see `Pseudonyms.of`."""
    return Pseudonyms(key).of(what, value)


class Pseudonyms:
    """The pseudonyms of one site.

    Parameters
    ----------
    key
        Only its ``deid`` subkey is kept.
    """

    def __init__(self, key: Key) -> None:
        self._subkey = key.subkey("deid")

    def digest(self, label: str, original: str) -> bytes:
        """HMAC-SHA256 over the label, a NUL and the original in UTF-8: 32 bytes."""
        # Broken files hold lone surrogates; "surrogatepass" gives even those one encoding.
        message = b"\0".join([label.encode("ascii"), original.encode("utf-8", "surrogatepass")])
        return hmac.digest(self._subkey, message, "sha256")

    def uid(self, uid: str) -> str:
        """Return the UID that stands for `uid`: ``2.25.`` and a UUID as an integer (PS3.5 B.2).

        The UUID is the first 16 bytes of the digest labelled ``uid``, marked as version 8 (RFC 9562). UIDs that the
        standard registers (SOP classes, transfer syntaxes, well-known frames of reference, coding schemes) say nothing
        of a patient and are returned as they are, and so is an empty one. Padding is ignored.
        """
        uid = stripped(uid)
        if not uid or UID(uid, validation_mode=IGNORE).type:
            return uid
        data = bytearray(self.digest("uid", uid)[:16])
        data[6] = data[6] & 0x0F | 0x80
        data[8] = data[8] & 0x3F | 0x80
        return f"2.25.{UUID(bytes=bytes(data)).int}"

    def of(self, what: str, value: str) -> str:
        """Return the pseudonym of a name or identifier: 16 letters and digits, for a person name after ``ANON^``.

        Parameters
        ----------
        what
            Keyword of the attribute. Pseudonyms of one value under two keywords have nothing in common.
        value
            One value. Padding is ignored. Of a person name, the alphabetic (else the first) representation counts,
            whatever its case, the spaces around and within its components, and empty components at its end. Case counts
            in everything else. An empty value has an empty pseudonym.

        Raises
        ------
        ValueError
            `what` is no keyword of the standard, or its VR holds no text.
        """
        tag = tag_for_keyword(what)
        vr = None if tag is None else dictionary_VR(tag)
        if vr not in _TEXT:
            raise ValueError(f"'{what}' holds no text that a pseudonym could stand for")
        original = _name(value) if vr == "PN" else unicodedata.normalize("NFC", stripped(value))
        if not original:
            return ""
        code = base64.b32encode(self.digest(what, original)[:CODE_BYTES]).decode("ascii")
        return f"ANON^{code}" if vr == "PN" else code


def stripped(value: str) -> str:
    """A value without the spaces and NULs that pad it."""
    return value.strip(" \0\t\r\n")


def _name(value: str) -> str:
    representations = [_components(each) for each in value.split("=")]
    return next((each for each in representations if each), "")


def _components(representation: str) -> str:
    folded = unicodedata.normalize("NFKC", representation).casefold().replace("\0", " ")
    parts = [" ".join(part.split()) for part in folded.split("^")]
    return "^".join(parts).rstrip("^")
