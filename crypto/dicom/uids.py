"""UIDs that follow from a key and another UID, so that every run and every file of a site agrees on them."""

from __future__ import annotations

import hmac
import uuid

from crypto.keys import Key


def new_uid(key: Key, uid: str) -> str:
    """Derive a UID: ``2.25.`` and the UUID of an HMAC of `uid` (DICOM PS3.5 B.2).

    HMAC-SHA256 under the key's ``deid`` subkey over ``uid``, a zero byte and the UID; its first 16 bytes are the UUID,
    marked as version 8 of RFC 9562. Without the key nobody can tell which UID it came from.
    """
    digest = hmac.digest(key.subkey("deid"), b"uid\0" + uid.encode("utf-8"), "sha256")
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return f"2.25.{uuid.UUID(int=number).int}"
