"""`medveil-sim attacks` and `medveil-sim attack`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil import plain
from medveil.cli import subcommand
from medveil.completing import completing, names_of, settings_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, MedVeilError
from medveil.plain import tell, tell_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from simulations.attacks.config import AttackConfig, Prepared
    from simulations.attacks.study.attack import Attack
    from simulations.attacks.study.measure import Outcome
    from simulations.attacks.study.result import Measured, Result
    from simulations.attacks.study.time_left import TimeLeft

_SHOWN = ("target", "control", "chance", "wrong_key")


def add_attack_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, report: Callable[[Path], Path]
) -> None:
    """Add both commands to `medveil-sim`.

    Parameters
    ----------
    report
        Writes the page of a run anew once it was attacked.
    """
    _add_attacks(commands)
    _add_attack(commands, report)


def _add_attacks(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "attacks",
        text="List the attacks, each with the knowledge it assumes.",
        example="medveil-sim attacks",
    )
    made.add_argument("--json", action="store_true", help="print the list as JSON, with texts, papers and metrics")
    made.set_defaults(command=_do_attacks)


def _do_attacks(arguments: argparse.Namespace) -> int:
    from simulations.attacks.registry import ATTACKS  # noqa: PLC0415 - scipy and scikit-image are slow to import

    attacks = [attack() for attack in ATTACKS.values()]
    if arguments.json:
        tell_json([_described(each) for each in attacks])
        return EXIT_OK
    width = max(len(each.name) for each in attacks) + 2
    for each in attacks:
        extra = "" if each.in_all else "; not part of 'all'"
        tell(f"{each.name:<{width}}knows: {', '.join(sorted(map(str, each.knowledge)))} ({each.kind}{extra})")
    return EXIT_OK


def _described(attack: Attack) -> dict[str, Any]:
    from simulations.attacks.study.measure import control_name  # noqa: PLC0415

    return {
        "attack": attack.name,
        "kind": attack.kind,
        "knowledge": sorted(map(str, attack.knowledge)),
        "needs": sorted(map(str, attack.needs)),
        "text": attack.text,
        "papers": list(attack.papers),
        "control": control_name(attack.control),
        "main": attack.main,
        "margin": attack.margin,
        "in_all": attack.in_all,
        "metrics": [
            {"name": m.name, "text": m.text, "unit": m.unit, "direction": m.direction, "chance": str(m.chance)}
            for m in attack.metrics
        ],
    }


def _add_attack(commands: argparse._SubParsersAction[argparse.ArgumentParser], report: Callable[[Path], Path]) -> None:
    made = subcommand(
        commands,
        "attack",
        text="Attack hidden images: what is recovered, beside an unprotected control, chance and a wrong key.",
        example="medveil-sim attack known-plaintext --images brain-mri --cipher block-pixel --negate --out ATTACKS",
        device=True,
    )
    name = made.add_argument("name", metavar="NAME", help="attacks of 'medveil-sim attacks', by commas, or 'all'")
    completing(name, names_of(known_attacks))
    where = made.add_mutually_exclusive_group(required=True)
    where.add_argument("--images", type=Path, metavar="DIR", help="folder of images, or an .npz file")
    where.add_argument("--run", type=Path, metavar="RUN", help="the images and the cipher of a run; results go there")
    cipher = made.add_argument("--cipher", metavar="SCHEME", help="scheme or preset that hides the images")
    completing(cipher, names_of(known_schemes))
    made.add_argument("--negate", action="store_true", help="also negate pixels at keyed positions (block-pixel)")
    made.add_argument("--stolen", action="store_true", help="images as a thief of a site's disk finds them: sealed")
    add_measure_options(made, size="as data.image_size")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for results; with --run also there")
    made.add_argument("--json", action="store_true", help="print the results as JSON")
    made.set_defaults(command=partial(_do_attack, report=report))


def add_measure_options(made: argparse.ArgumentParser, *, size: str) -> None:
    """Add the options that say what is measured on: images, blocks, keys.

    Parameters
    ----------
    size
        The default size of images, in words.
    """
    made.add_argument("--size", type=int, metavar="PIXELS", help=f"side images are resized to (default: {size})")
    made.add_argument("--block", type=int, metavar="PIXELS", help="edge of a cipher block (default: 16)")
    settings = made.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="further settings of the images, as for 'run': data.group_by=group",
    )
    completing(settings, settings_of(_schema))
    made.add_argument("--keys", type=int, metavar="N", help="keys (default: 10)")
    made.add_argument(
        "--images-per-key",
        type=int,
        metavar="N",
        help="images attacked under each key, at most, by every attack (default: 100, or what an attack is made for)",
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help="a trial in minutes: 2 keys, 20 images under each, 64 pixels, little effort; no finding",
    )
    made.add_argument("--public", metavar="DIR", help="the attacker's public images (default: half of those attacked)")
    made.add_argument("--seed", type=int, metavar="N", help="seed of keys and draws (default: 0, or the run's)")


def known_attacks() -> list[str]:
    """The names that a command line may give attacks by."""
    from simulations.attacks.registry import ALL, ATTACKS  # noqa: PLC0415

    return [*ATTACKS, ALL]


def known_schemes() -> list[str]:
    """The names of what hides images."""
    from crypto.cipher import SCHEMES  # noqa: PLC0415
    from crypto.config import PRESETS  # noqa: PLC0415

    return [*SCHEMES, *PRESETS]


def _schema() -> type:
    from simulations.attacks.config import AttackConfig  # noqa: PLC0415

    return AttackConfig


def _do_attack(arguments: argparse.Namespace, *, report: Callable[[Path], Path]) -> int:
    from simulations.attacks.config import prepare  # noqa: PLC0415
    from simulations.attacks.registry import chosen  # noqa: PLC0415

    attacks = chosen(arguments.name)
    folders = _folders(arguments)
    config = configured(arguments)
    attacks = [_fitted(each, config, device=arguments.device or "auto") for each in attacks]
    prepared = prepare(config, run=arguments.run)
    results, failed = _measure_all(attacks, prepared, folders)
    if arguments.json:
        tell_json([each.to_document() for each in results])
    else:
        _print_table(results)
        tell(f"results: {', '.join(map(str, folders))}")
    for line in failed:
        tell(f"failed: {line}", error=True)
    if arguments.run is not None:
        page = report(arguments.run)
        if not arguments.json:
            tell(f"report: {page}")
    return EXIT_PARTIAL if failed else EXIT_OK


def _fitted(attack: Attack, config: AttackConfig, *, device: str) -> Attack:
    """An attack as these settings let it work."""
    made = attack if config.images is None else attack.within(config.images)
    made = made.quick() if config.quick else made
    made.device = device
    return made


def _folders(arguments: argparse.Namespace) -> list[Path]:
    if arguments.run is None and arguments.out is None:
        raise ConfigError("needs --out", where="medveil-sim attack", cure="name a folder for the results")
    if arguments.images is not None and arguments.cipher is None:
        raise ConfigError("needs --cipher", where="medveil-sim attack", cure="for example --cipher block-pixel")
    found = [arguments.out] if arguments.out is not None else []
    return found if arguments.run is None else [*found, arguments.run / "attacks"]


def configured(arguments: argparse.Namespace) -> AttackConfig:
    """What the options of `attack` ask for."""
    from medveil.config import load_config, to_mapping  # noqa: PLC0415
    from simulations.attacks.config import QUICK_IMAGES, QUICK_KEYS, AttackConfig, of_folder, of_run  # noqa: PLC0415

    if arguments.run is not None:
        _refuse_beside_run(arguments)
        settings = to_mapping(of_run(arguments.run))
    else:
        cipher = {"scheme": arguments.cipher, "block": arguments.block, "negate": arguments.negate or None}
        data = {**of_folder(arguments.images), "image_size": arguments.size}
        settings = _given({"data": data, "cipher": cipher})
    own = {"keys": arguments.keys, "images": arguments.images_per_key, "seed": arguments.seed}
    own |= {"public": arguments.public, "quick": arguments.quick or None}
    own |= {"stolen": arguments.stolen or None}
    if arguments.quick:
        own |= {name: value for name, value in (("keys", QUICK_KEYS), ("images", QUICK_IMAGES)) if own[name] is None}
    return load_config(AttackConfig, None, arguments.overrides, values={**settings, **_given(own)})


def _refuse_beside_run(arguments: argparse.Namespace) -> None:
    given = {"--cipher": arguments.cipher, "--size": arguments.size, "--block": arguments.block}
    if arguments.stolen:
        cure = "--images, with the run's --cipher"
        raise ConfigError(
            "--run takes no --stolen: its images are there, opened", where="medveil-sim attack", cure=cure
        )
    for name, value in {**given, "--negate": arguments.negate or None}.items():
        if value is not None:
            raise ConfigError(f"--run takes no {name}", where="medveil-sim attack", cure="the run knows its cipher")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Only what was given: the configuration's own defaults stand for the rest."""
    inner = {name: _given(value) if isinstance(value, dict) else value for name, value in options.items()}
    return {name: value for name, value in inner.items() if value is not None}


def _measure_all(attacks: list[Attack], prepared: Prepared, folders: list[Path]) -> tuple[list[Result], list[str]]:
    """Measure attacks one after the other and write each as it is done; one that fails does not stop the others."""
    from medveil.files import make_folder  # noqa: PLC0415
    from simulations.attacks.study.measure import measure  # noqa: PLC0415
    from simulations.attacks.study.time_left import LONGEST, TimeLeft  # noqa: PLC0415
    from simulations.progress import live_bar  # noqa: PLC0415

    for folder in folders:
        make_folder(folder)
    console = plain.stderr_console()
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
                plain.say(console, f"{_line(results[-1])}; {left.text}")
    return results, failed


def _advance(bar: Progress, task: TaskID, left: TimeLeft, attack: Attack) -> None:
    left.key_done(attack)
    bar.update(task, advance=1, left=left.about)


def _written(done: Outcome, folders: list[Path]) -> Result:
    from simulations.attacks.study.figures import draw  # noqa: PLC0415

    result = done.result
    if result.applicable:
        result = dataclasses.replace(result, figure=f"{result.attack}.png")
    for folder in folders:
        figure = folder / f"{result.attack}.png"
        if result.applicable:
            draw(result, done.pictures, figure)
        else:
            figure.unlink(missing_ok=True)
        result.write(folder)
    return result


def _line(result: Result) -> str:
    return f"{result.attack}: {result.verdict}{f' ({result.reason})' if result.reason else f', {result.seconds:.1f} s'}"


def _print_table(results: list[Result]) -> None:
    for result in results:
        tell(_line(result))
        for name, each in result.metrics.items():
            parts = [f"{arm.replace('_', ' ')} {_value(each, arm)}" for arm in _SHOWN if getattr(each, arm) is not None]
            tell(f"  {name:<28}{'; '.join(parts) or 'not defined here'}")
        for note in result.notes:
            tell(f"  note: {note}")


def _value(measured: Measured, arm: str) -> str:
    value, within = getattr(measured, arm), measured.ci95.get(arm)
    return f"{value:.4g}" if within is None else f"{value:.4g} [{within[0]:.4g}, {within[1]:.4g}]"
