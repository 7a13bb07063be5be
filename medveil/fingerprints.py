"""The one form of fingerprint that people compare: hex digits in lower case, in one piece.

Whoever types one may part it by blanks, colons or dashes and use capitals.
"""

from __future__ import annotations

import base64
import binascii
import re

_BETWEEN = re.compile(r"[\s:-]+")
_OPENSSH = "SHA256:"


def plain_fingerprint(given: str) -> str:
    """A fingerprint as people write it, in our form; also OpenSSH's ``SHA256:`` and base64, as earlier MedVeils had it.

    What is none comes back as some text that equals no fingerprint.
    """
    given = given.strip()
    if given.startswith(_OPENSSH):
        try:
            return base64.b64decode(given.removeprefix(_OPENSSH) + "=", validate=True).hex()
        except (binascii.Error, ValueError):
            return given
    return _BETWEEN.sub("", given).lower()
