"""Attacks asked for from Python: see `simulations.api`, which has these names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medveil import plain
from medveil.errors import ConfigError
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


def _path(named: str | Path | None) -> Path | None:
    return None if named is None else Path(named)
