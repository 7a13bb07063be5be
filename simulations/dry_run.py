"""``--dry-run``: what a command would run, and what that would take; nothing of it is run or left."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil.errors import EXIT_OK
from medveil.log import each_line_once
from medveil.plain import tell, tell_json

if TYPE_CHECKING:
    from simulations.config import ExperimentConfig
    from simulations.estimate import Estimate, Estimates
    from simulations.side_by_side import Job

_MOST_NAMED = 40


def add_dry_run(made: argparse.ArgumentParser) -> None:
    """Let a command be asked what it would do."""
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would run and about what it takes (time, memory, disk, bytes sent); run nothing",
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what has to be drawn to be measured, which is gone afterwards; what all plans say is said once."""
    with each_line_once(), tempfile.TemporaryDirectory(prefix="medveil-dry-run-") as folder:
        yield Path(folder).resolve()


def tell_planned(
    plan: Callable[[Path], Mapping[str, Sequence[Job]] | tuple[Mapping[str, Sequence[Job]], Sequence[str]]],
    out: Path,
    *,
    jobs: int,
    as_json: bool,
) -> int:
    """Say what of several runs would run, and what that takes.

    Parameters
    ----------
    plan
        Plans the runs below a folder, with everything refused that would be; where it leaves out some, also says why.
    out
        Where they would lie: what finished there under the same settings is kept.
    jobs
        Runs side by side.
    as_json
        Whether the result is JSON, and these lines are said beside it.
    """
    with scratch() as folder:
        found = plan(folder)
        arms, left_out = found if isinstance(found, tuple) else (found, [])
        planned = [_moved(job, folder, out.resolve()) for own in arms.values() for job in own]
        kept = {job.name for job in planned if job.is_kept}
        for each in left_out:
            tell(each, error=as_json)
        said = f"would run {len(planned) - len(kept)} of {len(planned)} runs; {len(kept)} are kept from {out}"
        tell(said, error=as_json)
        for job in planned[:_MOST_NAMED]:
            tell(f"  {job.name}: {'kept' if job.name in kept else 'runs'}", error=as_json)
        if len(planned) > _MOST_NAMED:
            tell(f"  and {len(planned) - _MOST_NAMED} more", error=as_json)
        wanted = [(job.name, job.experiment) for job in planned if job.name not in kept]
        finished = [job for job in planned if job.name in kept]
        found_out = tell_estimate(wanted, folder, jobs=jobs, finished=finished, aside=as_json)
    if as_json:
        tell_json({**found_out, "kept": [job.name for job in finished], "left_out": list(left_out)})
    return EXIT_OK


def tell_runs(runs: Sequence[tuple[str, ExperimentConfig]], *, as_json: bool, jobs: int = 1, named: bool = True) -> int:
    """Say what some experiments, none of which is kept, would take."""
    if named:
        said = f"would run {len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(name for name, _ in runs[:8])}"
        tell(said, error=as_json)
    with scratch() as folder:
        found = tell_estimate(runs, folder, jobs=jobs, aside=as_json)
    if as_json:
        tell_json({**found, "kept": [], "left_out": []})
    return EXIT_OK


def tell_estimate(
    runs: Sequence[tuple[str, ExperimentConfig]],
    folder: Path,
    *,
    jobs: int,
    finished: Sequence[Job] = (),
    aside: bool,
) -> dict[str, Any]:
    """Say what runs would take; the same as plain data: seconds and bytes of all of them together.

    Parameters
    ----------
    runs
        Names and experiments.
    folder
        A `scratch` one.
    jobs
        Runs side by side.
    finished
        Runs of the kind that are done, which say how good such estimates are.
    aside
        Whether to say it on stderr, beside a result that is JSON.
    """
    from simulations.estimate import Estimate, Estimates  # noqa: PLC0415 - torch loads there

    estimates = Estimates(folder)
    found = [(name, estimates.of(experiment)) for name, experiment in runs]
    known = [each for _, each in found if each is not None]
    together = sum(known, Estimate())
    lines = in_words(together, runs=len(known), jobs=jobs) if known else []
    baselines = [name for name, each in found if each is None]
    if baselines:
        lines += [f"not estimated, as a baseline trains in no batches: {', '.join(baselines)}"]
    lines += _beside_measured(finished, estimates)
    sizes = sorted(set(estimates.batches))
    if sizes:
        kinds = len(estimates.batches)
        each_kind = "" if kinds == 1 else f" for each of {kinds} kinds of run"
        lines += [
            f"by one timed batch of {', '.join(map(str, sizes))} images{each_kind}, "
            "on this machine as busy as it is now"
        ]
    for line in lines:
        tell(line, error=aside)
    estimate = dataclasses.asdict(together) if known else None
    return {"runs": [name for name, _ in runs], "jobs": jobs, "estimate": estimate, "not_estimated": baselines}


def in_words(all_of_it: Estimate, *, runs: int, jobs: int) -> list[str]:
    """An estimate of all runs together, in lines."""
    from simulations.report.words import seconds, size  # noqa: PLC0415

    parts = ((name, getattr(all_of_it, name)) for name in ("training", "hiding", "answering", "started") if runs)
    said = {"training": "training", "hiding": "reading and hiding", "answering": "measuring", "started": "starting"}
    spent = ", ".join(f"{said[name]} {seconds(value)}" for name, value in parts)
    beside = min(jobs, runs)
    total = all_of_it.seconds / beside
    together = "" if beside == 1 else f" with {beside} side by side, if each finds cores of its own"
    return [
        f"time: about {seconds(total)}{together}; tables and pages apart",
        f"processor time: {spent}",
        f"memory: about {size(all_of_it.memory)} a run" + ("" if beside == 1 else f", {beside} at once"),
        f"disk: about {size(all_of_it.disk)}",
        f"sent: {size(all_of_it.up)} by sites, {size(all_of_it.down)} to them",
    ]


def _beside_measured(finished: Sequence[Job], estimates: Estimates) -> Iterator[str]:
    """How good such estimates are of runs that finished here."""
    from fl_server.summary import read_summary  # noqa: PLC0415

    pairs = [(estimates.of(job.experiment), read_summary(job.folder / "summary.json")) for job in finished]
    spent = [(made.spent, (summary.get("cpu_seconds") or {}).get("all")) for made, summary in pairs if made]
    passed = [(made.seconds, summary.get("seconds")) for made, summary in pairs if made]
    for name, found in (("processor time", spent), ("seconds", passed)):
        ratios = [estimated / took for estimated, took in found if took]
        if ratios:
            between = f"{min(ratios):.2f}" if len(ratios) == 1 else f"{min(ratios):.2f} to {max(ratios):.2f}"
            yield f"of {len(ratios)} finished here, such an estimate is {between} times the {name} that they took"
    if not finished:
        yield "no run finished here that estimates could be compared with"


def _moved(job: Job, there: Path, here: Path) -> Job:
    """A run that was planned below one folder as it lies below another."""
    experiment = job.experiment
    if experiment.data.path == str(there / "phantoms"):
        experiment.data.path = str(here / "phantoms")
    return dataclasses.replace(job, experiment=experiment, folder=here / job.folder.relative_to(there))
