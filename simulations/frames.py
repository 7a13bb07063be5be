"""Records as tables of pandas, which is an extra."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medveil.errors import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(records: Sequence[Mapping[str, Any]], *, cure: str) -> DataFrame:
    """A DataFrame of records, a row each, columns in the order of the first.

    Parameters
    ----------
    cure
        What gives the same without pandas.

    Raises
    ------
    ConfigError
        pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        told = f"install the extra: pip install 'medveil[pandas]'; or {cure}"
        raise ConfigError("needs pandas", where="a DataFrame", cure=told) from error
    made: DataFrame = pandas.DataFrame.from_records(list(records))
    return made
