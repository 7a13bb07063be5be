"""A run folder made of numbers drawn at random, in the formats the server and the sites write. No model trained it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

CLASSES = ["none", "mass", "ring", "diffuse"]
_draw = Figure.savefig


def _left_blank(figure: Figure, stream: BinaryIO, *, format: str, **_: Any) -> None:  # noqa: A002 - matplotlib's name
    width, height = 72 * figure.get_size_inches()
    if format == "svg":
        box = f'viewBox="0 0 {width:g} {height:g}"'
        stream.write(f'<svg xmlns="http://www.w3.org/2000/svg" {box}><g id="axes"/></svg>'.encode())
    else:
        Image.new("L", (1, 1)).save(stream, format)


@pytest.fixture(scope="module", autouse=True)
def left_blank(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are made and left blank: to draw those of its page takes a quarter of the time of a run of tests.

    Not in a module that has ``DRAWN = True``.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "DRAWN", False):
            patch.setattr(Figure, "savefig", _left_blank)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn by matplotlib: for tests that look at them, and one of each kind of page over a real run."""
    monkeypatch.setattr(Figure, "savefig", _draw)


def synthetic_run(
    folder: Path,
    *,
    name: str = "synthetic run: no model trained this",
    seed: int = 0,
    status: str = "finished",
    error: str | None = None,
    sites: list[str] | None = None,
    classes: list[str] | None = None,
    rounds: int = 8,
    keys: str = "per-site",
    signal: float = 1.6,
    images: int = 60,
    noise: int = 0,
    skipped: int = 2,
    examples: bool = True,
) -> Path:
    """Write a run folder.

    `seed` draws the test images; `noise` draws what the arm answers, so that two arms of one seed and other noise are
    paired and differ. A run that is not finished has no summary and no predictions.
    """
    sites = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"] if sites is None else sites
    classes = CLASSES if classes is None else classes
    rng = np.random.default_rng([seed, 1])
    parts = {
        site: _predictions(rng, site, n=images + 12 * i, classes=len(classes), signal=signal, seed=seed, noise=noise)
        for i, site in enumerate(sites)
    }
    folder.mkdir(parents=True, exist_ok=True)
    finished = status in {"finished", "stopped-early"}
    done = rounds if finished else max(0, rounds // 2)
    config = _config(name, seed=seed, classes=classes, rounds=rounds, keys=keys)
    _write(folder / "manifest.json", _manifest(config, sites, status=status, error=error))
    lines = _lines(rng, sites, done, finished=finished)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for i, (site, part) in enumerate(parts.items()):
        home = folder / "sites" / site
        home.mkdir(parents=True, exist_ok=True)
        if finished:
            np.savez(home / "predictions.npz", **part, split="test")
        gone = [
            {"path": f"patient-{j:03d}/slice-{j}.dcm", "reason": "cannot read the pixels: truncated"}
            for j in range(skipped)
        ]
        _write(
            home / "site.json",
            {"format": "medveil-site", "version": 1, "site": site, "skipped": gone if i == 0 else []},
        )
    if finished:
        _write(folder / "summary.json", _summary(name, status, parts, rounds, keys))
    if examples:
        _examples(folder, rng)
    return folder


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2))


def _predictions(
    rng: np.random.Generator, site: str, *, n: int, classes: int, signal: float, seed: int, noise: int
) -> dict[str, np.ndarray]:
    shares = rng.dirichlet(np.full(classes, 3.0))
    labels = rng.choice(classes, size=n, p=shares)
    own = np.random.default_rng([seed, 2, noise, *site.encode()])
    logits = rng.normal(size=(n, classes)) + (0.15 * own.normal(size=(n, classes)) if noise else 0)
    logits[np.arange(n), labels] += signal
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {
        "ids": np.array([f"{site}/{seed}/image-{i:04d}" for i in range(n)]),
        "labels": labels.astype(np.int64),
        "probabilities": probabilities.astype(np.float32),
    }


def _config(name: str, *, seed: int, classes: list[str], rounds: int, keys: str) -> dict[str, Any]:
    hidden = keys != "none"
    return {
        "run": "0b9f1b3e-5a52-4d0f-9f55-000000000000",
        "name": name,
        "seed": seed,
        "rounds": rounds,
        "classes": classes,
        "image_size": 64,
        "model": {"name": "vit_tiny_patch16_224", "image_size": 64, "patch": 8, "channels": 1, "classes": len(classes)},
        "train": {"scope": "full", "epochs": 1, "batch_size": 32, "optimizer": "adamw", "lr": 0.001},
        "cipher": {"scheme": "block-pixel" if hidden else "none", "block": 8, "negate": False},
        "keys": keys,
        "stem_init": "adapted" if hidden else "public",
        "stem_train": "local" if hidden else "averaged",
    }


def _manifest(config: dict[str, Any], sites: list[str], *, status: str, error: str | None) -> dict[str, Any]:
    name, classes, keys = config["name"], config["classes"], config["keys"]
    return {
        "format": "medveil-manifest",
        "version": 1,
        "run": config["run"],
        "name": name,
        "seed": config["seed"],
        "status": status,
        "started": "2026-01-02T03:04:05+00:00",
        "ended": None if status == "running" else "2026-01-02T03:06:51+00:00",
        "device": "cpu",
        "environment": {
            "medveil": "0.1.0",
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64-with-glibc2.36",
            "torch": "2.13",
        },
        "run_config": config,
        "server": {"strategy": "fedavg"},
        "experiment": {
            "name": name,
            "sites": len(sites),
            "federation": "federated",
            "data": {"source": "phantoms", "partition": {"kind": "dirichlet", "alpha": 0.5}},
            "keys": {"policy": keys},
            "model": config["model"],
        },
        "sites": [
            {
                "node": i,
                "site": site,
                "classes": classes,
                "counts": [10 + 7 * ((i + j) % 5) for j in range(len(classes))],
                "n_train": 96 + i,
                "n_validation": 20,
                "n_test": 60 + 12 * i,
                "skipped": 2 if i == 0 else 0,
                "missing": [],
                "fingerprint": f"sim-{i:02d}c0ffee00112233445566778899" if keys != "none" else "",
            }
            for i, site in enumerate(sites)
        ],
        "left_out": [],
        "error": error,
    }


def _lines(rng: np.random.Generator, sites: list[str], rounds: int, *, finished: bool) -> list[dict[str, Any]]:
    made = []
    quality = dict(zip(sites, rng.uniform(0.8, 1.1, size=len(sites)), strict=True))
    for r in range(rounds + 1):
        if r:
            made += _phase(rng, quality, r, rounds, "train", traffic=True)
        if r < rounds or finished:
            made += _phase(rng, quality, r, rounds, "validation", traffic=False)
    return made


def _phase(
    rng: np.random.Generator, quality: dict[str, float], r: int, rounds: int, phase: str, *, traffic: bool
) -> list[dict[str, Any]]:
    lines = []
    for site, each in quality.items():
        learnt = 1 - np.exp(-4 * r / max(1, rounds))
        got = float(np.clip(0.3 + 0.58 * learnt * each + rng.normal(scale=0.012), 0, 1))
        lines.append(
            {
                "round": r,
                "site": site,
                "phase": phase,
                "loss": 1.4 - 1.05 * learnt * each + float(rng.normal(scale=0.02)) - (0.12 if phase == "train" else 0),
                "accuracy": got,
                "balanced_accuracy": got - 0.02,
                "auroc": min(1.0, 0.5 + 0.44 * learnt * each + float(rng.normal(scale=0.006))),
                "n": 40,
                "seconds": 4.2 if traffic else None,
                "bytes_up": 21_400_000 if traffic else None,
                "bytes_down": 21_400_000 if traffic else None,
            }
        )
    measures = ("loss", "accuracy", "balanced_accuracy", "auroc")
    mean = {key: float(np.mean([line[key] for line in lines])) for key in measures}
    moved = {key: 21_400_000 * len(lines) if traffic else None for key in ("bytes_up", "bytes_down")}
    return [
        *lines,
        {"round": r, "site": "all", "phase": phase, **mean, "n": 160, "seconds": 17.1 if traffic else None, **moved},
    ]


def _summary(name: str, status: str, parts: dict[str, dict[str, np.ndarray]], rounds: int, keys: str) -> dict[str, Any]:
    from fl_client.measures import majority_rate, measure  # noqa: PLC0415 - sklearn is slow to import

    sites = {}
    for site, part in parts.items():
        made = measure(part["labels"], part["probabilities"])
        sites[site] = {key: getattr(made, key) for key in ("loss", "accuracy", "balanced_accuracy", "auroc", "n")}
        sites[site]["majority_rate"] = majority_rate(part["labels"])
    total = sum(site["n"] for site in sites.values())
    keys_of = ("loss", "accuracy", "balanced_accuracy", "auroc", "majority_rate")
    mean = {key: sum(site["n"] * site[key] for site in sites.values()) / total for key in keys_of}
    hidden = keys != "none"
    worth = {"accuracy": mean["accuracy"], "auroc": mean["auroc"]}
    return {
        "format": "medveil-summary",
        "version": 1,
        "run": "0b9f1b3e-5a52-4d0f-9f55-000000000000",
        "name": name,
        "status": status,
        "rounds": rounds,
        **mean,
        "n": total,
        "sites": sites,
        "intervals": None,
        "intervals_note": "class probabilities stay at the sites",
        "thief": {
            "owner": worth,
            "wrong_key": {"accuracy": 0.31, "auroc": 0.52} if hidden else None,
            "public_stem": {"accuracy": worth["accuracy"] - 0.02, "auroc": worth["auroc"] - 0.01} if hidden else None,
            "notes": {
                "wrong_key": "the whole stolen model on images hidden under another key"
                if hidden
                else "not applicable: no key is used",
                "public_stem": "measured" if hidden else "not applicable: the stolen model reads plain images as it is",
            },
        },
        "seconds": 165.8,
        "bytes_up": 684_800_000,
        "bytes_down": 770_400_000,
    }


def _examples(folder: Path, rng: np.random.Generator) -> None:
    """Discs and their blocks in another order: pictures for a page, not the cipher."""
    y, x = np.mgrid[:64, :64]
    originals = np.stack(
        [(30 + 200 * ((x - 24 - 5 * i) ** 2 + (y - 30) ** 2 < (8 + 4 * i) ** 2))[None] for i in range(4)]
    )
    originals = np.clip(originals + rng.integers(0, 25, size=originals.shape), 0, 255).astype(np.uint8)

    def moved(images: np.ndarray, order: np.ndarray, inner: np.ndarray) -> np.ndarray:
        blocks = images.reshape(-1, 8, 8, 8, 8).swapaxes(2, 3).reshape(-1, 64, 64)[:, order][:, :, inner]
        return blocks.reshape(-1, 8, 8, 8, 8).swapaxes(2, 3).reshape(images.shape)

    hidden = moved(originals, rng.permutation(64), rng.permutation(64))
    wrong = moved(hidden, rng.permutation(64), rng.permutation(64))
    np.savez_compressed(
        folder / "examples.npz", original=originals, ciphertext=hidden, decrypted=originals, wrong_key=wrong
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a synthetic run folder below the test's own folder; see `synthetic_run`."""

    def make(folder: str = "run", **options: Any) -> Path:
        return synthetic_run(tmp_path / folder, **options)

    return make


def smooth_images(
    n: int, size: int, *, channels: int = 1, level: int = 128, aligned: bool = False, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random fields, uint8 (n, size, size) or (n, size, size, 3), in two classes of different brightness.

    Neighbours are alike, as in images, channels less so, and no two blocks are equal. `aligned` ones share a
    pattern, as images of one organ do.
    """
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, size, size, 1)) + 0.7 * rng.normal(size=(n, size, size, channels))
    fields = gaussian_filter(noise, (0, 2.5, 2.5, 0))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    if aligned:
        pattern = gaussian_filter(np.random.default_rng(99).normal(size=(size, size)), 3)[None, :, :, None]
        fields = 0.5 * fields + pattern / pattern.std()
    labels = np.arange(n) % 2
    # Red, green and blue of tissue differ in tone and contrast.
    fields = fields * np.array([1.0, 0.7, 0.85])[:channels] + np.array([0.0, -0.6, 0.5])[:channels]
    images = np.clip(level + 50 * fields + 30 * (labels[:, None, None, None] - 0.5), 0, 255).astype(np.uint8)
    return (images[..., 0] if channels == 1 else images), labels


@pytest.fixture(scope="session")
def smooth_npz(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write an npz of smooth fields with a `group` of two images each; the same arguments give the same file."""
    folder = tmp_path_factory.mktemp("smooth")

    def make(n: int = 120, size: int = 32, channels: int = 1, **options: Any) -> Path:
        path = folder / f"smooth-{n}-{size}-{channels}-{'-'.join(map(str, options.values()))}.npz"
        if not path.exists():
            images, labels = smooth_images(n, size, channels=channels, **options)
            # Images 0 and 2 are of one class and one group, so are 1 and 3, and so on.
            group = np.array([f"patient {i // 4}-{i % 2}" for i in range(n)])
            np.savez(path, images=images, labels=labels, group=group)
        return path

    return make


@pytest.fixture(scope="session")
def attack_setting(smooth_npz: Callable[..., Path]) -> Callable[..., Any]:
    """Make a tiny setting of smooth fields; a scheme may also be a cipher class that is in no registry."""
    from crypto.config import CipherConfig  # noqa: PLC0415
    from fl_client.data.config import DataConfig  # noqa: PLC0415
    from fl_client.data.source import open_source  # noqa: PLC0415
    from simulations.attacks.study.material import Material  # noqa: PLC0415
    from simulations.attacks.study.setting import Setting  # noqa: PLC0415

    def make(
        scheme: Any = "block-pixel",
        *,
        negate: bool = False,
        block: int = 8,
        keys: int = 4,
        images: int = 4,
        seed: int = 0,
        n: int = 120,
        size: int = 32,
        channels: int = 1,
        **options: Any,
    ) -> Any:
        config = DataConfig(source="npz", path=str(smooth_npz(n, size, channels, **options)), group_by="group")
        material = Material(open_source(config), seed=seed)
        name = scheme if isinstance(scheme, str) else "block-pixel"
        setting = Setting(material, CipherConfig(name, block, negate), keys=keys, images=images, seed=seed)
        return setting if isinstance(scheme, str) else setting.under(scheme)

    return make


@pytest.fixture(scope="session")
def update_setting(attack_setting: Callable[..., Any]) -> Callable[..., Any]:
    """Make a tiny setting whose images train a tiny model; what is not named here is its situation's."""
    from models.config import ModelConfig  # noqa: PLC0415
    from simulations.attacks.situations.setting import UpdateSetting  # noqa: PLC0415
    from simulations.attacks.situations.situation import UpdateConfig  # noqa: PLC0415

    def make(
        scheme: str = "none",
        *,
        count: int = 2,
        images: int = 2,
        size: int = 32,
        block: int = 8,
        width: int = 48,
        depth: int = 2,
        init: str = "default",
        **told: Any,
    ) -> Any:
        plain = attack_setting(scheme, keys=count, images=images, size=size, block=block)
        told["images"] = told.pop("of_a_site", None)
        config = UpdateConfig(model=ModelConfig(width=width, depth=depth, heads=2, init=init), **told)
        return UpdateSetting(plain.material, plain.config, keys=count, images=images, update=config)

    return make
