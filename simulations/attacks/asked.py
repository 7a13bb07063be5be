"""Attacks as they are asked for: which settings they are measured with, and the measuring itself, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil import plain
from medveil.errors import ConfigError, MedVeilError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from simulations.attacks.config import AttackConfig, Prepared
    from simulations.attacks.study.attack import Attack
    from simulations.attacks.study.measure import Outcome
    from simulations.attacks.study.result import Result
    from simulations.attacks.study.time_left import TimeLeft


def folders_of(run: Path | None, out: Path | None, *, images: Path | None, cipher: str | None) -> list[Path]:
    """Where results go (ConfigError where that, or what hides the images, is not said)."""
    if run is None and out is None:
        raise ConfigError("needs a folder for results", where="attack", cure="--out DIR (out=...)")
    if images is not None and cipher is None:
        raise ConfigError(
            "needs the cipher of the images", where="attack", cure="--cipher block-pixel (cipher=...), for example"
        )
    found = [out] if out is not None else []
    return found if run is None else [*found, run / "attacks"]


def asked_for(
    *,
    run: Path | None = None,
    images: Path | None = None,
    cipher: str | None = None,
    block: int | None = None,
    negate: bool = False,
    size: int | None = None,
    keys: int | None = None,
    images_per_key: int | None = None,
    seed: int | None = None,
    public: str | None = None,
    quick: bool = False,
    stolen: bool = False,
    overrides: Sequence[str] = (),
) -> AttackConfig:
    """The settings of a measurement: what is not given is the run's, the images' or the default.

    Raises
    ------
    ConfigError
        Options contradict each other, or there is no such setting.
    """
    from medveil.config import load_config, to_mapping  # noqa: PLC0415
    from simulations.attacks.config import QUICK_IMAGES, QUICK_KEYS, AttackConfig, of_folder, of_run  # noqa: PLC0415

    if run is not None:
        _refuse_beside_run({"cipher": cipher, "size": size, "block": block, "negate": negate or None}, stolen=stolen)
        settings = to_mapping(of_run(run))
    elif images is None:
        raise ConfigError("needs images or a run", where="attack", cure="--images or --run (images=... or run=...)")
    else:
        made = {"scheme": cipher, "block": block, "negate": negate or None}
        settings = _given({"data": {**of_folder(images), "image_size": size}, "cipher": made})
    own = {"keys": keys, "images": images_per_key, "seed": seed, "public": public}
    own |= {"quick": quick or None, "stolen": stolen or None}
    if quick:
        own |= {name: value for name, value in (("keys", QUICK_KEYS), ("images", QUICK_IMAGES)) if own[name] is None}
    return load_config(AttackConfig, None, overrides, values={**settings, **_given(own)})


def _refuse_beside_run(given: dict[str, Any], *, stolen: bool) -> None:
    if stolen:
        problem = "a run takes no 'stolen': its images are there, opened"
        raise ConfigError(problem, where="attack", cure="name its images, with the run's cipher")
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"a run takes no '{name}'", where="attack", cure="leave it out: the run knows its cipher")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Only what was given: the configuration's own defaults stand for the rest."""
    inner = {name: _given(value) if isinstance(value, dict) else value for name, value in options.items()}
    return {name: value for name, value in inner.items() if value is not None}


def attacked(
    attacks: list[Attack],
    config: AttackConfig,
    folders: list[Path],
    *,
    run: Path | None,
    device: str = "auto",
    console: Console | None = None,
) -> tuple[list[Result], list[str]]:
    """Measure attacks as these settings let each work, and write the results; a line for each that failed.

    Parameters
    ----------
    folders
        Where ``NAME.json`` and its figure go.
    run
        The run whose images and cipher they are, if they are.
    console
        Where it is told how it gets on; None is stderr.

    Raises
    ------
    ConfigError, DataError
        As `simulations.attacks.config.prepare`; of one attack alone, its own error.
    """
    from simulations.attacks.config import prepare  # noqa: PLC0415

    own = [fitted(each, config, device=device) for each in attacks]
    return _measure_all(own, prepare(config, run=run), folders, console or plain.stderr_console())


def fitted(attack: Attack, config: AttackConfig, *, device: str) -> Attack:
    """An attack as these settings let it work."""
    made = attack if config.images is None else attack.within(config.images)
    made = made.quick() if config.quick else made
    made.device = device
    return made


def _measure_all(
    attacks: list[Attack], prepared: Prepared, folders: list[Path], console: Console
) -> tuple[list[Result], list[str]]:
    """Measure attacks one after the other and write each as it is done; one that fails does not stop the others."""
    from medveil.files import make_folder  # noqa: PLC0415
    from simulations.attacks.study.measure import measure  # noqa: PLC0415
    from simulations.attacks.study.time_left import LONGEST, TimeLeft  # noqa: PLC0415
    from simulations.progress import live_bar  # noqa: PLC0415

    for folder in folders:
        make_folder(folder)
    left = TimeLeft(attacks, keys=prepared.setting.keys)
    results, failed = [], []
    with live_bar(console, most=prepared.setting.keys, left=LONGEST) as bar:
        for attack in attacks:
            task = bar.add_task(f"{attack.name}, keys", total=prepared.setting.keys, left=left.about)
            try:
                advance = partial(_advance, bar, task, left, attack)
                done = measure(attack, prepared.setting, notes=prepared.notes, progress=advance)
            except MedVeilError as error:
                if len(attacks) == 1:
                    raise
                failed.append(f"{attack.name}: {error}")
                continue
            finally:
                left.ended(attack)
                bar.remove_task(task)
            results.append(_written(done, folders))
            # Of one alone, the result says the same a moment later.
            if len(attacks) > 1:
                plain.say(console, f"{line_of(results[-1])}; {left.text}")
    return results, failed


def _advance(bar: Progress, task: TaskID, left: TimeLeft, attack: Attack) -> None:
    left.key_done(attack)
    bar.update(task, advance=1, left=left.about)


def _written(done: Outcome, folders: list[Path]) -> Result:
    from simulations.attacks.study.figures import draw  # noqa: PLC0415

    result = done.result
    for folder in folders:
        figure = folder / f"{result.stem_in(folder)}.png"
        if result.applicable:
            result = dataclasses.replace(result, figure=figure.name)
            draw(result, done.pictures, figure)
        else:
            figure.unlink(missing_ok=True)
        result.write(folder)
    return result


def line_of(result: Result) -> str:
    """What a result came to, in a line."""
    return f"{result.attack}: {result.verdict}{f' ({result.reason})' if result.reason else f', {result.seconds:.1f} s'}"
