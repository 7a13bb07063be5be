"""HPKE's base mode (RFC 9180, sections 4 and 5) written out step by step, as the judge of what we wrap.

It is itself judged by the vector the RFC publishes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from crypto.documents import bytes_of, checksum, text_of
from crypto.keyring import Keyring, pack
from crypto.keys import SiteKey
from crypto.recipient import RecipientKey
from crypto.sharing import open_shared, share_keyring
from medveil.errors import IntegrityError

KEM_ID, KDF_ID, AEAD_ID = b"\x00\x20", b"\x00\x01", b"\x00\x02"
KEM_SUITE = b"KEM" + KEM_ID
HPKE_SUITE = b"HPKE" + KEM_ID + KDF_ID + AEAD_ID


def extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract (RFC 5869)."""
    return hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869)."""
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + ikm)


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def derive_key_pair(ikm: bytes) -> X25519PrivateKey:
    prk = labeled_extract(KEM_SUITE, b"", b"dkp_prk", ikm)
    return X25519PrivateKey.from_private_bytes(labeled_expand(KEM_SUITE, prk, b"sk", b"", 32))


def public_bytes(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def shared_secret(dh: bytes, enc: bytes, pk_recipient: bytes) -> bytes:
    prk = labeled_extract(KEM_SUITE, b"", b"eae_prk", dh)
    return labeled_expand(KEM_SUITE, prk, b"shared_secret", enc + pk_recipient, 32)


def key_schedule(secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and base nonce, which is the nonce of the first message."""
    mode = b"\x00"
    psk_id_hash = labeled_extract(HPKE_SUITE, b"", b"psk_id_hash", b"")
    context = mode + psk_id_hash + labeled_extract(HPKE_SUITE, b"", b"info_hash", info)
    prk = labeled_extract(HPKE_SUITE, secret, b"secret", b"")
    key = labeled_expand(HPKE_SUITE, prk, b"key", context, 32)
    return key, labeled_expand(HPKE_SUITE, prk, b"base_nonce", context, 12)


def seal(
    pk_recipient: bytes, info: bytes, aad: bytes, plaintext: bytes, ephemeral: X25519PrivateKey | None = None
) -> tuple[bytes, bytes]:
    own = ephemeral or derive_key_pair(os.urandom(32))
    enc = public_bytes(own)
    dh = own.exchange(X25519PublicKey.from_public_bytes(pk_recipient))
    key, nonce = key_schedule(shared_secret(dh, enc, pk_recipient), info)
    return enc, AESGCM(key).encrypt(nonce, plaintext, aad)


def unseal(recipient: X25519PrivateKey, enc: bytes, info: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    dh = recipient.exchange(X25519PublicKey.from_public_bytes(enc))
    key, nonce = key_schedule(shared_secret(dh, enc, public_bytes(recipient)), info)
    return AESGCM(key).decrypt(nonce, ciphertext, aad)


# mode 0, kem 0x0020, kdf 0x0001, aead 0x0002 of the vectors RFC 9180 publishes (appendix A names the repository,
# github.com/cfrg/draft-irtf-cfrg-hpke, test-vectors.json; read from PyPI's cryptography_vectors 50.0.2).
VECTOR = {
    "info": "4f6465206f6e2061204772656369616e2055726e",
    "ikmR": "dac33b0e9db1b59dbbea58d59a14e7b5896e9bdf98fad6891e99d1686492b9ee",
    "ikmE": "2cd7c601cefb3d42a62b04b7a9041494c06c7843818e0ce28a8f704ae7ab20f9",
    "skRm": "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d",
    "skEm": "179d4b53b6365c45b600c4163b61d95cbc2f4d9e36f1695558dce265ab8bab11",
    "pkRm": "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c",
    "enc": "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
    "shared_secret": "3101c54c3a4f87439eaac080699ed9bbcc726ffe44e860c0424ccb7e3e2ead7b",
    "key": "f50b0609186798729ed0564b36ef2ef8044f1f9d05636874d1f46c819c7a669f",
    "base_nonce": "151d9929e2449747889bc923",
    "aad": "436f756e742d30",
    "pt": "4265617574792069732074727574682c20747275746820626561757479",
    "ct": "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a",
}


def test_the_slow_reading_gives_the_published_vector() -> None:
    vector = {name: bytes.fromhex(value) for name, value in VECTOR.items()}
    ephemeral, recipient = derive_key_pair(vector["ikmE"]), derive_key_pair(vector["ikmR"])
    assert ephemeral.private_bytes_raw() == vector["skEm"]
    assert recipient.private_bytes_raw() == vector["skRm"]
    assert public_bytes(recipient) == vector["pkRm"]
    dh = ephemeral.exchange(recipient.public_key())
    assert shared_secret(dh, vector["enc"], vector["pkRm"]) == vector["shared_secret"]
    assert key_schedule(vector["shared_secret"], vector["info"]) == (vector["key"], vector["base_nonce"])
    sealed = seal(vector["pkRm"], vector["info"], vector["aad"], vector["pt"], ephemeral)
    assert sealed == (vector["enc"], vector["ct"])
    assert unseal(recipient, vector["enc"], vector["info"], vector["aad"], vector["ct"]) == vector["pt"]


def info_of(document: dict[str, Any]) -> bytes:
    """What a shared file binds, written anew: texts with their length in two bytes, in this order."""
    texts = [
        document["format"],
        str(document["version"]),
        document["recipient"],
        document["fingerprint"],
        document["name"],
        document["shared"],
        *document["retired"],
    ]
    return b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in texts)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4, unique=True), st.booleans())
def test_what_we_wrap_opens_by_the_slow_reading(
    tmp_path_factory: pytest.TempPathFactory, secrets: list[bytes], with_retired: bool
) -> None:
    path = tmp_path_factory.mktemp("hpke") / "county.shared"
    county = RecipientKey.generate("Ünïversity of County")
    keys = [SiteKey(secret, "consortium") for secret in secrets]
    ring = Keyring(keys[0], tuple(keys[1:]))
    share_keyring(path, ring, county.public, county.public.fingerprint, with_retired=with_retired)
    document = json.loads(path.read_text())
    wrapped = bytes_of(document, "wrapped", None, where=path)
    opened = unseal(county.private_key, wrapped[:32], info_of(document), b"", wrapped[32:])
    found = [bytes_of(entry, "secret", 32, where=path) for entry in json.loads(opened)["keys"]]
    assert found == (secrets if with_retired else secrets[:1])


def wrapped_slowly(path: Path, named: Keyring, held: Keyring, to: RecipientKey) -> None:
    """Write a shared file whose header names the keys of one ring, and which holds those of another."""
    document = {
        "format": "medveil-shared-key",
        "version": 1,
        "name": to.public.name,
        "recipient": to.public.fingerprint,
        "fingerprint": named.current.fingerprint,
        "retired": [key.fingerprint for key in named.retired],
        "shared": "2026-11-24T10:53:27Z",
    }
    enc, ciphertext = seal(to.public.public_key, info_of(document), b"", pack(held))
    document["wrapped"] = text_of(enc + ciphertext)
    document["checksum"] = checksum(document)
    path.write_text(json.dumps(document))


def test_what_the_slow_reading_wraps_opens_with_us(tmp_path: Path) -> None:
    county = RecipientKey.generate("county")
    ring = Keyring(SiteKey.generate("consortium"), (SiteKey.generate("consortium"),))
    wrapped_slowly(tmp_path / "slow", ring, ring, county)
    opened = open_shared(tmp_path / "slow", county, ring.current.fingerprint)
    assert [key.secret for key in opened] == [key.secret for key in ring]


def test_a_header_that_lies_about_the_keys_is_refused(tmp_path: Path) -> None:
    """Whoever knows the recipient may bind any header to any key; the keys themselves are looked at."""
    county = RecipientKey.generate("county")
    ring, other = Keyring(SiteKey.generate("consortium")), Keyring(SiteKey.generate("consortium"))
    wrapped_slowly(tmp_path / "lie", ring, other, county)
    with pytest.raises(IntegrityError, match="names other keys than it holds"):
        open_shared(tmp_path / "lie", county, ring.current.fingerprint)
