"""`medveil-sim attacks` and `medveil-sim attack`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil.cli import subcommand
from medveil.completing import completing, names_of, settings_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL
from medveil.plain import tell, tell_json
from simulations.dry_run import add_dry_run

if TYPE_CHECKING:
    from simulations.attacks.config import AttackConfig
    from simulations.attacks.study.attack import Attack
    from simulations.attacks.study.result import Measured, Result

_ASKED = (
    *("run", "images", "cipher", "block", "negate", "size", "keys", "images_per_key", "seed", "public", "quick"),
    *("stolen", "overrides"),
)
"""The options of `attack` that say what is measured."""
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

    found, wrong = ATTACKS.usable()
    attacks = [attack() for attack in found.values()]
    for problem in wrong:
        tell(problem, error=True)
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
    add_dry_run(made)
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

    return [*ATTACKS.names(), ALL]


def known_schemes() -> list[str]:
    """The names of what hides images."""
    from crypto.cipher import SCHEMES  # noqa: PLC0415
    from crypto.config import PRESETS  # noqa: PLC0415

    return [*SCHEMES.names(), *PRESETS]


def _schema() -> type:
    from simulations.attacks.config import AttackConfig  # noqa: PLC0415

    return AttackConfig


def _do_attack(arguments: argparse.Namespace, *, report: Callable[[Path], Path]) -> int:
    from simulations.attacks.asked import attacked, folders_of  # noqa: PLC0415
    from simulations.attacks.registry import chosen  # noqa: PLC0415

    attacks = chosen(arguments.name)
    folders = folders_of(arguments.run, arguments.out, images=arguments.images, cipher=arguments.cipher)
    config = configured(arguments)
    device = arguments.device or "auto"
    if arguments.dry_run:
        found = tell_pace(attacks, config, run=arguments.run, device=device, aside=arguments.json)
        if arguments.json:
            tell_json(found)
        return EXIT_OK
    results, failed = attacked(attacks, config, folders, run=arguments.run, device=device)
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


def tell_pace(
    attacks: list[Attack], config: AttackConfig, *, run: Path | None, device: str, aside: bool, times: float = 1.0
) -> dict[str, Any]:
    """Say which attacks would be measured, and about what that takes; nothing is written.

    Parameters
    ----------
    aside
        Whether to say it on stderr, beside a result that is JSON.
    times
        How often all of it is done, less what is done side by side.

    Returns
    -------
    dict
        The same as plain data: shares of the time, seconds and bytes.
    """
    from simulations.attacks.pace import pace  # noqa: PLC0415 - scipy and scikit-image are slow to import
    from simulations.report.words import seconds, size  # noqa: PLC0415

    found = pace(attacks, config, run=run, device=device)
    lines = [f"would measure {len(found.apply)} of {len(attacks)} attacks under {config.keys} keys"]
    lines += [f"  {name}: {share:.1%} of the time" for name, share in found.apply.items()]
    lines += [f"  {name}: does not apply: {why}" for name, why in found.refused.items()]
    took = None if found.seconds is None else found.seconds * times
    if took is not None:
        lines += [
            f"time: about {seconds(took)}, by one key of {found.probe} and the attacks' own weights",
            "an attack's time depends on what it finds: this is right to a factor of some, not to some per cent",
        ]
    lines += [
        f"memory: {size(found.memory)} so far, and more for those that train; disk: a picture and a file each; "
        "nothing is sent"
    ]
    for line in lines:
        tell(line, error=aside)
    return {**found._asdict(), "seconds": took, "keys": config.keys}


def configured(arguments: argparse.Namespace) -> AttackConfig:
    """What the options of `attack` ask for."""
    from simulations.attacks.asked import asked_for  # noqa: PLC0415

    return asked_for(**{name: getattr(arguments, name) for name in _ASKED})


def _print_table(results: list[Result]) -> None:
    from simulations.attacks.asked import line_of  # noqa: PLC0415

    for result in results:
        tell(line_of(result))
        for name, each in result.metrics.items():
            parts = [f"{arm.replace('_', ' ')} {_value(each, arm)}" for arm in _SHOWN if getattr(each, arm) is not None]
            tell(f"  {name:<28}{'; '.join(parts) or 'not defined here'}")
        for note in result.notes:
            tell(f"  note: {note}")


def _value(measured: Measured, arm: str) -> str:
    value, within = getattr(measured, arm), measured.ci95.get(arm)
    return f"{value:.4g}" if within is None else f"{value:.4g} [{within[0]:.4g}, {within[1]:.4g}]"
