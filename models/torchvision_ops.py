"""Lets timm import torchvision where torchvision's C++ operators do not load.

timm imports torchvision for its image transforms. torchvision's PyPI wheel is built against CUDA; beside a CPU build of
torch its operator library does not load, and `import torchvision` stops with "operator torchvision::nms does not exist"
while it registers fake kernels. Declaring the schemas of those operators is enough; MedVeil calls none of them.
"""

from __future__ import annotations

import importlib
import importlib.util

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None


def declare_missing_ops() -> bool:
    """Declare the schemas of `torchvision::nms` and `torchvision::qnms` if they are missing.

    Call it before the first import of timm. Does nothing where torchvision is absent or its operators load.

    Returns
    -------
    bool
        Whether schemas had to be declared.
    """
    global _library  # noqa: PLW0603 - the library object must outlive the declarations
    if _library is not None or importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return False
    _library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        _library.define(schema)
    return True
