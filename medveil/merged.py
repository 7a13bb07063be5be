"""Refusing to run out of a folder that is two packages at once.

Flower needs pycryptodome, whose package is ``Crypto``. Where an installer unpacks both onto a disk that ignores case
(macOS and Windows by default), that and our ``crypto`` become one folder, in which the later of two files of one name
replaced the earlier: neither package is whole any more, and nothing would say so but an odd error, if that.
"""

from __future__ import annotations

from pathlib import Path

from medveil.errors import ConfigError

_PACKAGES = Path(__file__).resolve().parents[1]
_OURS = "crypto"
_THEIRS = ("Cipher", "PublicKey", "Protocol")
"""Folders of pycryptodome's that ours has under no spelling."""


def refuse_merged(packages: Path = _PACKAGES) -> None:
    """Refuse to run where `crypto` holds pycryptodome's files too.

    Parameters
    ----------
    packages
        The folder MedVeil is installed in.

    Raises
    ------
    ConfigError
        It does.
    """
    folder = packages / _OURS
    if any((folder / name).is_dir() for name in _THEIRS):
        problem = "holds pycryptodome's package 'Crypto' as well as MedVeil's 'crypto': this disk ignores case"
        cure = "pip uninstall medveil pycryptodome; install both again, MedVeil from a checkout with pip install -e"
        raise ConfigError(problem, where=folder, cure=cure)
