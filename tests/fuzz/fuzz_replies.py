"""Coverage-guided fuzzing of what a server reads of a site's reply: arrays, measures, the row of the preflight.

Not part of the test suite. Install atheris, then from the root of the repository:

    PYTHONPATH=.:tests/support python tests/fuzz/fuzz_replies.py -runs=100000

Only `MedVeilError` may come out; anything else ends the run with the input that did it. A corpus folder may be named;
without one a small corpus is made in a temporary folder. libFuzzer's other options work too.
`tests/fl_server/test_fuzz_replies.py` puts the same questions with hypothesis.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import atheris

    _instrumented: Any = atheris.instrument_imports(include=["medveil", "fl_server"])
else:
    _instrumented = contextlib.nullcontext()

with _instrumented:
    from fl_server.collect import Reply
    from fl_server.rows import read_row
    from medveil.contract import SITE, RunConfig
    from medveil.errors import MedVeilError
    from medveil.measures import checked_measures
    from medveil.received import tensors_of

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from malformed import malformed, npy

from medveil.flower import be_task

N = 16
RUN = RunConfig(classes=["healthy", "ill"], cipher={"scheme": "none", "block": 8, "negate": False})


def an_array(data: bytes) -> None:
    """The first byte says what the message claims of it, the rest is what stands in its place."""
    claims = data[:1] or b"\0"
    shape = [(N,), (N, 1), (-1,), (), tuple(data[1:40])][claims[0] % 5]
    dtype = ["float32", "uint16", data[1:20].decode("latin-1")][claims[0] // 5 % 3]
    record = ArrayRecord({"head": Array(dtype=dtype, shape=shape, stype="numpy.ndarray", data=data[1:])})
    for wire, packed in (("fp32", False), ("bf16", False), ("fp32", True)):
        with contextlib.suppress(MedVeilError):
            tensors_of(record, {"head": (N,)}, wire, packed=packed)


def some_measures(data: bytes) -> None:
    said = plain(data)
    if isinstance(said, dict):
        made = checked_measures(said)
        json.dumps(made, allow_nan=False)


def a_row(data: bytes) -> None:
    said = plain(data)
    if not isinstance(said, dict):
        return
    record = ConfigRecord()
    # A node may send what Flower's own record would refuse.
    record.__dict__["_data"].update(said)
    reply = Reply(7, "node 7", message=Message(RecordDict({SITE: record}), 1, "query"))
    row = read_row(reply, run=RUN, model_hash="0" * 64, registered=None)
    json.dumps(row.as_data(), allow_nan=False).encode("ascii")


def plain(data: bytes) -> Any:
    """JSON with Python's own words for what is no number; None where it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(data)
    return None


READERS: tuple[Callable[[bytes], None], ...] = (an_array, some_measures, a_row)


def one_input(data: bytes) -> None:
    """The first byte says who reads the rest."""
    if not data:
        return
    with contextlib.suppress(MedVeilError):
        READERS[data[0] % len(READERS)](data[1:])


def inputs() -> dict[str, bytes]:
    """Whole and malformed inputs for each reader."""
    row = {
        "site": "mercy",
        "classes": RUN.classes,
        "counts": [10, 20],
        "missing": [],
        **{f"n-{part}": 20 for part in ("train", "validation", "test")},
        "skipped": 0,
        "model-hash": "0" * 64,
        "scheme": "none",
        "block": 8,
        "negate": False,
        "fingerprint": "",
        "version": "1",
    }
    measures = {"train-loss": 0.5, "validation-n": 10, "test-auroc": float("nan"), "seconds": 1.5, "num-examples": 9}
    made = {f"array-{index}": b"\0\0" + data for index, data in enumerate(malformed(N).values())}
    made |= {"array": b"\0\0" + npy(np.zeros(N, np.float32)), "bf16": b"\0\x05" + npy(np.zeros(N, np.uint16))}
    made |= {"measures": b"\x01" + json.dumps(measures).encode(), "row": b"\x02" + json.dumps(row).encode()}
    made["huge"] = b"\x01" + b'{"train-loss": 1' + b"0" * 400 + b"}"
    made["edges"] = b"\x00\x00" + struct.pack("<6sBBH", b"\x93NUMPY", 1, 0, 65535)
    return made


def corpus() -> Path:
    """The inputs, a file each."""
    folder = Path(tempfile.mkdtemp()) / "corpus"
    folder.mkdir()
    for name, data in inputs().items():
        (folder / name).write_bytes(data)
    return folder


def main() -> None:
    be_task(run_id=1, node_id=1)
    named = any(not each.startswith("-") for each in sys.argv[1:])
    atheris.Setup([*sys.argv, *([] if named else [str(corpus())])], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
