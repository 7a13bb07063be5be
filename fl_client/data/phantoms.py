"""DICOM phantoms: drawn slices with lesions, from hospitals whose scanners differ, written as real DICOM files.

They stand in for patients in demonstrations and tests. The lesion's kind is the class; the brightness of the body is
drawn independently of it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_client.data.config import DataConfig, PhantomConfig, check_data_config, named_group
from fl_client.data.dicom import DicomSource
from fl_client.data.phantom_files import SCANNERS, Patient, write_phantom
from fl_client.data.rng import generator
from medveil.errors import ConfigError, DataError
from medveil.files import locked, new_folder, write_json, write_text
from medveil.shapes import read_document
from medveil.sheets import sheet

CLASSES = ("none", "mass", "ring", "diffuse")
VERSION = 1
_FORMAT = "medveil-phantoms"
_MANIFEST = "phantoms.json"
_LABELS = "labels.csv"

Field = npt.NDArray[np.float64]


class PhantomSource(DicomSource):
    """Phantoms, drawn into ``data.path`` unless they are there already, and read like any other DICOM folder."""

    def __init__(self, config: DataConfig) -> None:
        check_data_config(config, level=None)
        if config.labels is not None or named_group(config) not in (None, "PatientID"):
            raise ConfigError("phantoms bring labels and patients of their own", where="data.labels, data.group_by")
        draw_phantoms(Path(config.path or "").expanduser().resolve(), config.phantoms)
        names = config.classes or list(CLASSES[: config.phantoms.classes])
        size = config.image_size or config.phantoms.size
        super().__init__(replace(config, labels=_LABELS, classes=names, image_size=size))


def draw_phantoms(folder: Path, config: PhantomConfig) -> bool:
    """Draw a phantom data set into a folder, whole or not at all.

    Parameters
    ----------
    folder
        Made if it is not there; one that holds the same phantoms is left, one that holds others is replaced.

    Returns
    -------
    bool
        Whether anything was drawn.

    Raises
    ------
    DataError
        The folder holds something else.
    StorageError
        The disk is full or refuses the write.
    """
    wanted = {"format": _FORMAT, "version": VERSION, "phantoms": asdict(config)}
    if _found(folder) == wanted:
        return False
    # Sites that start together all find nothing; only the first draws.
    with locked(folder.with_name(f".{folder.name}")):
        if _found(folder) == wanted:
            return False
        _draw(folder, config, wanted)
    return True


def _found(folder: Path) -> Any:
    """The manifest of the phantoms in a folder, None where there is nothing."""
    if not folder.exists():
        return None
    if folder.is_dir() and not any(folder.iterdir()):
        return None
    if not (folder / _MANIFEST).is_file():
        raise DataError("holds something else than phantoms", where=folder, cure="choose a new folder in data.path")
    return read_document(folder / _MANIFEST, {}, name=_FORMAT, newest=VERSION)


def _draw(folder: Path, config: PhantomConfig, manifest: dict[str, Any]) -> None:
    with new_folder(folder) as building:
        rows = [row for site in range(config.sites) for row in _draw_site(building, config, site)]
        write_text(building / _LABELS, sheet([("path", "label", "site"), *rows], end="\r\n"))
        write_json(building / _MANIFEST, manifest)


def _draw_site(folder: Path, config: PhantomConfig, site: int) -> list[tuple[str, str, str]]:
    scanner = SCANNERS[site % len(SCANNERS)]
    name = f"Hospital {site + 1}"
    inside = f"hospital-{site + 1}"
    (folder / inside).mkdir()
    rows = []
    for index in range(config.images):
        number = index // config.per_patient
        # Dealt round the classes, so that a site has as many of each as can be; which patient is which is drawn above.
        label = number % config.classes
        patient = Patient(id=f"PH{config.seed}-{site + 1}-{number + 1:05d}", site=name, number=number)
        rng = generator(config.seed, "phantom", site, index)
        slice_ = draw_slice(CLASSES[label], size=config.size, rng=rng)
        relative = f"{inside}/{patient.id}-{index % config.per_patient + 1}.dcm"
        entropy = [str(each) for each in (config.seed, config.classes, config.size, site, index)]
        write_phantom(folder / relative, scanner.acquire(slice_, rng), patient, scanner, entropy=entropy)
        rows.append((relative, CLASSES[label], name))
    return rows


def draw_slice(kind: str, *, size: int, rng: np.random.Generator) -> Field:
    """Draw one slice.

    Parameters
    ----------
    kind
        ``"none"``, ``"mass"`` (one bright disc), ``"ring"`` (one bright rim) or ``"diffuse"`` (scattered bright spots).
    size
        Side in pixels.

    Returns
    -------
    float64 (size, size), 0 to 1; the mean inside the body is drawn independently of `kind`.
    """
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = _ellipse(x, y, rng.uniform(-0.06, 0.06, 2), rng.uniform(0.74, 0.9, 2))
    texture = _smooth_noise(size, size / 10, rng) * 0.05 + _smooth_noise(size, size / 32, rng) * 0.03
    lesion = _lesion(kind, x, y, rng)
    image = texture + rng.uniform(0.36, 0.48) * lesion
    inside = body > 0.5
    # Brightness must not tell the class: the mean inside the body is set, whatever was drawn there.
    image += rng.normal(0.45, 0.05) - image[inside].mean()
    return np.asarray(np.clip(image * body, 0.0, 1.0))


def _lesion(kind: str, x: Field, y: Field, rng: np.random.Generator) -> Field:
    """0 to 1: where the lesion is."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.34)
    centre = np.array([distance * np.cos(angle), distance * np.sin(angle)])
    if kind == "mass":
        return _ellipse(x, y, centre, rng.uniform(0.20, 0.32) * rng.uniform(0.85, 1.15, 2))
    if kind == "ring":
        radii = rng.uniform(0.26, 0.38) * rng.uniform(0.9, 1.1, 2)
        rim = _ellipse(x, y, centre, radii) - _ellipse(x, y, centre, radii - 0.12)
        return np.asarray(np.clip(rim, 0.0, 1.0))
    if kind == "diffuse":
        spots = [
            _ellipse(x, y, rng.uniform(-0.55, 0.55, 2), rng.uniform(0.045, 0.065, 2))
            for _ in range(int(rng.integers(22, 33)))
        ]
        return np.asarray(np.maximum.reduce(spots))
    return np.zeros_like(x)


def _ellipse(x: Field, y: Field, centre: npt.NDArray[Any], radii: npt.NDArray[Any]) -> Field:
    """1 inside, 0 outside, with an edge of about a pixel."""
    distance = np.sqrt(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2)
    softness = 2.0 / len(x) / float(np.min(radii))
    return np.asarray(np.clip(0.5 + (1.0 - distance) / softness, 0.0, 1.0))


def _smooth_noise(size: int, sigma: float, rng: np.random.Generator) -> Field:
    """Smooth noise of mean 0 and deviation 1."""
    from scipy import ndimage  # noqa: PLC0415 - a site that draws none does without

    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma, mode="wrap")
    return np.asarray((field - field.mean()) / field.std())
