"""The columns: schemes, some of them with negation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crypto.cipher import SCHEMES, check_scheme
from crypto.config import CipherConfig
from medveil.errors import ConfigError

_NEGATED = "+negate"
_FIRST, _LAST = "none", "aes-ctr"
_BOTH_WAYS = ("block-pixel",)
"""Schemes shown without and with negation unless others are asked for."""


@dataclass(frozen=True)
class Column:
    """A scheme as it is attacked.

    Attributes
    ----------
    scheme : str
        Its name, or a preset's.
    negate : bool
    """

    scheme: str
    negate: bool = False

    @property
    def label(self) -> str:
        """Name of the column and of its folder: ``block-pixel+negate``."""
        return f"{self.scheme}{_NEGATED if self.negate else ''}"

    def of(self, config: CipherConfig) -> CipherConfig:
        """A cipher's configuration with this scheme."""
        return replace(config, scheme=self.scheme, negate=self.negate)


def column_of(label: str) -> Column:
    """The column of a name.

    Raises
    ------
    ConfigError
        There is no such scheme.
    """
    name = label.strip()
    return Column(check_scheme(name.removesuffix(_NEGATED)), name.endswith(_NEGATED))


def columns_of(labels: str | None) -> list[Column]:
    """Columns by their names, separated by commas; None for all schemes, unprotected first.

    Raises
    ------
    ConfigError
        There is no such scheme, or one is named twice.
    """
    made = _all() if labels is None else [column_of(each) for each in labels.split(",")]
    if len(set(made)) != len(made):
        raise ConfigError("names a scheme twice", where="--schemes")
    return made


def in_order(labels: set[str]) -> list[str]:
    """Names of columns in the order of a page; those of schemes that are not known come last."""
    place = {each.label: at for at, each in enumerate(_all(every=True))}
    return sorted(labels, key=lambda label: (place.get(label, len(place)), label))


def _all(*, every: bool = False) -> list[Column]:
    middle = [name for name in SCHEMES if name not in {_FIRST, _LAST}]
    ordered = [name for name in (_FIRST, *middle, _LAST) if name in SCHEMES]
    twice = SCHEMES if every else _BOTH_WAYS
    return [Column(name, negate) for name in ordered for negate in ((False, True) if name in twice else (False,))]
