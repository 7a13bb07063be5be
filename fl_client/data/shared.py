"""One source for all sites of a simulation: opened for each, the whole data set would be read for each."""

from __future__ import annotations

import json
from pathlib import Path
from weakref import WeakValueDictionary

from fl_client.data.config import DataConfig
from fl_client.data.documents import Documents
from fl_client.data.source import Source, open_source
from medveil.config import to_mapping

_open: WeakValueDictionary[str, Source] = WeakValueDictionary()


def shared_source(config: DataConfig, *, run: str, folder: Path | None = None) -> Source:
    """The source a configuration names, the same for all sites of a run as long as one of them holds it.

    Parameters
    ----------
    run
        The run; another one opens its source anew.
    folder
        Its folder, where it has one here: what is known of which images look alike is kept there.

    Raises
    ------
    ConfigError, DataError
        As `open_source`.
    """
    key = json.dumps([run, to_mapping(config)], sort_keys=True)
    found = _open.get(key)
    if found is None:
        kept_in = (Documents(folder),) if folder is not None and folder.is_dir() else ()
        found = _open[key] = open_source(config, kept_in=kept_in)
    return found
