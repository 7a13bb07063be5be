"""Where a run is, read from the folder it leaves: its rounds, its sites, what each measured last."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from textwrap import shorten
from typing import Any

from fl_server.deployment.consortium import Consortium
from fl_server.deployment.runs import RUNNING, Submission, state_of
from fl_server.manifest import read_manifest
from fl_server.metrics import ALL, Line, read_lines
from fl_server.recorder import VALIDATE
from fl_server.secagg.said import in_words, said_of
from fl_server.weights import Held
from medveil.counting import STATISTICS
from medveil.evaluating import EVALUATE
from medveil.tables import plain_table

_SHOWN_ROUNDS = 8
_LONGEST_WHY = 60
_MAIN = {"train": "train", "evaluate": "test", VALIDATE: "validation", STATISTICS: ""}
"""Which line of metrics.jsonl answers which message."""
AT_WORK, ANSWERED, LEFT_OUT, NOT_ASKED = "at work", "answered", "left out", "not asked"


def progress(submission: Submission, consortium: Consortium) -> dict[str, Any]:
    """Where a run is.

    Returns
    -------
    dict
        Plain data: the run's name, status and stage; ``round``, those finished, of ``rounds``; seconds left, by the
        median round; ``held``, sites whose share ``server.most_share`` holds; ``sites``, each with its part in the
        present phase and its last measures; ``history``, a row a
        round; ``test``, the final measures of all sites, once there are any. What is not known is None.
    """
    folder = submission.folder(consortium)
    state = state_of(submission, consortium)
    found: dict[str, Any] = {
        "run": folder.name,
        "folder": str(folder),
        "status": state["status"],
        "stage": state["error"] or state["stage"] or "",
        "app": submission.fab,
        "submitted": submission.submitted,
    }
    if not (folder / "manifest.json").exists():
        return {
            **found,
            "round": 0,
            "rounds": None,
            "seconds_left": None,
            "sites": [],
            "history": [],
            "held": [],
            "test": None,
            "secagg": None,
        }
    manifest, lines = read_manifest(folder / "manifest.json"), read_lines(folder / "metrics.jsonl")
    asked = manifest["run_config"]
    rounds = 0 if asked.get("task") in (EVALUATE, STATISTICS) else int(asked["rounds"])
    history = _history(lines, manifest["left_out"])
    live = state["status"] == RUNNING
    took = [row["seconds"] for row in history if row["seconds"] is not None]
    return {
        **found,
        "round": len(history),
        "rounds": rounds,
        "seconds_left": (rounds - len(history)) * statistics.median(took) if live and took else None,
        "sites": [
            _site(row["site"], lines, manifest["left_out"], manifest.get("phase") if live else None)
            for row in manifest["sites"]
        ],
        "history": history,
        "held": manifest.get("held", []),
        "secagg": said_of(manifest),
        "test": None if (tested := _last(lines, ALL, "test")) is None else _measures(tested),
    }


def _history(lines: Iterable[Line], left_out: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for every round that all sites have closed."""
    lines = [line for line in lines if line["site"] == ALL]
    validated = {line["round"]: line for line in lines if line["phase"] == "validation"}
    missing: dict[int, list[str]] = {}
    for each in left_out:
        missing.setdefault(each["round"], []).append(each["site"])
    return [
        {
            "round": line["round"],
            "train_loss": line["loss"],
            **{f"validation_{name}": value for name, value in _measures(validated.get(line["round"])).items()},
            "seconds": line["seconds"],
            "bytes_up": line["bytes_up"],
            "bytes_down": line["bytes_down"],
            "left_out": missing.get(line["round"], []),
        }
        for line in lines
        if line["phase"] == "train"
    ]


def _site(
    site: str, lines: list[Line], left_out: list[dict[str, Any]], phase: Mapping[str, Any] | None
) -> dict[str, Any]:
    trained = _last(lines, site, "train")
    missed = [each for each in left_out if each["site"] == site]
    return {
        "site": site,
        "now": _part(site, lines, missed, phase),
        "round": None if trained is None else trained["round"],
        "train_loss": None if trained is None else trained["loss"],
        **{f"validation_{name}": value for name, value in _measures(_last(lines, site, "validation")).items()},
        "seconds": None if trained is None else trained["seconds"],
        "left_out": len(missed),
        "why": missed[-1]["reason"] if missed else "",
    }


def _part(site: str, lines: list[Line], missed: list[dict[str, Any]], phase: Mapping[str, Any] | None) -> str:
    """What a site does in the present phase; nothing where there is none."""
    if phase is None:
        return ""
    if site not in phase["sites"]:
        return NOT_ASKED
    if any(each["round"] == phase["round"] for each in missed):
        return LEFT_OUT
    last = _last(lines, site, _MAIN[phase["kind"]])
    return ANSWERED if last is not None and last["round"] == phase["round"] else AT_WORK


def _last(lines: list[Line], site: str, phase: str) -> Line | None:
    return next((line for line in reversed(lines) if line["site"] == site and line["phase"] == phase), None)


def _measures(line: Line | None) -> dict[str, Any]:
    return {name: None if line is None else line[name] for name in ("loss", "accuracy", "auroc")}


# -- for people --------------------------------------------------------------------------------------------------------


def as_text(found: Mapping[str, Any]) -> str:
    """The same for people: a head, a table of the sites and one of the newest rounds."""
    head = f"run {found['run']}: {found['status']}"
    if found["rounds"] == 0:
        head += ", which trains nothing"
    elif found["rounds"] is not None:
        head += f" after {found['round']} of {found['rounds']} rounds"
    if found["seconds_left"]:
        head += f", about {span(found['seconds_left'])} left"
    parts = [head]
    if found["stage"] and found["status"] not in {"finished", "stopped-early"}:
        parts.append(found["stage"])
    if found["sites"]:
        parts += ["", plain_table([_site_cells(row) for row in found["sites"]])]
    parts += [] if found.get("secagg") is None else [f"updates {in_words(found['secagg'])}"]
    parts += [f"held: {Held(**each)}" for each in found.get("held", [])]
    if found["history"]:
        parts += ["", plain_table([_round_cells(row) for row in found["history"][-_SHOWN_ROUNDS:]])]
    if found["test"] is not None:
        parts += ["", f"test: {numbers(found['test'])}"]
    return "\n".join(parts)


def span(seconds: float) -> str:
    """A length of time in the two units that tell most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _site_cells(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {"site": row["site"], "now": row["now"], "trained": "" if row["round"] is None else f"round {row['round']}"}
    missed = "" if not row["left_out"] else f"{row['left_out']}, last: {shorten(row['why'], _LONGEST_WHY)}"
    return {**cells, **_cells(row), "left out": missed}


def _round_cells(row: Mapping[str, Any]) -> dict[str, str]:
    moved = [row["bytes_up"], row["bytes_down"]]
    megabytes = "" if None in moved else f"{sum(moved) / 1e6:.1f}"
    return {"round": str(row["round"]), **_cells(row), "MB": megabytes, "left out": ", ".join(row["left_out"])}


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "train loss": number(row["train_loss"]),
        "validation loss": number(row["validation_loss"]),
        "accuracy": number(row["validation_accuracy"]),
        "AUROC": number(row["validation_auroc"]),
        "took": "" if row["seconds"] is None else f"{row['seconds']:.1f} s",
    }


def number(value: float | None) -> str:
    """A measure for people; nothing where there is none."""
    return "" if value is None else f"{value:.4f}"


def numbers(measures: Mapping[str, float | None]) -> str:
    """Measures for people, by name; those that are not known are left out."""
    known = [f"{name} {number(value)}" for name, value in measures.items() if value is not None]
    return ", ".join(known) or "none: not asked for, or withheld by sites with few images (limits.smallest_count)"
