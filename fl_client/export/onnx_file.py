"""A model as an ONNX file, for runtimes without torch. Needs the extra ``onnx``."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING

import torch

from medveil.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

NEEDS = ("onnx", "onnxscript")
OPSET = 20
INPUT, OUTPUT = "pixels", "logits"


def check_onnx() -> None:
    """Refuse where the extra is not installed (ConfigError)."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        cure = "install the extra: pip install 'medveil[onnx]'"
        raise ConfigError(f"needs {' and '.join(missing)}", where="--onnx", cure=cure)


def onnx_bytes(model: nn.Module, *, channels: int, side: int) -> bytes:
    """The model as ONNX, from ``pixels`` (n, channels, side, side) of `models.vit.normalise` to ``logits``.

    Raises
    ------
    ConfigError
        The extra is not installed.
    """
    check_onnx()
    # Two images, because torch.export takes a batch of one for a constant.
    example = torch.zeros(2, channels, side, side)
    with warnings.catch_warnings():
        # What torch's exporter says to its own developers.
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            model.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            verbose=False,
        )
    assert made is not None
    serialised: bytes = made.model_proto.SerializeToString()
    return serialised
