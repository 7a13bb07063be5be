"""Fuzz what reads key files, recipient files and shared keys: nothing but our own errors may come out.

    python tests/fuzz/fuzz_keys.py -runs=100000 -max_len=4096 -artifact_prefix=/tmp/

Needs atheris (`pip install atheris==3.0.0`), is no part of `make test`, and takes libFuzzer's own options. Valid files
hold random bytes, fields of random values with the checksum (and the fingerprint of a public half) made to fit, or
nothing of ours; whatever still opens must hold exactly the keys that were sealed. `tests/crypto/test_fuzz_keys.py`
puts the same questions with hypothesis.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import atheris

    _instrumented: Any = atheris.instrument_imports(include=["crypto", "medveil"])
else:
    _instrumented = contextlib.nullcontext()

with _instrumented:
    from crypto import keyfile, recipient, sealed_file, sharing
    from crypto.commands.keys import header_of
    from crypto.documents import LARGEST_FILE, checksum
    from crypto.keyring import Keyring
    from crypto.keys import SiteKey
    from crypto.recipient import Recipient, RecipientKey
    from medveil.errors import MedVeilError

PASSPHRASE = "correct horse battery staple"
CHEAP = 2**4
SECRETS = [bytes(range(32)), bytes(range(32, 64))]
FIELDS = (
    *("format", "version", "site", "name", "fingerprint", "retired", "created", "shared", "recipient", "public_key"),
    *("kdf", "nonce", "check", "ciphertext", "wrapped", "checksum", "note"),
    *("kdf.name", "kdf.n", "kdf.r", "kdf.p", "kdf.salt", "kdf.note"),
)


class Target:
    """Valid files of every format and version, and everything that reads one."""

    def __init__(self, folder: Path) -> None:
        # As cheap for what is read as for what is written: a fuzzed cost must not take the night.
        sealed_file.SCRYPT_N = sealed_file.LARGEST_N = CHEAP
        keys = [SiteKey(secret, "mercy") for secret in SECRETS]
        ring = Keyring(keys[0], (keys[1],))
        self.county = RecipientKey.generate("county")
        self.expected = keys[0].fingerprint
        keyfile.save_keyring(folder / "key", ring, PASSPHRASE)
        public = recipient.save_recipient(folder / "recipient", self.county, PASSPHRASE)
        sharing.share_keyring(
            folder / "shared", ring, self.county.public, self.county.public.fingerprint, with_retired=True
        )
        first = {"format": keyfile.FORMAT, "version": 1, "site": "mercy", "fingerprint": self.expected, "created": ""}
        version_1 = sealed_file.seal_document(first, SECRETS[0], PASSPHRASE)
        read = [(folder / name).read_bytes() for name in ("key", "recipient", "shared")]
        self.valid = [json.dumps(version_1, indent=2).encode(), *read, public.read_bytes()]
        self.file = folder / "fuzzed"

    def mutated(self, index: int, edits: list[tuple[int, int, bytes]]) -> bytes:
        """A valid file with bytes cut out (at, how many) and others put in."""
        data = self.valid[index % len(self.valid)]
        for at, length, new in edits:
            start = at % (len(data) + 1)
            data = data[:start] + new + data[start + length :]
        return data

    def with_field(self, index: int, field: str, value: object) -> bytes:
        """A valid file with a field of this value, and what is derived from all fields made to fit."""
        document = json.loads(self.valid[index % len(self.valid)])
        holder, _, inner = field.partition(".")
        if inner:
            document.setdefault(holder, {})[inner] = value
        else:
            document[holder] = value
        if document.get("format") == recipient.PUBLIC_FORMAT and field != "fingerprint":
            with contextlib.suppress(Exception):
                key = recipient.bytes_of(document, "public_key", None, where="")
                document["fingerprint"] = Recipient(document["name"], key).fingerprint
        if "checksum" in document and field != "checksum":
            document["checksum"] = checksum(document)
        return json.dumps(document).encode()

    def judge(self, data: bytes) -> int:
        """Have everything read these bytes; how many did. Anything but our own errors is raised."""
        self.file.write_bytes(data)
        name = str(self.file)
        return sum(
            map(self._holds, (self._inspect, self._ring, self._recipient, self._private, self._shared), [name] * 5)
        )

    @staticmethod
    def _holds(read: Callable[[str], None], name: str) -> bool:
        try:
            read(name)
        except MedVeilError as error:
            # One printable line, whatever the file says.
            assert str(error).isprintable(), str(error)
            return False
        return True

    def _inspect(self, name: str) -> None:
        shown = header_of(name)
        assert all(str(value).isprintable() for value in shown.values())

    def _ring(self, name: str) -> None:
        assert [key.secret for key in keyfile.load_keyring(name, PASSPHRASE)] in (SECRETS, SECRETS[:1])

    def _recipient(self, name: str) -> None:
        found = recipient.load_recipient(name)
        # Whatever passes can be wrapped to.
        sharing._SUITE.encrypt(b"", recipient.X25519PublicKey.from_public_bytes(found.public_key), info=b"")

    def _private(self, name: str) -> None:
        assert recipient.load_recipient_key(name, PASSPHRASE).public == self.county.public

    def _shared(self, name: str) -> None:
        assert [key.secret for key in sharing.open_shared(name, self.county, self.expected)] == SECRETS


def _value(data: Any) -> object:
    """A JSON value of any type, from fuzzed bytes."""
    simple = data.PickValueInList(["", "bytes", "text", "int", "float", "bool", "null", "list", "dict", "long"])
    return {
        "bytes": lambda: recipient.text_of(data.ConsumeBytes(64)),
        "text": lambda: data.ConsumeUnicode(64),
        "int": lambda: data.ConsumeInt(9),
        "float": data.ConsumeFloat,
        "bool": data.ConsumeBool,
        "null": lambda: None,
        "list": lambda: [data.ConsumeUnicode(32), data.ConsumeInt(4)],
        "dict": lambda: {data.ConsumeUnicode(8): data.ConsumeUnicode(8)},
        "long": lambda: "0" * LARGEST_FILE,
    }.get(simple, str)()


def _fuzzed(target: Target, raw: bytes) -> bytes:
    data = atheris.FuzzedDataProvider(raw)
    how = data.ConsumeIntInRange(0, 3)
    if how == 0:
        return bytes(data.ConsumeBytes(LARGEST_FILE))
    if how == 3:
        # Nested deeper than Python's own reader goes.
        return bytes(data.ConsumeBytes(8)) * data.ConsumeIntInRange(0, LARGEST_FILE)
    index = data.ConsumeIntInRange(0, len(target.valid) - 1)
    if how == 1:
        edits = [
            (data.ConsumeInt(2), data.ConsumeIntInRange(0, 8), bytes(data.ConsumeBytes(8)))
            for _ in range(data.ConsumeIntInRange(0, 4))
        ]
        return target.mutated(index, edits)
    return target.with_field(index, data.PickValueInList(list(FIELDS)), _value(data))


def main() -> None:
    """Fuzz until libFuzzer has had enough, and count."""
    counts = {"inputs": 0, "read": 0}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        target = Target(Path(folder))

        def one(raw: bytes) -> None:
            counts["inputs"] += 1
            counts["read"] += target.judge(_fuzzed(target, raw)) > 0
            if counts["inputs"] % 10_000 == 0:
                print(f"{counts['inputs']} inputs, {counts['read']} of them readable, no error but ours", flush=True)

        atheris.Setup(sys.argv, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
