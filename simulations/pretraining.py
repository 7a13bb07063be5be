"""`medveil-sim pretrain`: one place, plain images, weights for ``model.pretrained`` at the end.

It is a centralised run without a key, whose folder lies beside the weights: so it shows its progress, is taken up again
after it was killed from its newest round, and leaves a page, as any run does. Rounds are the pieces it can be cut into;
what the optimiser remembers goes over from one to the next.

Images that a centralised run with the same data section and seed would test on are not learned from; with one common
test, or a split that the images bring, those of any run. A run of several sites that each draw a test of their own may
test on some that were: that is said beforehand.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fl_server import checkpoints
from fl_server.metrics import ALL, read_lines
from fl_server.pretrained import card_of
from fl_server.summary import read_summary
from medveil.config import from_mapping, to_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, MedVeilError
from medveil.files import read_json, write_json
from medveil.log import logger
from medveil.pretraining import MASKED, SINGLE_LABEL
from medveil.shapes import check_shape
from models.trains import CLASSES_ALONE
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST, read_manifest
from simulations.heard import Heard
from simulations.plan import make_plan
from simulations.run import resume_experiment, run_experiment

SUFFIX = ".safetensors"
RUN = ".run"
"""What the folder of the run is called, beside the weights: as they are, with this suffix."""
_SPENT = "spent.json"
_LONGEST_LICENCE = 500
_ELSEWHERE = (
    "a run of {sites} sites draws test images at each, of which some may be learned from here: set "
    "data.partition.test=common for both, unless the images bring a split of their own"
)
_log = logger("pretrain")
_ENDED = {"finished", "stopped-early"}
_SHAPE = {"cpu_seconds": float, "rounds": int, "wall": float}


class Pretrained(NamedTuple):
    """What `pretrain` left: the weights, the card beside them, the run folder, and the loss on validation images."""

    weights: Path
    card: Path
    run: Path
    loss: float | None


def as_pretraining(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment as it is pre-trained from: all images in one place, nothing hidden; `config` is not changed.

    Raises
    ------
    ConfigError
        Its pre-training cannot be.
    """
    config = copy.deepcopy(config)
    config.pretrain.check()
    config.task = MASKED if config.pretrain.task == MASKED else SINGLE_LABEL
    config.federation, config.sites = "centralised", 1
    config.keys.policy, config.stem.init, config.stem.train, config.stem.warmup = "none", None, None, 0
    config.train.state = "kept"
    if config.task == MASKED:
        # An experiment is made for classes: what of it is for them alone does not count here.
        for name, nothing in CLASSES_ALONE.items():
            setattr(config.train, name, nothing if name != "scope" else config.train.scope)
        config.predict.views = 1
    if config.train.scope != "full":
        raise ConfigError(f"is {config.train.scope}", where="train.scope", cure="full: all of it is pre-trained")
    return config


def is_tested_elsewhere(config: ExperimentConfig) -> bool:
    """Whether an experiment, run as it stands, tests on other images than its pre-training keeps back."""
    drawn = config.data.test > 0 and config.data.split != "official" and config.data.source != "formula"
    several = config.sites > 1 and config.federation != "centralised"
    return drawn and several and config.data.partition.test != "common"


def pretrain(
    config: ExperimentConfig,
    out: Path,
    *,
    licence: str = "",
    progress: bool | Heard = True,
    report: Callable[[Path], Path] | None = None,
) -> Pretrained:
    """Pre-train, or go on where it was cut off.

    Parameters
    ----------
    config
        The experiment: its images, model, ``train`` and ``pretrain`` sections.
    out
        The weights, a new ``.safetensors``; the run lies beside them in ``NAME.run``.
    licence
        Of the images, in the user's words, for the card.
    progress
        As for `simulations.run.run_experiment`.
    report
        Writes the run's page.

    Raises
    ------
    ConfigError
        There are such weights, or the run beside them was begun with other settings.
    MedVeilError
        As of a run.
    """
    licence = " ".join(licence.split())
    if len(licence) > _LONGEST_LICENCE or not licence.isprintable():
        raise ConfigError("is no line of text", where="--licence", cure=f"{_LONGEST_LICENCE} printable characters")
    if out.suffix != SUFFIX:
        raise ConfigError(f"does not end in {SUFFIX}", where="--out", cure=f"for example {out.stem or 'model'}{SUFFIX}")
    if out.exists():
        raise ConfigError("is there already", where=out, cure="name another file")
    if is_tested_elsewhere(config):
        _log.warning("%s", _ELSEWHERE.format(sites=config.sites))
    config, folder = as_pretraining(config), out.with_suffix(RUN)
    more: dict[str, Any] = {"progress": progress} | ({} if report is None else {"report": report})
    begun = (folder / MANIFEST).is_file()
    if begun:
        _refuse_other(folder, config)
    with _timed(folder):
        if not begun:
            run_experiment(config, folder, **more)
        elif read_manifest(folder).get("status") not in _ENDED:
            resume_experiment(folder, **more)
    return _left(folder, out, licence)


def _refuse_other(folder: Path, config: ExperimentConfig) -> None:
    """Go on with nothing but what was begun: settings as they are resolved, but for what the images decide."""
    manifest = read_manifest(folder)
    began = from_mapping(ExperimentConfig, manifest.get("experiment") or {}, where=str(folder / MANIFEST))
    now = make_plan(config, folder, run=manifest["run"]).experiment
    differing = [name for name, value in to_mapping(now).items() if to_mapping(began).get(name) != value]
    if differing:
        problem = f"was begun with other settings ({', '.join(sorted(differing)[:3])})"
        raise ConfigError(problem, where=folder, cure="the same settings again, or name another file")


@contextlib.contextmanager
def _timed(folder: Path) -> Iterator[None]:
    """Add the processor time of a block to what is written down in the run's folder, however it ends."""
    began = time.process_time()
    before = _spent(folder)
    try:
        yield
    finally:
        if folder.is_dir() and (folder / MANIFEST).is_file():
            with contextlib.suppress(MedVeilError):
                rounds = len(_rounds(folder))
                spent = before["cpu_seconds"] + time.process_time() - began
                write_json(folder / _SPENT, {"cpu_seconds": spent, "rounds": rounds, "wall": before["wall"]})


def _spent(folder: Path) -> dict[str, Any]:
    """Processor time before; of an attempt that was killed, the time its rounds took by the wall."""
    found: dict[str, Any] = {"cpu_seconds": 0.0, "rounds": 0, "wall": 0.0}
    if (folder / _SPENT).is_file():
        found = read_json(folder / _SPENT)
        check_shape(found, _SHAPE, where=folder / _SPENT)
    lost = sum(line["seconds"] or 0.0 for line in _rounds(folder)[found["rounds"] :])
    return {**found, "cpu_seconds": found["cpu_seconds"] + lost, "wall": found["wall"] + lost}


def _rounds(folder: Path) -> list[dict[str, Any]]:
    """The lines of all training rounds so far."""
    lines = read_lines(folder / "metrics.jsonl") if folder.is_dir() else []
    return [line for line in lines if line["site"] == ALL and line["phase"] == "train"]


def _left(folder: Path, out: Path, licence: str) -> Pretrained:
    """The weights of a run that ended, with what only this command knows on their card."""
    import torch  # noqa: PLC0415 - a door opens fast

    from models.autoencoder import build_model  # noqa: PLC0415
    from models.pretrained import write_pretrained  # noqa: PLC0415
    from models.travel import load_tensors  # noqa: PLC0415

    manifest, summary = read_manifest(folder), read_summary(folder / "summary.json")
    run = from_mapping(RunConfig, manifest["run_config"], where=str(folder / MANIFEST))
    kept = summary.get("kept") or {"round": summary["rounds"]}
    found = checkpoints.load_round(folder / "checkpoints", kept["round"], run=manifest["run"])
    model = build_model(run)
    load_tensors(model, {name: torch.from_numpy(array.copy()) for name, array in found.tensors.items()})
    loss = _validated(folder)
    facts = {
        "images": _images(manifest, folder),
        "rounds": kept["round"],
        "loss on validation images": "not measured" if loss is None else f"{loss:.5f}",
        "processor time": _said_of_time(folder),
        "device": manifest.get("device"),
    }
    card = card_of(run, facts) | {"licence of the data": licence or "not stated", "stem": "trained with the trunk"}
    beside = write_pretrained(out, model, name=str(run.model["name"]), card=card)
    return Pretrained(out, beside, folder, loss)


def _images(manifest: dict[str, Any], folder: Path) -> str:
    """Which images: their source and number, the digest of their contents, and which of them were learned from."""
    data = manifest["experiment"]["data"]
    trained = sum(row["n_train"] for row in manifest["sites"])
    digest = (manifest.get("basis") or {}).get("images", "")
    named = Path(data["path"]).name if data.get("path") else data["source"]
    return f"{trained} of {data['source']} '{named}'{f' (contents {digest[:16]})' if digest else ''}, its training part"


def _said_of_time(folder: Path) -> str:
    spent = _spent(folder)
    killed = f", {spent['wall'] / 60:.1f} of them by the wall, of attempts that were killed" if spent["wall"] else ""
    return f"{spent['cpu_seconds'] / 60:.1f} minutes{killed}"


def _validated(folder: Path) -> float | None:
    lines = read_lines(folder / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line["site"] == ALL and line["phase"] == "validation"]
    return losses[-1] if losses else None
