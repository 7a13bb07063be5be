"""What a simulation stands on: written down as it begins, and compared when it is resumed or used in a comparison.

The manifest keeps a digest of each part, and ``basis.json`` beside it what counts how much of a part changed. How
images are dealt to sites and parts, each site writes down and compares itself (`fl_client.site_basis`); the hash of the
model a run begins with is the server's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fl_client.data.alike import said_of_data_set
from fl_client.data.base import Source
from fl_client.data.config import PartitionConfig, joins_similar
from fl_client.data.documents import Documents
from fl_client.data.left_open import STORES
from fl_client.data.source import open_source
from fl_client.data.standing import basis_of_source
from fl_client.data.store_files import read_head, read_open_header
from fl_client.data.store_terms import prepared_otherwise
from fl_client.site_basis import FOLDER
from fl_client.site_files import DESCRIPTION
from fl_client.site_files import FORMAT as SITE
from fl_client.site_files import VERSION as SITE_VERSION
from fl_server.manifest import read_manifest as whole_manifest
from medveil.basis import (
    DEALT,
    FILE,
    IMAGES,
    LABELS,
    OF_DATA,
    SETTINGS,
    SPLIT,
    Basis,
    changed,
    differences,
    read_basis,
    refuse_change,
    write_basis,
)
from medveil.config import to_mapping
from medveil.errors import BasisError, MedVeilError, StorageError
from medveil.files import sha256_file, write_json
from medveil.log import logger
from medveil.paths import weights_file
from medveil.shapes import read_document
from simulations.config import ExperimentConfig
from simulations.folders import BASIS, MANIFEST, read_manifest
from simulations.plan import Plan
from simulations.resolved import resolved

_LOCAL = "local-dir:"
_log = logger("run")


def standing(plan: Plan) -> Basis:
    """What the runs of a plan stand on now (StorageError where the weights cannot be read)."""
    # Only a plan that was put together by hand has none open.
    source = open_source(plan.experiment.data) if plan.source is None else plan.source
    return _basis(source, plan.experiment)


def _basis(source: Source, config: ExperimentConfig) -> Basis:
    weights = weights_digest(str(config.model.pretrained))
    return basis_of_source(
        source,
        config.data,
        seed=config.seed,
        sites=config.sites,
        weights={} if weights is None else {FILE: weights},
    )


def begins(plan: Plan) -> Plan:
    """The plan of a run that begins, with what it stands on, which is written into its folder."""
    basis = standing(plan)
    if plan.source is not None:
        for told in said_of_data_set(plan.source.items, plan.source.classes, basis):
            _log.warning("%s: %s", plan.source.path, told)
    write_basis(plan.out / BASIS, basis, run=plan.run.run)
    return dataclasses.replace(plan, basis=basis.parts)


def goes_on(plan: Plan, manifest: dict[str, Any]) -> Plan:
    """The plan of a run that is resumed, which stands on what it began with.

    Raises
    ------
    BasisError
        It does not: what differs is named.
    """
    basis = standing(plan)
    cure = "put back what it began with and resume again, or start a new run"
    _compare(plan.out, manifest, basis, cure=cure, since="the run began")
    if not manifest.get("basis"):
        told = "contents and groups of the images and the weights it began with cannot be compared"
        _log.warning("%s: an older MedVeil began this run: %s; labels and split are, by its sites", plan.out, told)
    return dataclasses.replace(plan, basis=basis.parts)


def note_split(run: Path) -> None:
    """Write into the manifest how images were dealt, as the sites wrote it down when they began."""
    found = {path.parent.parent.name: read_basis(path).parts[SPLIT] for path in _records(run)}
    if not found:
        return
    document = whole_manifest(run / MANIFEST)
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    document["basis"] = {**document.get("basis", {}), DEALT: digest}
    write_json(run / MANIFEST, document)


def _records(run: Path) -> list[Path]:
    return sorted(run.glob(f"sites/*/{FOLDER}/*.json"))


class Comparable:
    """What runs of a comparison stand on; images that arms share are opened once.

    Parameters
    ----------
    shared
        A folder that the runs share, which keeps what is known of their images.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self._open: dict[str, Source] = {}
        self._kept_in: tuple[Documents, ...] = () if shared is None else (Documents(shared),)

    def look(self, experiment: ExperimentConfig, run: Path) -> None:
        """Look for images that look alike, where they are kept together: each run would for itself."""
        if self._kept_in and joins_similar(experiment.data):
            self._source(resolved(experiment, run))

    def check(self, run: Path, experiment: ExperimentConfig) -> str:
        """Refuse a finished run that stands on something else than its experiment would now.

        Returns
        -------
        str
            What cannot be compared, as a run of an older MedVeil did not write it down; else empty.

        Raises
        ------
        BasisError
            Says what differs, and what to do.
        MedVeilError
            The images or weights cannot be read now.
        """
        cure = "put back what it ran on, or compare into another folder, where every arm runs anew"
        config = resolved(experiment, run)
        source = self._source(config)
        manifest = read_manifest(run)
        if manifest.get("basis"):
            _compare(run, manifest, _basis(source, config), cure=cure, since="it ran")
            return ""
        prepared = _prepared_otherwise(run)
        if prepared:
            raise BasisError(f"an older MedVeil ran it: {prepared}", where=run, cure=cure, parts=(SETTINGS,))
        if not _older_agrees(run, source):
            problem = "the images changed since it ran, or their labels: they are not those of its stores"
            raise BasisError(problem, where=run, cure=cure, parts=(IMAGES, LABELS))
        return "an older MedVeil ran it: contents and groups of its images and its weights cannot be compared"

    def _source(self, config: ExperimentConfig) -> Source:
        data = dataclasses.replace(config.data, partition=PartitionConfig(by=config.data.partition.by))
        key = json.dumps(to_mapping(data), sort_keys=True)
        if key not in self._open:
            self._open[key] = open_source(config.data, kept_in=self._kept_in)
        return self._open[key]


def common(runs: Sequence[Path]) -> dict[str, str]:
    """What all runs of a comparison stand on: digests of classes, images, labels and groups.

    Raises
    ------
    BasisError
        Two runs stand on different data, or two of one seed on different splits: the table would be of neither.
    """
    known = [(run, _parts(run)) for run in runs]
    told = [(run, parts) for run, parts in known if parts]
    cure = "remove the older of the two folders, and compare again"
    for run, parts in told[1:]:
        first, others = told[0]
        differing = [name for name in differences(others, parts) if name in OF_DATA]
        if differing:
            raise changed(differing, where=run, cure=cure, since=f"{first.parent.name} {first.name} ran")
    _refuse_other_splits(told, cure)
    if len(told) < len(known) or not told:
        return {}
    return {name: told[0][1][name] for name in OF_DATA if name in told[0][1]}


def _refuse_other_splits(runs: Sequence[tuple[Path, dict[str, str]]], cure: str) -> None:
    seen: dict[tuple[str, int, str], tuple[Path, str]] = {}
    for run, _ in runs:
        records = _records(run)
        for path in records:
            split, site = read_basis(path).parts[SPLIT], path.parent.parent.name
            # Arms of one seed that have as many sites deal them the same images.
            first = seen.setdefault((run.name, len(records), site), (run, split))
            if first[1] != split:
                raise changed([SPLIT], where=run, cure=cure, since=f"{first[0].parent.name} {first[0].name} ran")


def _parts(run: Path) -> dict[str, str]:
    return dict(read_manifest(run).get("basis") or {})


def _prepared_otherwise(run: Path) -> str:
    """That the stores of a run hold images prepared in another way; empty where they do not, or cannot be read."""
    for store in sorted(run.glob(f"sites/*/{STORES}/[!.]*")):
        try:
            told = prepared_otherwise(read_head(store).preparation)
        except MedVeilError:
            continue
        if told:
            return told
    return ""


def _older_agrees(run: Path, source: Source) -> bool:
    """Whether what an older MedVeil left of a run tells of these files, with these labels and classes."""
    labels = {item.id: source.classes[item.label] for item in source.items}
    named = source.identity()
    sites = sorted(run.glob("sites/*"))
    return bool(sites) and all(_site_agrees(site, named, labels) for site in sites)


def _site_agrees(site: Path, named: str, labels: dict[str, str]) -> bool:
    try:
        described = read_document(site / DESCRIPTION, {"source?": str}, name=SITE, newest=SITE_VERSION)
        headers = [read_open_header(each) for each in sorted((site / STORES).glob("[!.]*")) if each.is_dir()]
    except MedVeilError:
        return False
    stored = (
        labels.get(name) == header["classes"][label]
        for header in headers
        for part in header["parts"].values()
        for name, label in zip(part["ids"], part["labels"], strict=True)
    )
    return bool(headers) and described.get("source") == named and all(stored)


def weights_digest(named: str) -> str | None:
    """SHA-256 of the contents of the weights a configuration names, a file or a folder; None where it names none.

    Of weights that timm fetches by name, the hash of the model itself, which the server keeps, tells.

    Raises
    ------
    StorageError
        They cannot be read.
    """
    named = named.strip().removeprefix(_LOCAL)
    if named.lower() in {"false", "true"}:
        return None
    path = Path(weights_file(named)).expanduser()
    if not path.exists():
        raise StorageError("no such weights file", where=path)
    digest = hashlib.sha256()
    for name, file in _files(path):
        digest.update(f"{name}\n".encode("utf-8", "surrogateescape") + bytes.fromhex(sha256_file(file)))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if not path.is_dir():
        yield "", path
        return
    for each in sorted(path.rglob("*")):
        if each.is_file():
            yield each.relative_to(path).as_posix(), each


def _compare(run: Path, manifest: dict[str, Any], now: Basis, *, cure: str, since: str) -> None:
    known: dict[str, str] = manifest.get("basis") or {}
    differing = differences(known, now.parts)
    if not differing:
        return
    if (run / BASIS).is_file():
        # It counts how much of each part differs.
        refuse_change(read_basis(run / BASIS), now, where=run, cure=cure, since=since)
    raise changed(differing, where=run, cure=cure, since=since)
