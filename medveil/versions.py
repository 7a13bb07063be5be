"""Which versions of what a run was made with."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

from medveil import plugins

PACKAGES = ("flwr", "torch", "timm", "numpy", "pydicom", "omegaconf", "cryptography")


def medveil_version() -> str:
    """The installed MedVeil version, or ``"unknown"`` where only its source is on the path."""
    return _version("medveil")


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def environment() -> dict[str, str]:
    """Versions of MedVeil, Python, the platform, the packages results depend on and those that added to MedVeil."""
    return {
        "medveil": medveil_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        **{package: _version(package) for package in PACKAGES},
        **{f"plugin {package}": version for package, version in plugins.used().items()},
    }
