"""The page about one run: ``RUN/report.html``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from medveil.files import write_text
from medveil.pages import pictures
from medveil.pages.filled import pages_of, style
from medveil.times import moment
from medveil.yaml_core import written_yaml
from models.policy import POLICIES, Policy
from simulations.left_out import left_out
from simulations.report import answers, curves, events, hits, sentences, words
from simulations.report.links import Link, links
from simulations.report.promised import promised
from simulations.report.record import Mapping, RunRecord, number, read_run, section
from simulations.report.shares import dealt
from simulations.resampling import METRICS
from simulations.statistics import accuracy, auroc, balanced_accuracy, confusion

REPORT = "report.html"
_FILTERS = ("score", "interval", "count", "seconds", "size", "plain", "percent", "points", "p_value", "listed")
_EXAMPLES = (
    ("original", "original"),
    ("ciphertext", "ciphertext"),
    ("decrypted", "decrypted"),
    ("wrong_key", "wrong key"),
)
_FILES = ("manifest.json", "metrics.jsonl", "summary.json", "examples.npz", "looked.npz")
_SECTIONS = (
    ("curves", "Training", "charts"),
    ("sites", "Hospitals", "hospitals"),
    ("events", "Drop-outs and resumes", "events"),
    ("classes", "Classes", "answers"),
    ("roc", "ROC curves", "has_roc"),
    ("calibration", "Calibration", "answers"),
    ("hits", "Hits and misses", "hits"),
    ("thief", "What a stolen model is worth without the key", "thief"),
    ("examples", "What hiding does to an image", "examples"),
    ("attacks", "Attacks", "attacks"),
    ("policies", "Policies", "policies"),
    ("skipped", "Skipped files", "said_skipped"),
    ("configuration", "Configuration", "configuration"),
    ("environment", "Environment", "environment"),
    ("files", "Files", "files"),
)
"""Sections in their order: id, heading, and what must be there for them to be shown."""
_EXPECTED = {"charts", "hospitals", "answers", "thief", "examples"}
"""What a finished simulation has: where it is missing the page says so once."""
_MOST_SITES = 100
_THIEF = (
    ("owner", "the owner", "model and key"),
    ("wrong_key", "a thief", "whole model, a wrong key"),
    ("public_stem", "a thief", "trunk and head, public initial stem, plain images"),
)


def write_report(run: str | Path, *, attacks: Mapping | None = None) -> Path:
    """Write ``RUN/report.html`` from what the run folder holds, however far the run came.

    Parameters
    ----------
    run
        The run folder.
    attacks
        The part about attacks, made by `simulations.attacks.matrix.part`: a page of a run knows no attack itself.

    Returns
    -------
    Path
        The page: one file, without references to anything outside it.

    Raises
    ------
    StorageError, IntegrityError, FormatError
        There is no readable manifest, or the page cannot be written.
    """
    record = read_run(run)
    path = record.folder / REPORT
    # It shows originals.
    write_text(path, render("template.html", **_content(record, attacks)), mode=0o600)
    return path


def render(template: str, **content: Any) -> str:
    """Fill a template of this package; everything that is not Markup is escaped."""
    states = Markup(Path(__file__).with_name("states.css").read_text(encoding="utf-8"))
    made: str = _environment().get_template(template).render(style=style(), states_style=states, **content)
    return made


@functools.cache
def _environment() -> Environment:
    """The templates of this package, each of which is compiled once."""
    environment = pages_of(("simulations", "report"), ("fl_client", "looked"))
    environment.filters.update({each: getattr(words, each) for each in _FILTERS})
    return environment


def _content(run: RunRecord, attacks: Mapping | None) -> dict[str, Any]:
    found = {**_parts(run), "attacks": attacks}
    shown = [(name, heading) for name, heading, needs in _SECTIONS if found[needs]]
    missing = [heading for _, heading, needs in _SECTIONS if not found[needs] and needs in _EXPECTED]
    return {**found, "contents": shown, "shown": {name for name, _ in shown}, "absent": sentences.absent(run, missing)}


def _parts(run: RunRecord) -> dict[str, Any]:
    answered = answers.content(run.predictions, run.classes)
    return {
        "run": run,
        "title": str(run.manifest.get("name", "run")),
        "headline": sentences.headline(run),
        "status": sentences.status(run),
        "unfinished": run.status not in {"finished", "stopped-early"},
        "facts": _facts(run),
        "charts": curves.charts(run),
        "rounds": curves.rounds(run),
        "confusion": _confusion(run),
        "answers": answered,
        "has_roc": bool(answered and answered["roc"]),
        "hits": hits.content(run),
        "events": events.content(run),
        "hospitals": bool(_site_rows(run) or _preflight(run)),
        "sites": _site_rows(run),
        "scored": any(number(row.get(metric)) is not None for row in _site_rows(run) for metric in METRICS),
        "overall": _overall(run),
        "spread": _spread(_site_rows(run)),
        "pooled": _pooled(run),
        "measured": _rests(run),
        "why_measured": sentences.why_not_every_site(run),
        "counted": sentences.counted(run),
        "preflight": _preflight(run),
        "thief": _thief(run),
        "thief_words": sentences.thief(run),
        "examples": _examples(run),
        "policies": _policies(run),
        "skipped": left_out(run.sites),
        "said_skipped": bool(run.sites),
        "files": _files(run),
        "of_images": bool(run.predictions or run.examples or run.looked),
        "configuration": as_yaml(run.experiment or run.run_config),
        "environment": {"run": run.manifest.get("run"), **section(run.manifest, "environment")},
    }


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    summary = run.summary or {}
    return [
        ("rounds", words.plain(summary.get("rounds", run.run_config.get("rounds")))),
        ("seed", words.plain(run.manifest.get("seed"))),
        ("model", sentences.model(run)),
        ("started", _moment(run.manifest.get("started"))),
        ("ended", _moment(run.manifest.get("ended"))),
        ("training and evaluation", words.seconds(summary.get("seconds"))),
        ("sent by sites", words.size(summary.get("bytes_up"))),
        ("sent to sites", words.size(summary.get("bytes_down"))),
        ("device", words.plain(run.manifest.get("device"))),
        *promised(run),
        *sentences.course(run),
    ]


def _files(run: RunRecord) -> list[Link]:
    folders = [f"sites/{path.name}" for path in sorted(run.folder.glob("sites/*")) if path.is_dir()]
    own = [f"{folder}/{name}" for folder in folders[:_MOST_SITES] for name in ("site.json", "predictions.npz")]
    return links(run.folder, [*_FILES, *own])


def _moment(value: object) -> str:
    return moment(str(value)) if value else words.NOTHING


def _confusion(run: RunRecord) -> dict[str, Any] | None:
    if not any(len(each) for each in run.predictions.values()):
        return None
    counts = confusion(run.predictions)
    names = run.classes if len(run.classes) == len(counts) else [str(each) for each in range(len(counts))]
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    rows = [
        {"name": name, "n": int(own.sum()), "cells": list(zip(own.tolist(), share.tolist(), strict=True))}
        for name, own, share in zip(names, counts, shares, strict=True)
    ]
    return {"names": names, "rows": rows, "n": int(counts.sum())}


def _site_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Test results by site: from the summary, else from the predictions a run left before it ended."""
    recorded = section(run.summary, "sites")
    if recorded:
        return [{"site": site, **(row if isinstance(row, dict) else {})} for site, row in recorded.items()]
    return [
        {
            "site": site,
            "n": len(each),
            "accuracy": accuracy(each.labels, each.probabilities),
            "balanced_accuracy": balanced_accuracy(each.labels, each.probabilities),
            "auroc": auroc(each.labels, each.probabilities),
        }
        for site, each in run.predictions.items()
    ]


def _spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst and the best site by each measure, of two sites or more that have it."""
    made = []
    for metric in METRICS:
        known = {str(row["site"]): value for row in rows if (value := number(row.get(metric))) is not None}
        if len(known) < 2:
            continue
        worst, best = min(known, key=lambda each: known[each]), max(known, key=lambda each: known[each])
        low, high = known[worst], known[best]
        name = "AUROC" if metric == "auroc" else metric.replace("_", " ")
        made.append({"name": name, "worst": worst, "best": best, "low": low, "high": high, "spread": high - low})
    return made


def _overall(run: RunRecord) -> dict[str, Any] | None:
    if run.summary is None:
        return None
    found = section(run.summary, "intervals")
    bounds = {metric: words.interval(found.get(metric)) for metric in METRICS}
    # The note tells how the bounds were made; where there are none there is nothing to tell.
    note = run.summary.get("intervals_note") or "" if any(bounds.values()) else ""
    return {**run.summary, "bounds": bounds, "note": note}


_POOLED = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "pr_auc": "PR-AUC",
}


def _pooled(run: RunRecord) -> list[dict[str, Any]]:
    """Measures over the images of all sites together, beside the mean over sites where there is one."""
    found = section(run.summary, "pooled")
    rests = section(run.summary, "rests_on")
    bounds, why = section(run.summary, "intervals"), section(run.summary, "intervals_withheld")
    rows = []
    for metric, title in _POOLED.items():
        each = section(found, metric)
        if each:
            mean = {"mean": (run.summary or {}).get(metric), "mean_bounds": words.interval(bounds.get(metric))}
            said = {"rests": words.rests(section(rests, metric)), "why": why.get(metric)}
            shown = {key: each.get(key) for key in ("value", "interval", "n", "groups", "withheld")}
            rows.append({"name": title, **shown, **mean, **said})
    return rows


def _rests(run: RunRecord) -> list[str]:
    """What each mean over sites rests on, where that is not every site."""
    found = section(run.summary, "rests_on")
    return [
        f"{_POOLED.get(metric, metric)}: {said}" for metric in found if (said := words.partial(section(found, metric)))
    ]


def _preflight(run: RunRecord) -> dict[str, Any] | None:
    """What the sites said before round 1, one column for each class."""
    rows = _mappings(run.manifest.get("sites"))
    if not rows:
        return None
    found = [{**row, "counts": _counts(row, run.classes)} for row in rows]
    return {"classes": run.classes, "rows": found, "dealt": dealt(run.classes, found)}


def _counts(row: Mapping, classes: list[str]) -> list[Any]:
    names, counts = row.get("classes"), row.get("counts")
    if not isinstance(names, list) or not isinstance(counts, list):
        return [None] * len(classes)
    found = dict(zip(map(str, names), counts, strict=False))
    return [found.get(each) for each in classes]


def _thief(run: RunRecord) -> list[dict[str, Any]]:
    found = section(run.summary, "thief")
    if not any(number(value) is not None for key, *_ in _THIEF for value in section(found, key).values()):
        # A server that no site told a figure has nothing to show.
        return []
    notes = section(found, "notes")
    rows = [{"who": who, "holds": holds, "key": key, **section(found, key)} for key, who, holds in _THIEF]
    # Where there is a figure the row says it all; where there is none the note says why.
    return [{**row, "note": "" if section(found, row["key"]) else notes.get(row["key"]) or ""} for row in rows]


def _examples(run: RunRecord) -> dict[str, Any] | None:
    shown = [(heading, run.examples[key]) for key, heading in _EXAMPLES if key in run.examples]
    if not shown or any(images.ndim != 4 for _, images in shown):
        return None
    rows = [
        [pictures.data_uri(image) for image in images] for images in zip(*(each for _, each in shown), strict=False)
    ]
    scheme = section(run.run_config, "cipher")
    return {"headings": [heading for heading, _ in shown], "rows": rows, "scheme": scheme.get("scheme", "")}


def _policies(run: RunRecord) -> list[tuple[Policy, bool]]:
    """Every policy offered, and whether it is the run's own; none of a baseline, which has no stem."""
    if sentences.baseline(run):
        return []
    own = tuple(run.run_config.get(key) for key in ("keys", "stem_init", "stem_train"))
    return [(each, (each.keys, each.init, each.train) == own) for each in POLICIES]


def _mappings(value: object) -> list[Mapping]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def as_yaml(document: Mapping) -> str:
    """Settings as a person reads them."""
    return written_yaml(document, width=100, unicode=True)
