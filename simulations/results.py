"""Going on with a comparison or an ablation in another place: records of finished runs are packed, and taken up.

What tables are made of is small: what a run was and stood on, its measures round by round, and what it answered about
each test image. Checkpoints, stems and stores stay where they are, so that a run that was taken up can be compared and
no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fl_client.site_basis import FOLDER
from fl_server.manifest import ENDED, read_manifest
from fl_server.metrics import MEASURES
from fl_server.summary import read_summary
from medveil.basis import read_basis
from medveil.bounded import MIB, Bounds, parse_json, word
from medveil.config import from_mapping, load_config, to_mapping
from medveil.errors import BasisError, ConfigError, IntegrityError, MedVeilError
from medveil.files import make_folder, new_folder, read_bytes, sha256_file, write_bytes, write_json, write_text
from medveil.plain import shown
from medveil.shapes import check_shape
from medveil.versions import PACKAGES, environment, medveil_version
from medveil.yaml_core import written_yaml
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST, TAKEN, held
from simulations.made import COMMITS, commit
from simulations.predictions import load_predictions
from simulations.report.record import read_run, section
from simulations.results_file import Record, Results, is_record, is_run, write_results
from simulations.side_by_side import Job
from simulations.standing import Comparable

_SETTINGS = ".yaml"
_LINE = Bounds(length=MIB, depth=8, values=1000)
_LARGEST_ARRAYS = 256 * MIB
_MANIFEST = {"seed": int, "device": str, "experiment": dict, "environment": {str: str}, "commits?": [str]}
_METRICS = {
    **{"round": int, "site": str, "phase": str},
    **{f"{name}?": (float, None) for name in (*MEASURES, "n", "seconds", "cpu_seconds", "bytes_up", "bytes_down")},
}
_PLACES = (("data", "path"), ("model", "pretrained"))
"""Settings that say where something lies, which may be another place: what lies there is compared by its contents."""
_CURE = "pack it again: medveil-sim pack"


class Packed(NamedTuple):
    """What became of the runs of a folder, by their paths there.

    Attributes
    ----------
    packed : list of str
        In the file now.
    unfinished : list of str
        Not in it, as they did not finish.
    unnamed : list of str
        Not in it, as a file of results cannot name them.
    """

    packed: list[str]
    unfinished: list[str]
    unnamed: list[str]


def pack(folder: Path, out: Path) -> Packed:
    """Write the records of the finished runs of a comparison or an ablation into one file.

    Parameters
    ----------
    folder
        Of a comparison or an ablation; another process may be at work in it.
    out
        The file; an older one of results is replaced.

    Raises
    ------
    ConfigError
        Nothing that can be packed finished there, or `out` is something else.
    MedVeilError
        A run cannot be read, or `out` not be written.
    """
    records: dict[str, Record] = {}
    unfinished, unnamed = [], []
    for name, settings in _runs_in(folder):
        if not is_run(name):
            unnamed.append(name)
            continue
        job = Job(name, load_config(ExperimentConfig, settings), settings.with_suffix(""), paged=False)
        if job.has_finished:
            records[name] = Record(to_mapping(job.experiment), dict(_records_of(job.folder)))
        else:
            unfinished.append(name)
    if not folder.is_dir():
        raise ConfigError("no such folder", where=folder, cure="name one that 'compare' or 'ablate' wrote into")
    if not records:
        cure = "name a folder that 'compare' or 'ablate' wrote into"
        raise ConfigError("holds no finished run of a comparison or an ablation", where=folder, cure=cure)
    write_results(out, records)
    return Packed(list(records), unfinished, unnamed)


def take(jobs: Sequence[Job], files: Iterable[Path], comparable: Comparable) -> list[str]:
    """Lay what files hold of runs that have not finished here into their folders.

    Parameters
    ----------
    jobs
        The runs there shall be.
    files
        Files of results, as `pack` wrote them. What the first one has is not taken from a later one.
    comparable
        Compares what the runs stand on with what is here.

    Returns
    -------
    list of str
        What is to be told, a line each.

    Raises
    ------
    BasisError
        A run stands on other images, labels, groups, classes or weights than there are here.
    ConfigError
        It ran under other settings, or by another release of MedVeil.
    StorageError, FormatError, IntegrityError
        A file cannot be read, or is not whole.
    """
    told = []
    for path in files:
        results = Results(path)
        taken = [job for job in jobs if _name(job) in results.settings and not job.is_kept]
        for job in taken:
            _refuse_other_settings(job, results)
        made = [_taken(job, results, comparable) for job in taken]
        known = {_name(job) for job in jobs}
        others = sum(name not in known for name in results.settings)
        beside = f"; {others} of other arms or seeds left there" if others else ""
        told += [f"{path}: {len(taken)} finished runs taken up{beside}", *_other_programs(path, made)]
    return told


def _runs_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """The runs below a folder, by their paths there, and the file of settings of each."""
    for settings in sorted(folder.glob(f"*/seed-*{_SETTINGS}")):
        yield f"{settings.parent.name}/{settings.stem}", settings


def _records_of(run: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if is_record(name) and path.is_file():
            yield name, _small(path, read_bytes(path))


def _small(path: Path, data: bytes) -> bytes:
    """A file's contents; of what a site stood on without what counts how much of it changed, some bytes an image."""
    if path.parent.name != FOLDER:
        return data
    return json.dumps({**json.loads(data), "rows": ""}).encode()


def _name(job: Job) -> str:
    """A run's path in its comparison."""
    return f"{job.folder.parent.name}/{job.folder.name}"


def _refuse_other_settings(job: Job, results: Results) -> None:
    where = f"{results.path}, {_name(job)}"
    if results.medveil != medveil_version():
        problem = f"MedVeil {shown(results.medveil, most=40)} made it, and this is {medveil_version()}"
        raise ConfigError(problem, where=where, cure="go on by the release that the comparison began with")
    # Read as a file of settings is, so that nothing but settings comes of it.
    ran = to_mapping(from_mapping(ExperimentConfig, results.settings[_name(job)], where=where))
    found = list(differing(_comparable(ran, job), _comparable(to_mapping(job.experiment), job)))
    if found:
        name, before, now = found[0]
        others = f", and {len(found) - 1} more differ" if len(found) > 1 else ""
        problem = f"ran with {name}={_value(before)}, and here it is {_value(now)}{others}"
        raise ConfigError(problem, where=where, cure="the settings it ran with, or leave the file out")


def _comparable(settings: dict[str, Any], job: Job) -> dict[str, Any]:
    """Settings without what they were compared with, and without where things lie."""
    made = {name: value for name, value in settings.items() if name != "compare"}
    for part, name in _PLACES:
        here = str(getattr(getattr(job.experiment, part), name))
        there = str(made[part][name])
        if not {here.lower(), there.lower()} & {"true", "false", "none"}:
            made[part] = {**made[part], name: ""}
    return made


def differing(before: Any, now: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two configurations as plain data differ: the path of a setting, and its value in each."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(each for each in now if each not in before)]:
            yield from differing(before.get(name), now.get(name), f"{at}.{name}" if at else name)
    elif before != now:
        yield at, before, now


def _value(value: Any) -> str:
    return shown(json.dumps(value, ensure_ascii=False), most=60)


def _taken(job: Job, results: Results, comparable: Comparable) -> dict[str, Any]:
    """Lay a run's records into its folder; its manifest."""
    from simulations.report.page import write_report  # noqa: PLC0415 - what draws figures takes a while to import

    where = f"{results.path}, {_name(job)}"
    files = results.files(_name(job))
    _wait_for(job)
    with new_folder(job.folder) as building:
        for name, data in files.items():
            make_folder((building / name).parent, mode=0o700)
            write_bytes(building / name, data, mode=0o600)
        try:
            manifest = _checked(building)
        except MedVeilError as error:
            raise IntegrityError(f"is no whole record of a run: {error.problem}", where=where, cure=_CURE) from error
        try:
            comparable.check(building, job.experiment)
        except BasisError as error:
            cure = "put back what it ran on, or leave the file out"
            raise BasisError(error.problem, where=where, cure=cure, parts=error.parts) from error
        write_json(building / TAKEN, {"from": results.path.name, "sha256": sha256_file(results.path)})
        try:
            write_report(building)
        except (AttributeError, LookupError, TypeError, ValueError):
            # Everything of a record is looked at there, and a field may be what no run writes.
            raise IntegrityError("a field of its records is of another type", where=where, cure=_CURE) from None
    write_text(job.settings, written_yaml(to_mapping(job.experiment), flow=False))
    return manifest


def _wait_for(job: Job) -> None:
    """Refuse a folder in which a process is at work that outlived its command (StorageError)."""
    if job.folder.is_dir():
        with held(job.folder):
            pass


def _checked(run: Path) -> dict[str, Any]:
    """The manifest of a finished run whose records are whole, within bounds and of the types they were written as."""
    manifest = read_manifest(run / MANIFEST)
    check_shape(manifest, _MANIFEST, where=MANIFEST)
    read_summary(run / "summary.json")
    if manifest["status"] not in ENDED:
        raise IntegrityError("it did not finish")
    for line in read_bytes(run / "metrics.jsonl").splitlines():
        found = parse_json(line, where="metrics.jsonl", bounds=_LINE, kind=IntegrityError)
        check_shape(found, _METRICS, where="metrics.jsonl")
    for path in sorted(run.glob(f"sites/*/{FOLDER}/*.json")):
        read_basis(path)
    # A site writes them unpacked, and a small archive may hold much.
    load_predictions(run, most=_LARGEST_ARRAYS)
    record = read_run(run)
    if record.problems or not record.predictions:
        raise IntegrityError(next(iter(record.problems), "it has no predictions"))
    return manifest


def _other_programs(path: Path, manifests: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What else than this one made the runs, in a line."""
    here, now = environment(), commit()
    commits = {str(each) for manifest in manifests for each in manifest.get(COMMITS) or []}
    other = [f"commit {word(each)}" for each in sorted(commits - {now}) if now is not None]
    made = [section(manifest, "environment") for manifest in manifests]
    for name in PACKAGES:
        found = sorted({str(each[name]) for each in made if name in each} - {here[name]})
        other += [f"{name} {word(version)} (here {here[name]})" for version in found]
    if other:
        yield f"{path}: made by {', '.join(other)}: what differs from this program is in the tables too"
