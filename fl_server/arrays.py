"""Between Flower's ArrayRecord and plain fp32 tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message

from medveil.contract import ARRAYS
from medveil.wire import Tensors


def to_record(arrays: Mapping[str, npt.NDArray[np.generic]]) -> ArrayRecord:
    """NumPy arrays as an ArrayRecord, in the order given."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def to_tensors(record: ArrayRecord) -> Tensors:
    """An ArrayRecord of floats as fp32 tensors.

    Flower's FedAdam computes in fp64 where a NumPy scalar meets an fp32 array; a model is fp32.
    """
    return {name: array.numpy().astype(np.float32, copy=False) for name, array in record.items()}


def payload(message: Message) -> int:
    """Bytes of the tensors a message carries; 0 where it carries none."""
    if not message.has_content() or ARRAYS not in message.content.array_records:
        return 0
    return sum(len(array.data) for array in message.content.array_records[ARRAYS].values())
