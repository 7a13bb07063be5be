"""The Flower ServerApp: ``fl_server.app:app``."""

from __future__ import annotations

import logging
from typing import cast

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fl_server.audited import AuditedGrid, audit_log
from fl_server.config import ServerSettings
from fl_server.draining import FILE as DRAIN_FILE
from fl_server.draining import Drain
from fl_server.federation import Federation
from fl_server.secagg.summed_run import Told
from fl_server.signed import ServerSignatures, server_signatures
from fl_server.watch import LogWatcher
from medveil import plugins
from medveil.app_config import settings_text
from medveil.audit import FILE_VARIABLE, AuditLog
from medveil.audit_messages import digest_of_config
from medveil.contract import RUN_KEY, SERVER_KEY, RunConfig
from medveil.errors import ConfigError, MedVeilError
from medveil.flower import pull_soon
from medveil.flower_grids import is_simulated
from medveil.flower_replies import take_replies_one_by_one
from medveil.log import is_heard, logger, set_up_logging
from medveil.parent import end_with_parent
from medveil.paths import run_uuid, weights_file
from medveil.plain import tell

app = ServerApp()
_log = logger("server")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation the run config describes.

    Raises
    ------
    MedVeilError
        As `fl_server.federation.Federation.run`; Flower marks the run as failed.
    """
    _log_under_flower(grid)
    if _under_flower(grid):
        pull_soon()
        take_replies_one_by_one()
        if not is_simulated(grid):
            # Flower raises a signal in another thread then, which wakes no thread that waits for a dead SuperLink.
            end_with_parent()
    if not _under_flower(grid) or is_simulated(grid):
        plugins.simulating()
    try:
        run = RunConfig.from_json(settings_text(context.run_config, RUN_KEY), where=RUN_KEY)
        run.run = run_uuid(run.run, context.run_id)
        if run.counted is None:
            run.model["pretrained"] = weights_file(str(run.model.get("pretrained", "false")))
        settings = ServerSettings.from_json(settings_text(context.run_config, SERVER_KEY), where=SERVER_KEY)
        signatures = _signatures(grid, run, context)
        log = audit_log() if _under_flower(grid) else None
        if log is not None:
            _federate_audited(grid, run, settings, log=log, context=context, signatures=signatures)
        elif signatures is None:
            _federate(grid, run, settings, context)
        else:
            raise ConfigError("a run of real sites is written down", where=FILE_VARIABLE, cure="medveil-server start")
    except MedVeilError as error:
        # Whoever runs the app in a process of their own says the error to their user themselves.
        _log.log(logging.ERROR if _under_flower(grid) else logging.DEBUG, "%s", error)
        raise


def _federate(grid: Grid, run: RunConfig, settings: ServerSettings, context: Context) -> None:
    settings_digest, watch = digest_of_config(context.run_config), LogWatcher(reveal=settings.reveal)
    if isinstance(grid, AuditedGrid):
        told, drain = Told(settings_digest, grid.note), _drain()
        federation = Federation(grid, run, settings, watch=watch, told=told, drain=drain)
        grid.packs(lambda: federation.travelling)
    else:
        federation = Federation(grid, run, settings, watch=watch, told=Told(settings_digest))
    if not settings.out:
        tell(f"run folder: {federation.folder}")
    federation.run()


def _drain() -> Drain:
    log = audit_log()
    return Drain(None if log is None else log.path.with_name(DRAIN_FILE))


def _signatures(grid: Grid, run: RunConfig, context: Context) -> ServerSignatures | None:
    """What real sites are asked with; None where none is: in a simulation, ours or Flower's."""
    if not _under_flower(grid) or is_simulated(grid):
        return None
    config = digest_of_config(context.run_config)
    return server_signatures(run=run.run, flower_run=str(context.run_id), config=config)


def _federate_audited(
    grid: Grid,
    run: RunConfig,
    settings: ServerSettings,
    *,
    log: AuditLog,
    context: Context,
    signatures: ServerSignatures | None,
) -> None:
    """The same, with a record of all that passes between server and sites."""
    about = {"run": run.run, "flower_run": str(context.run_id)}
    log.append("run-began", **about, config=digest_of_config(context.run_config))
    try:
        _federate(cast("Grid", AuditedGrid(grid, log, run=run.run, signatures=signatures)), run, settings, context)
    except BaseException as error:
        outcome = type(error).__name__ if isinstance(error, Exception) else "interrupted"
        try:
            log.append("run-ended", **about, outcome=outcome)
        except MedVeilError as unwritten:
            # Why the run failed matters more, and a full disk may be behind both.
            _log.error("the end of the run is not in the audit log: %s", unwritten)
        raise
    log.append("run-ended", **about, outcome="ended")


def _log_under_flower(grid: Grid) -> None:
    """In a process of Flower's own nobody has set up our log; its output is what ``flwr log`` shows."""
    if _under_flower(grid) and not is_heard():
        set_up_logging("info")


def _under_flower(grid: Grid) -> bool:
    return type(grid).__module__.startswith("flwr.")
