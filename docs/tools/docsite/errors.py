"""The page about errors and exit codes, from `medveil.errors`."""

from __future__ import annotations

import inspect

from docsite.tables import code, safe, table
from medveil import errors
from medveil.config import load_config
from medveil.training import TrainConfig

_WORDS = {
    0: "ok",
    2: "usage or configuration",
    3: "data or disk",
    4: "key",
    5: "network or federation",
    6: "finished in part",
    130: "interrupted",
}
_EXAMPLES = {
    2: "an unknown setting (the nearest name is given), a policy that would publish a key, a foreign or newer file",
    3: "missing or empty folder, no readable image, unknown label, full disk, a damaged file of ours",
    4: "no passphrase, a wrong one, a store of another key that cannot be rebuilt",
    5: "too few sites, no usable update, a signature of somebody else, a server or PACS out of reach",
    6: "a site was left out of a round, some runs of a comparison failed, an image could not be read",
    130: "Ctrl-C; 143 after SIGTERM and 129 after SIGHUP, as 128 and the signal's number",
}


def page() -> str:
    """Exit codes, then every error with the code it ends a command with."""
    kinds = _kinds()
    codes = sorted({errors.EXIT_OK, errors.EXIT_INTERRUPTED, *(kind.exit_code for kind in kinds)})
    lines = [
        "# Errors and exit codes",
        "",
        "Bad input ends in one line that says what is wrong, where, and what would be right:",
        "",
        "```text",
        f"error: {_example()}",
        "```",
        "",
        "Unreadable files are counted, named and skipped.",
        "",
        "## Exit codes",
        "",
        table(("code", "meaning", "for example"), [(str(c), _WORDS[c], _EXAMPLES.get(c, "")) for c in codes]),
        "## Errors",
        "",
        "In Python they are raised as these classes of `medveil.errors`; what else escapes is a defect.",
        "",
        table(("error", "exit code", "when"), [(code(k.__name__), str(k.exit_code), _when(k)) for k in kinds]),
    ]
    return "\n".join(lines)


def _example() -> str:
    try:
        load_config(TrainConfig, overrides=["epoch=3"])
    except errors.ConfigError as error:
        return str(error)
    raise AssertionError("train.epoch became a setting: show another error")


def _kinds() -> list[type[errors.MedVeilError]]:
    found = [each for _, each in inspect.getmembers(errors, inspect.isclass)]
    return sorted(
        (each for each in found if issubclass(each, errors.MedVeilError)), key=lambda k: (k.exit_code, k.__name__)
    )


def _when(kind: type) -> str:
    return safe(" ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()))
