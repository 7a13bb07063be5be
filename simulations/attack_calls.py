"""Attacks asked for from Python: see `simulations.api`, which has these names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medveil import plain
from medveil.called import typed
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig
from simulations.experiments import as_run
from simulations.frames import frame
from simulations.reported import report_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from simulations.attacks.study.result import Result

_ARMS = ("target", "control", "chance", "wrong_key")


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


class Matrix(NamedTuple):
    """Accuracy beside what attacks on updates recover, as far as it is measured.

    Attributes
    ----------
    folder : Path
        Where the table, its runs and its measurements lie.
    report : Path
        The page.
    missing : int
        Runs and measurements that the same call would go on with.
    document : dict
        The table as plain data, as ``matrix.json`` has it.
    """

    folder: Path
    report: Path
    missing: int
    document: dict[str, Any]

    def records(self) -> list[dict[str, Any]]:
        """A row an attack in a place: policy, scope, layer, view, and the figure with chance and control."""
        rows: list[dict[str, Any]] = self.document["cells"]
        return rows

    def table(self) -> DataFrame:
        """`records` as a pandas DataFrame (ConfigError where pandas is not installed)."""
        return frame(self.records(), cure="take 'records()'")


@typed
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
    results, failed = attacked(
        wanted, config, folders, run=at, device=device, console=plain.nobody() if quiet else None
    )
    if at is not None:
        report_of(at)
    return Attacked(results, failed, folders)


def attacks() -> dict[str, str]:
    """What can be measured: the names of attacks, and what each does and its figures mean."""
    from simulations.attacks.registry import ATTACKS  # noqa: PLC0415 - scipy and scikit-image are slow to import

    return {name: attack.text for name, attack in ATTACKS.usable()[0].items()}


@typed
def matrix(
    config: ExperimentConfig,
    out: str | Path,
    *,
    policies: Sequence[str] | None = None,
    scopes: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    views: Sequence[str] = ("deployment", "diagnostic"),
    attacks: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    keys: int = 3,
    images_per_key: int = 24,
    cell_seconds: float = 180.0,
    full: bool = False,
    private: ExperimentConfig | None = None,
    minutes: float = 150.0,
    quiet: bool = True,
) -> Matrix:
    """Put accuracy and what attacks on updates recover side by side: policies, scopes, layers of protection.

    What is done in the folder is kept, and the same call goes on; ``medveil-sim matrix --jobs`` shares the work.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        Folder of the table.
    policies, scopes, layers, views, attacks
        By name, as ``per-site.adapted.local``, ``full``, ``secagg``, ``diagnostic``, ``span``; None for all, of scopes
        for the command's four.
    seeds
        Of the runs.
    keys, images_per_key
        Of a measurement.
    cell_seconds
        After which a measurement takes no further key.
    full
        Whether attacks work with all their effort, in place of a trial's.
    private
        The experiment where a number is promised (``epsilon-3``): noise asks for other rates, batches and rounds. None:
        the same. It is not changed.
    minutes
        After which nothing is begun.
    quiet
        False tells on stderr what is done.

    Raises
    ------
    ConfigError
        There is no such name, the experiment has no such table, or the folder is of another.
    StorageError
        Another process works in the folder.
    """
    from simulations.attacks.tradeoff.asked import carried_out, study_of  # noqa: PLC0415
    from simulations.attacks.tradeoff.export import document  # noqa: PLC0415 - scipy and torch load here

    study = study_of(
        as_run(config),
        Path(out),
        policies=_by_commas(policies),
        scopes=_by_commas(scopes),
        layers=_by_commas(layers),
        views=",".join(views),
        attacks=_by_commas(attacks),
        seeds=seeds,
        keys=keys,
        images_per_key=images_per_key,
        cell_seconds=cell_seconds,
        full=full,
        private=None if private is None else as_run(private),
    )
    said = partial(plain.say, plain.nobody() if quiet else plain.stderr_console())
    made = carried_out(study, Path(out), minutes=minutes, said=said)
    return Matrix(Path(out), made.page, made.table.missing, document(made.table))


def _by_commas(names: Sequence[str] | None) -> str | None:
    return None if names is None else ",".join(names)


def _path(named: str | Path | None) -> Path | None:
    return None if named is None else Path(named)
