"""Decodes JPEG-LS codestreams for its parent, in a process that may be ended: a program, which imports nothing of ours.

From its input: the length of a codestream (8 bytes), and the codestream. To its output: one byte when it is ready, and
for each codestream the bits of a sample, components, interleaving and the length of the samples (8 bytes each, zeros
for what cannot be decoded), and the samples.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import BinaryIO

NUMBER, ANSWER = "<Q", "<4Q"
READY = b"\1"


def main() -> None:
    """Answer until the parent closes the pipe."""
    import jpeg_ls  # noqa: PLC0415 - the parent reads the forms above, and does not load it

    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints would be taken for an answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _send(sink, READY)
    width = struct.calcsize(NUMBER)
    while len(head := source.read(width)) == width:
        coded = source.read(struct.unpack(NUMBER, head)[0])
        try:
            samples, about = jpeg_ls.decode_pixel_data(coded)
            said = about["bits_per_sample"], about["components"], about["interleave_mode"], len(samples)
        except Exception:
            samples, said = bytearray(), (0, 0, 0, 0)
        _send(sink, struct.pack(ANSWER, *said) + samples)


def _send(sink: BinaryIO, data: bytes | bytearray) -> None:
    sink.write(data)
    sink.flush()


if __name__ == "__main__":
    main()
