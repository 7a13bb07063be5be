"""Between Flower's ArrayRecord and plain fp32 tensors."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message

from medveil.contract import ARRAYS
from medveil.npy import write_npy
from medveil.sent import NUMPY, named, record_of
from medveil.wire import Tensors


class Held(Array):
    """An Array whose tensor is at hand: nothing is encoded before its bytes are asked for, and nothing decoded.

    The server checks each tensor of a reply and hands it to the strategy, which reads it once more and makes new ones
    that become the next round's. Encoding and decoding in between would cost as much as the aggregation.

    Parameters
    ----------
    tensor
        An array of any shape and a NumPy dtype; it must not change afterwards.
    """

    def __init__(self, tensor: npt.NDArray[np.generic]) -> None:
        self._tensor = tensor
        self.dtype, self.shape, self.stype = named(tensor.dtype), tensor.shape, NUMPY

    @functools.cached_property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes that travel."""
        return write_npy(self._tensor)

    def numpy(self) -> npt.NDArray[np.generic]:
        """Return a copy of the tensor."""
        return self._tensor.copy()


def to_record(arrays: Mapping[str, npt.NDArray[np.generic]]) -> ArrayRecord:
    """NumPy arrays as an ArrayRecord for use in this process, in the order given."""
    record = ArrayRecord()
    # Given to the constructor, each Array would be encoded and copied.
    for name, array in arrays.items():
        record[name] = Held(np.asarray(array))
    return record


def to_wire(arrays: Mapping[str, npt.NDArray[np.generic]]) -> ArrayRecord:
    """NumPy arrays as an ArrayRecord for another process, in the order given."""
    return record_of({name: np.asarray(array) for name, array in arrays.items()})


def to_tensors(record: ArrayRecord) -> Tensors:
    """An ArrayRecord of floats as fp32 tensors.

    Flower's FedAdam computes in fp64 where a NumPy scalar meets an fp32 array; a model is fp32.
    """
    return {name: array.numpy().astype(np.float32, copy=False) for name, array in record.items()}


def payload(message: Message) -> int:
    """Bytes of the tensors a message carries; 0 where it carries none."""
    sent = message.content.get(ARRAYS) if message.has_content() else None
    return sum(len(array.data) for array in sent.values()) if isinstance(sent, ArrayRecord) else 0
