"""Submitting and resuming runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_server.commands.common import PROG, Commands, consortium_of, refuse_unready
from medveil.cli import subcommand
from medveil.completing import completing, settings_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_block, tell_json, tell_result, tell_text

if TYPE_CHECKING:
    from fl_server.deployment.consortium import Consortium
    from fl_server.deployment.runs import Submission
    from medveil.contract import RunConfig

_MEASURED = ("accuracy", "balanced_accuracy", "auroc", "majority_rate")


def add_run(commands: Commands) -> argparse.ArgumentParser:
    """Add `run`."""
    made = subcommand(
        commands,
        "run",
        text="Submit a run of the installed MedVeil, and follow it to its end.",
        example=f"{PROG} run training.yaml rounds=20",
    )
    made.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="YAML file of the run")
    settings = made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that replace the file's")
    completing(settings, settings_of(_schema))
    made.add_argument("--template", action="store_true", help="print a YAML of all settings, each under its help")
    made.add_argument("--hash", action="store_true", help="print the app's hash, which sites approve; submit nothing")
    _add_following(made)
    made.set_defaults(command=_do_run)
    return made


def _schema() -> type:
    from fl_server.deployment.plan import RunFile  # noqa: PLC0415

    return RunFile


def _add_following(made: argparse.ArgumentParser) -> None:
    made.add_argument("--detach", action="store_true", help="come back at once; see 'status'")
    made.add_argument("--json", action="store_true", help="print the summary, or what else is asked for, as JSON")


def _do_run(arguments: argparse.Namespace) -> int:
    if arguments.hash:
        own = _app_hash()
        tell_result({"hash": own}, own, as_json=arguments.json)
        return EXIT_OK

    from fl_server.deployment.plan import RunFile, make_run  # noqa: PLC0415
    from fl_server.deployment.roster import Roster  # noqa: PLC0415
    from fl_server.deployment.runs import new_submission  # noqa: PLC0415
    from medveil.config import commented_yaml  # noqa: PLC0415
    from models.described import load_with_model  # noqa: PLC0415

    if arguments.template:
        head = f"# A run of a consortium. Submit it with: {PROG} run FILE\n"
        tell_text("yaml", head + commented_yaml(RunFile), as_json=arguments.json)
        return EXIT_OK
    if arguments.config is None:
        raise ConfigError("needs CONFIG", where=f"{PROG} run", cure=f"'{PROG} run --template' prints one")
    consortium = consortium_of(arguments)
    refuse_unready(consortium)
    file = load_with_model(RunFile, arguments.config, arguments.overrides)
    run, settings = make_run(file, consortium, admitted=len(Roster(consortium.roster).admitted()))
    _warn(run)
    return _submitted(new_submission(run, settings, _app_hash()), consortium, arguments, resumed=0)


def add_resume(commands: Commands) -> argparse.ArgumentParser:
    """Add `resume`."""
    made = subcommand(
        commands,
        "resume",
        text="Go on with an interrupted run from its last whole round.",
        example=f"{PROG} resume",
    )
    made.add_argument(
        "run", nargs="?", metavar="RUN", help="name, folder or first digits of its identity (default: the newest)"
    )
    _add_following(made)
    made.set_defaults(command=_do_resume)
    return made


def _do_resume(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.runs import find, resumed, state_of  # noqa: PLC0415

    consortium = consortium_of(arguments)
    refuse_unready(consortium)
    old = find(consortium, arguments.run)
    times = len(state_of(old, consortium)["resumed"])
    again = resumed(old, consortium, _app_hash())
    began = (old.folder(consortium) / "manifest.json").exists()
    return _submitted(again, consortium, arguments, resumed=times + 1 if began else 0)


def _submitted(submission: Submission, consortium: Consortium, arguments: argparse.Namespace, *, resumed: int) -> int:
    from fl_server.deployment.control import Control  # noqa: PLC0415
    from fl_server.deployment.runs import follow, submit  # noqa: PLC0415

    tell(f"app {submission.fab}", error=True)
    tell("sites run it once they approved it: medveil-site approve HASH", error=True)
    control = Control(consortium)
    sent = submit(submission, consortium, control)
    folder = sent.folder(consortium)
    tell(f"run {sent.name} ({sent.run}), in {folder}", error=True)
    if arguments.detach:
        found = {"run": sent.run, "name": sent.name, "folder": str(folder)}
        tell_result(found, folder, as_json=arguments.json)
        return EXIT_OK
    try:
        summary = follow(sent, consortium, control, lambda text: tell(text, error=True), resumed=resumed)
    except KeyboardInterrupt:
        tell(f"the run goes on: '{PROG} status' shows it, '{PROG} stop --run' ends it", error=True)
        raise
    _tell_held(summary)
    left_out = _tell_left_out(folder)
    if arguments.json:
        tell_json(summary)
    else:
        tell_block(_result(summary))
    return EXIT_PARTIAL if left_out else EXIT_OK


def _app_hash() -> str:
    from medveil.fab import hash_of, installed_fab  # noqa: PLC0415

    return hash_of(installed_fab())


def _warn(run: RunConfig) -> None:
    from models.policy import Policy  # noqa: PLC0415

    if run.counted is not None:
        if not run.secagg.on:
            tell("warning: secagg.on is false: the server reads each site's own histograms", error=True)
        return
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    if policy.warning is not None:
        tell(f"warning: policy {policy}: {policy.warning}", error=True)
    if not run.secagg.on:
        tell("warning: secagg.on is false: the server reads each site's own updates", error=True)


def _tell_held(summary: dict[str, Any]) -> None:
    from fl_server.weights import Held  # noqa: PLC0415

    for each in summary.get("held", []):
        tell(f"held to server.most_share: {Held(**each)}", error=True)


def _tell_left_out(folder: Path) -> bool:
    from fl_server.manifest import read_manifest  # noqa: PLC0415

    left_out = read_manifest(folder / "manifest.json")["left_out"]
    for each in left_out:
        tell(f"left out of round {each['round']}: {each['site']}: {each['reason']}", error=True)
    return bool(left_out)


def _result(summary: dict[str, Any]) -> str:
    from fl_server.secagg.said import in_words  # noqa: PLC0415

    if "statistics" in summary:
        done = f"counted at {len(summary['sites'])} sites; nothing was trained"
        return f"{summary['name']}: {done}; see {summary['statistics']}"
    parts = [f"{summary['name']}: {summary['status']} after {summary['rounds']} rounds"]
    measured = [key for key in _MEASURED if isinstance(summary.get(key), float)]
    parts += [f"{key.replace('_', ' ')} {summary[key]:.3f}" for key in measured]
    if not measured:
        parts.append("no site told a measure: each withholds it where it has few images (limits.smallest_count)")
    return "; ".join([*parts, f"updates {in_words(summary.get('secagg', {}))}"])
