"""JPEG-LS of DICOM files: a plugin for pydicom's decoders that decodes in a process of its own.

Over some damaged codestreams (30 of 650 tried) CharLS, which is behind every decoder of JPEG-LS for Python, runs for
ever. So it runs where it can be ended.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydicom.uid import JPEGLSTransferSyntaxes

from crypto.reading import jpeg_ls_child
from crypto.reading.jpeg_ls_child import ANSWER, NUMBER, READY
from medveil.errors import DataError

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

DECODER_DEPENDENCIES = dict.fromkeys(JPEGLSTransferSyntaxes, ("pyjpegls>=1.5",))
"""As pydicom asks it of a plugin."""

SECONDS, VALUES_A_SECOND = 3.0, 1e6
"""How long a frame may take: ten times what it takes where a processor is its own, and more for small ones."""
_NEEDED = ("HOME", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
_BY_PLANE = 0


class Decoded(NamedTuple):
    """The samples of a codestream as little-endian bytes, and how they lie."""

    samples: bytes
    bits: int
    components: int
    interleave: int


class Child:
    """A process that decodes; it is started when it is first needed, and again after its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def decode(self, coded: bytes, *, seconds: float) -> Decoded:
        """Decode a codestream.

        Raises
        ------
        DataError
            It cannot be decoded, or not in this time.
        """
        with self._lock:
            process = self._running()
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            try:
                found = _asked(process, coded)
            finally:
                timer.cancel()
            if found is None:
                self.stop()
                raise DataError("its codestream is damaged: decoding it came to no end")
        if not found.bits:
            raise DataError("its codestream is damaged")
        return found

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        # What a fork inherits is its parent's.
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                # A codestream that could not be sent any more is flushed into nothing.
                with contextlib.suppress(OSError):
                    pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self.stop()
        environment = {name: os.environ[name] for name in _NEEDED if name in os.environ}
        command = [sys.executable, "-P", str(Path(jpeg_ls_child.__file__))]
        made = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._process, self._owner = made, os.getpid()
        assert made.stdout is not None
        if made.stdout.read(len(READY)) != READY:
            self.stop()
            raise DataError(
                "is JPEG-LS, whose decoder does not start", cure="install MedVeil anew: pyjpegls is missing"
            )
        return made


def _asked(process: subprocess.Popen[bytes], coded: bytes) -> Decoded | None:
    """What the process makes of a codestream; None where it ended over it."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(struct.pack(NUMBER, len(coded)) + coded)
        process.stdin.flush()
        bits, components, interleave, length = struct.unpack(ANSWER, process.stdout.read(struct.calcsize(ANSWER)))
        samples = process.stdout.read(length)
    except (OSError, struct.error):
        return None
    return Decoded(samples, bits, components, interleave) if len(samples) == length else None


CHILD = Child()
atexit.register(CHILD.stop)


def is_available(uid: str) -> bool:
    """Whether the plugin decodes a transfer syntax, as pydicom asks it."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame to the components its codestream holds, without a change of colours.

    Raises
    ------
    DataError
        It cannot be decoded, or not in a time that any whole one needs.
    """
    values = runner.rows * runner.columns * runner.samples_per_pixel
    found = CHILD.decode(src, seconds=SECONDS + values / VALUES_A_SECOND)
    if found.components > 1:
        runner.set_option("planar_configuration", int(found.interleave == _BY_PLANE))
    runner.set_option("bits_allocated", 8 if found.bits <= 8 else 16)
    return found.samples
