"""A researcher's door from Python: experiments, comparisons, attacks, and what they left.

What `__all__` names is public: it stays as it is, and what changes of it is named in the changelog. Everything else of
``simulations`` may change at any time.

Nothing is printed unless ``quiet=False`` asks for what the command would print of its progress. Every error is a
`medveil.errors.MedVeilError`: what was wrong, where, and what would be right.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fl_server.checkpoints import Checkpoint
from medveil import plain, plugins
from medveil.errors import ConfigError
from medveil.log import logger, unheard
from simulations.ablation import Ablation
from simulations.ablation import ablate as _ablate
from simulations.compare import Comparison
from simulations.compare import compare as _compare
from simulations.config import ExperimentConfig
from simulations.experiments import load_experiment
from simulations.frames import frame
from simulations.heard import Heard
from simulations.loaded import Run, load_run
from simulations.predictions import Predictions
from simulations.pretraining import Pretrained
from simulations.pretraining import pretrain as _pretrain
from simulations.reported import report_of
from simulations.run import resume_experiment, run_experiment

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from models.vits import VisionTransformer
    from simulations.attacks.study.result import Result

__all__ = [
    "Ablation",
    "Answers",
    "Attacked",
    "Checkpoint",
    "Comparison",
    "ExperimentConfig",
    "Predictions",
    "Pretrained",
    "Run",
    "ablate",
    "arms",
    "attack",
    "attacks",
    "compare",
    "experiment",
    "export",
    "load_model",
    "load_run",
    "others",
    "predict",
    "pretrain",
    "report",
    "resume",
    "run",
]
_log = logger("api")
unheard()
plugins.simulating()


class Attacked(NamedTuple):
    """What attacks gave.

    Attributes
    ----------
    results : list of Result
        One an attack: verdict, and for each metric the value on the target, the control, chance and the wrong key.
    failed : list of str
        A line for each of several attacks that could not be measured.
    folders : list of Path
        Where ``NAME.json`` and the figures lie.
    """

    results: list[Result]
    failed: list[str]
    folders: list[Path]

    def records(self) -> list[dict[str, Any]]:
        """A row a metric as plain data: attack, verdict, metric, and the mean over keys of each arm with its bounds."""
        return [
            {"attack": each.attack, "verdict": each.verdict, "metric": name, "unit": found.unit}
            | {arm: getattr(found, arm) for arm in _ARMS}
            | {"keys": each.keys, "n": each.n}
            for each in self.results
            for name, found in each.metrics.items()
        ]

    def table(self) -> DataFrame:
        """`records` as a pandas DataFrame (ConfigError where pandas is not installed)."""
        return frame(self.records(), cure="take 'records()'")


_ARMS = ("target", "control", "chance", "wrong_key")


class Answers(NamedTuple):
    """What a model said of images. It is research software, and no medical device.

    Attributes
    ----------
    ids : list of str
        The images, as their paths below what was asked about.
    classes : tuple of str
        Class names, in the order of the columns.
    probabilities : ndarray
        float64 (n, K), calibrated, rows summing to 1.
    unread : dict
        Why a file could not be read, by its path.
    warning : str
        That images are prepared in another way now than when the model learned; empty where they are not.
    """

    ids: list[str]
    classes: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    unread: dict[str, str]
    warning: str = ""


def experiment(named: str | Path | None = None, /, **settings: Any) -> ExperimentConfig:
    """An experiment: one of MedVeil's own by name, a YAML file, or the defaults, with settings in place of its own.

    Parameters
    ----------
    named
        A name of ``medveil-sim init --list``, a YAML file, or None.
    settings
        Top settings by name, sections as dicts: ``experiment("demo", rounds=2, data={"image_size": 32})``.

    Returns
    -------
    ExperimentConfig
        A dataclass, whose fields may be set as well.

    Raises
    ------
    ConfigError
        There is no such experiment or setting (the nearest name is given), or a value is of another type.
    """
    return load_experiment(named, values=_plain(settings))


def run(
    config: ExperimentConfig,
    out: str | Path,
    *,
    replace: bool = False,
    quiet: bool = True,
    progress: Heard | None = None,
) -> Run:
    """Run an experiment and leave a run folder.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        The run folder: new or empty, unless `replace`.
    replace
        Remove an earlier run at `out` first. Nothing but a run folder is ever removed.
    quiet
        False shows on stderr what the command shows.
    progress
        Called with each record of `Run.records` as it comes, in a thread of its own. An error it raises ends the calls
        and not the run, and is raised once the run is over.

    Raises
    ------
    ConfigError, PolicyError
        The experiment cannot be run, or there is something at `out`.
    DataError, StorageError
        Its images cannot be used, or the disk refuses.
    FederationError
        The run did not finish; `resume` goes on with it.
    """
    done = run_experiment(
        _as_run(config), Path(out), replace=replace, progress=_told(quiet, progress), report=report_of
    )
    return load_run(done.folder)


def resume(folder: str | Path, *, rounds: int | None = None, quiet: bool = True, progress: Heard | None = None) -> Run:
    """Go on with a run from its newest good checkpoint: bit for bit what it would have been without the break.

    Parameters
    ----------
    folder
        The run folder.
    rounds
        Rounds that the run is to have in all, if more than it had.
    quiet, progress
        As for `run`.

    Raises
    ------
    ConfigError
        It is no run, or one of more rounds; or settings or data changed.
    DataError, StorageError, FederationError
        As for `run`.
    """
    done = resume_experiment(Path(folder), rounds=rounds, progress=_told(quiet, progress), report=report_of)
    return load_run(done.folder)


def compare(
    config: ExperimentConfig,
    out: str | Path,
    *,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    results: Sequence[str | Path] = (),
    quiet: bool = True,
) -> Comparison:
    """Run arms of one experiment, paired by seed, and put them side by side.

    Each run is a process of its own; finished ones are kept, and an interrupted comparison goes on where it was.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        Folder of the comparison.
    arms
        By name (`arms`); None for those of ``config.compare``.
    seeds
        None for those of ``config.compare``.
    jobs
        Runs side by side; with 2 or more set ``threads``, so that they do not fight over cores.
    results
        Files of ``medveil-sim pack``, whose finished runs are taken up first.
    quiet
        As for `run`.

    Raises
    ------
    ConfigError
        There is no such arm, or nothing to compare.
    BasisError
        A run that would be kept stands on other images than there are now.
    PartialError
        No run finished; where some did, `Comparison.failed` names the others.
    """
    config = _as_run(config)
    if arms is not None:
        config.compare.arms = list(arms)
    if seeds is not None:
        config.compare.seeds = list(seeds)
    taken = [Path(each) for each in results]
    return _compare(config, Path(out), results=taken, jobs=jobs, console=_console(quiet))


def arms() -> dict[str, str]:
    """What can be compared: the names of arms, and what each is."""
    from simulations.arms import ARMS  # noqa: PLC0415

    return {arm.name: arm.text for arm in ARMS.values()}


def ablate(
    config: ExperimentConfig,
    out: str | Path,
    *,
    switches: Sequence[str] | None = None,
    recipe: str = "",
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    results: Sequence[str | Path] = (),
    quiet: bool = True,
) -> Ablation:
    """Run an experiment with one switch of training more at a time; what each brings on validation images.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        Folder for it.
    switches
        Names of ``medveil-sim ablate --list``; None for all that the experiment can have.
    recipe
        Begin with a recipe, and leave out one switch at a time.
    seeds, jobs, results, quiet
        As for `compare`.

    Raises
    ------
    ConfigError, BasisError
        There is no such switch or seed, or nothing is measured on validation images; or as for `compare`.
    PartialError
        What the others are beside did not finish.
    """
    config = copy.deepcopy(config)
    if seeds is not None:
        config.compare.seeds = list(seeds)
    asked: dict[str, Any] = {"switches": switches, "recipe": recipe, "jobs": jobs}
    return _ablate(config, Path(out), **asked, results=[Path(each) for each in results], console=_console(quiet))


def pretrain(
    config: ExperimentConfig,
    out: str | Path,
    *,
    licence: str = "",
    quiet: bool = True,
    progress: Heard | None = None,
) -> Pretrained:
    """Pre-train a model on plain images in one place; called again after it was cut off, it goes on.

    Parameters
    ----------
    config
        The experiment, whose ``pretrain`` section says how; it is not changed.
    out
        The weights, a new ``.safetensors``: another experiment begins with them by ``model={"pretrained": ...}``.
    licence
        Of the images, in a line for the card beside the weights.
    quiet, progress
        As for `run`.

    Raises
    ------
    ConfigError
        There are such weights, or the run beside them was begun with other settings.
    DataError, StorageError, FederationError
        As for `run`.
    """
    told = _told(quiet, progress)
    return _pretrain(_as_run(config), Path(out), licence=licence, progress=told, report=report_of)


def attack(
    names: str | Sequence[str],
    *,
    run: str | Path | None = None,
    images: str | Path | None = None,
    out: str | Path | None = None,
    cipher: str | None = None,
    block: int | None = None,
    negate: bool = False,
    size: int | None = None,
    keys: int | None = None,
    images_per_key: int | None = None,
    seed: int | None = None,
    public: str | Path | None = None,
    quick: bool = False,
    stolen: bool = False,
    settings: Sequence[str] = (),
    device: str = "auto",
    quiet: bool = True,
) -> Attacked:
    """Attack hidden images: what is recovered, beside an unprotected control, chance and a wrong key.

    Parameters
    ----------
    names
        Of `attacks`; ``"all"`` stands for most.
    run
        A run folder, whose images and cipher are attacked; results go into it, and onto its page.
    images
        Or a folder of images, or an ``.npz`` file; then with `cipher` and `out`.
    out
        A folder for results; with `run` also there.
    cipher, block, negate
        Scheme or preset, edge of a block in pixels, and whether pixels are negated.
    size
        Side in pixels that images are resized to.
    keys, images_per_key
        Keys, and images under each; fewer than 10 and 100 are a trial, and the result says so.
    seed
        Of keys and draws.
    public
        The attacker's public images; None for half of those attacked.
    quick
        A trial in minutes, and no finding.
    stolen
        Images as a thief of a site's disk finds them.
    settings
        Further settings as a command line has them: ``"data.group_by=group"``.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``.
    quiet
        As for `run`.

    Raises
    ------
    ConfigError
        There is no such attack or cipher, or arguments contradict each other.
    DataError
        The images cannot be used, or are too few. One attack alone raises its own error; of several, `Attacked.failed`
        names those that could not be measured.
    """
    from simulations.attacks.asked import asked_for, attacked, folders_of  # noqa: PLC0415 - scipy loads here
    from simulations.attacks.registry import chosen  # noqa: PLC0415

    wanted = chosen(names if isinstance(names, str) else ",".join(names))
    at, of = _path(run), _path(images)
    if at is not None and of is not None:
        raise ConfigError("attacks images or a run", where="attack", cure="give one of 'images' and 'run'")
    folders = folders_of(at, _path(out), images=of, cipher=cipher)
    config = asked_for(
        run=at,
        images=of,
        cipher=cipher,
        block=block,
        negate=negate,
        size=size,
        keys=keys,
        images_per_key=images_per_key,
        seed=seed,
        public=None if public is None else str(public),
        quick=quick,
        stolen=stolen,
        overrides=list(settings),
    )
    results, failed = attacked(wanted, config, folders, run=at, device=device, console=_console(quiet))
    if at is not None:
        report_of(at)
    return Attacked(results, failed, folders)


def attacks() -> dict[str, str]:
    """What can be measured: the names of attacks, and what each does and its figures mean."""
    from simulations.attacks.registry import ATTACKS  # noqa: PLC0415 - scipy and scikit-image are slow to import

    return {name: attack.text for name, attack in ATTACKS.usable()[0].items()}


def others() -> list[dict[str, str]]:
    """What other installed packages add to MedVeil, whether or not it can be taken; nothing of it is imported.

    Returns
    -------
    list of dict
        ``group`` (``"medveil.schemes"``, ``"medveil.attacks"``, ``"medveil.sources"``, ``"medveil.strategies"``),
        ``name``, ``package`` and ``version``.
    """
    return [
        {"group": each.group, "name": each.name, "package": each.package, "version": each.version}
        for each in plugins.installed()
    ]


def report(folder: str | Path) -> Path:
    """Write a run's page anew, also of an unfinished run, and return it.

    Raises
    ------
    ConfigError
        It is no run folder.
    StorageError, IntegrityError, FormatError
        A file of it cannot be read, or the page not be written.
    """
    return report_of(load_run(folder).folder)


def load_model(folder: str | Path, *, site: str | None = None, domain: str = "plain") -> VisionTransformer:
    """The model of a run folder or of an export, as a plain timm model.

    Parameters
    ----------
    folder
        A run folder, whose images must be where they were, or a folder that an export left, from anyone: nothing in it
        is run or unpickled.
    site
        Whose model of a run; None is the first site's.
    domain
        ``"plain"``: moved to plain images. ``"hidden"``: as the run had it, which reads images hidden under its key.

    Returns
    -------
    VisionTransformer
        timm's own class, float32, on the CPU, in evaluation mode. It takes (n, C, H, W) pixels from -1 to 1, which are
        ``(2 v - 255) / 255`` of 8-bit pixels v, as `models.api.normalise` makes them.

    Raises
    ------
    ConfigError
        It is neither, came through no round, has no such site, or learned pixels and no classes.
    PolicyError
        Moved to plain images, the model would give away more than a model.
    KeyMaterialError
        It is an export that is sealed under a site's key.
    StorageError, DataError, IntegrityError, FormatError
        A file is missing, damaged or changed.
    """
    from simulations.asked_models import timm_model  # noqa: PLC0415 - scipy and more load here

    return timm_model(Path(folder), site=site, domain=domain)


def export(run: str | Path, out: str | Path, *, site: str | None = None, onnx: bool = False) -> Path:
    """Write a site's model of a run into a folder, for plain images, with its cards; timm and `load_model` read it.

    Of a run that learned pixels it is stem and trunk, which another run begins with.

    Parameters
    ----------
    run, out
        The run folder, and a folder that is new or empty.
    site
        Whose model; None is the first site's.
    onnx
        Whether to write ONNX as well (the extra ``medveil[onnx]``).

    Raises
    ------
    ConfigError, PolicyError, StorageError, DataError
        As for `load_model`; or the folder is not empty.
    """
    from simulations.asked_models import export as exported  # noqa: PLC0415 - scipy and more load here

    made = exported(Path(run), Path(out), site=site, onnx=onnx)
    if made.otherwise:
        _log.warning("%s: %s", made.folder, made.otherwise)
    return made.folder


def predict(
    folder: str | Path,
    images: str | Path,
    *,
    site: str | None = None,
    views: int | None = None,
    device: str = "auto",
) -> Answers:
    """Ask the model of a run, or of an export, about a file of images or all below a folder.

    Parameters
    ----------
    folder, site
        As for `load_model`. Plain images are hidden in memory on the way to a model that reads hidden ones.
    images
        The images.
    views
        Views of each image whose probabilities are averaged; None: as many as the run measured the model with.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``.

    Raises
    ------
    ConfigError, KeyMaterialError, StorageError, IntegrityError, FormatError
        As for `load_model`.
    DataError
        There is nothing there.
    """
    from fl_client.export.asking import asked  # noqa: PLC0415 - scipy and more load here
    from fl_client.workbench import pick_device  # noqa: PLC0415
    from simulations.asked_models import ready_of  # noqa: PLC0415

    ready, _ = ready_of(Path(folder), site)
    found = asked(ready, Path(images), device=pick_device(device), views=views)
    unread = {each.path: each.reason for each in [*found.skipped, *found.no_images]}
    return Answers(found.ids, ready.described.classes, found.probabilities, unread, ready.described.otherwise)


def _as_run(config: ExperimentConfig) -> ExperimentConfig:
    """A copy that has taken its recipe: what is written down of a run says everything in its own place."""
    made = copy.deepcopy(config)
    made.without_recipe = {}
    return made


def _told(quiet: bool, progress: Heard | None) -> bool | Heard:
    if progress is not None and not quiet:
        raise ConfigError("cannot both be told", where="quiet=False, progress", cure="leave one out")
    return not quiet if progress is None else progress


def _console(quiet: bool) -> Console | None:
    return plain.nobody() if quiet else None


def _path(named: str | Path | None) -> Path | None:
    return None if named is None else Path(named)


def _plain(value: Any) -> Any:
    """Settings as plain data: paths as text, and tuples as lists."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
