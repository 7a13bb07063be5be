"""The run config of the app: settings as JSON, or, in a plain ``flwr run .``, the file of the app that holds them.

Flower's run config knows no lists and nothing nested, so each of our keys holds one text. `pyproject.toml` names
``demo.yaml`` instead, which lies beside this module, travels in the bundle and can be read by a person. Only that name
is heeded, and only by a server and by simulated sites: a real site takes JSON, as a server sends it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medveil.bounded import parse_yaml
from medveil.errors import ConfigError
from medveil.files import read_bytes
from medveil.yaml_core import meant

DEMO = "demo.yaml"
_FOLDER = Path(__file__).parent


def settings_text(run_config: Mapping[str, object], key: str) -> str:
    """The settings under a key of Flower's run config, as JSON.

    Raises
    ------
    ConfigError
        There are none, or the app's own file has none.
    StorageError
        The app's own file cannot be read.
    """
    text = run_config.get(key)
    if not isinstance(text, str) or not text:
        raise ConfigError(f"'{key}' is missing", where="run config", cure="it holds the settings of a run as JSON")
    return _of_demo(key) if text == DEMO else text


@functools.cache
def _of_demo(key: str) -> str:
    path = _FOLDER / DEMO
    sections: Any = meant(parse_yaml(read_bytes(path).decode("utf-8", errors="replace"), where=path))
    if not isinstance(sections, dict) or key not in sections:
        raise ConfigError(f"has no section '{key}'", where=path, cure="install MedVeil anew")
    return json.dumps(sections[key], sort_keys=True)
