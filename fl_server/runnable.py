"""Whether a run could be run with a server's settings, asked before anything is started."""

from __future__ import annotations

from fl_server.config import ServerConfig, ServerSettings
from fl_server.mlflow_run import check_store
from fl_server.secagg.runnable import check_summed
from fl_server.strategies import RULES, sampled, too_few
from fl_server.tensorboard import check_installed
from medveil.contract import RunConfig
from medveil.errors import ConfigError, PolicyError
from medveil.pretraining import MASKED


def check_run(run: RunConfig, settings: ServerSettings) -> None:
    """Refuse what could not be run, before anything is started.

    Raises
    ------
    ConfigError
        A setting is out of range, the strategy's guarantee needs more sites than are expected, or what the settings
        ask for is not installed.
    """
    run.check()
    settings.check()
    server = settings.server
    check_summed(run, server, settings.summing)
    lacks = too_few(server, sampled(server, settings.expected))
    if lacks:
        raise ConfigError(f"'{server.strategy}' {lacks}", where="server.strategy", cure="add sites")
    if server.min_updates < run.least_sites:
        raise ConfigError(
            f"'min_updates' is {server.min_updates}, and the run promises its sites at least {run.least_sites}",
            where="server.min_updates",
            cure=f"at least {run.least_sites}",
        )
    if server.tensorboard:
        check_installed()
    check_store(server.mlflow)
    if run.task == MASKED and server.strategy == "local-only":
        problem = f"is local-only, and of {MASKED} the shared trunk is all that is wanted"
        raise ConfigError(problem, where="server.strategy", cure="fedavg")
    if run.task == MASKED and server.monitor != "loss" and (server.patience or server.keep == "best"):
        problem = f"is {server.monitor}, and {MASKED} has none"
        raise ConfigError(problem, where="server.monitor", cure="loss")
    _check_evaluate(run, settings)
    check_unmeasured(run, server)
    if server.patience and not run.evaluate_first:
        raise ConfigError("early stopping needs 'evaluate_first'", where="server.patience", cure="set it true")
    if server.keep == "best" and not run.evaluate_first:
        raise ConfigError("keeping the best round needs 'evaluate_first'", where="server.keep", cure="set it true")


def _check_evaluate(run: RunConfig, settings: ServerSettings) -> None:
    """Refuse to choose among rounds, or models, where there is one (ConfigError)."""
    server = settings.server
    if run.evaluated is None:
        return
    for name, set_, value, cure in (
        ("strategy", server.strategy == "local-only", server.strategy, "fedavg"),
        ("patience", server.patience > 0, server.patience, "0"),
        ("keep", server.keep == "best", server.keep, "last"),
    ):
        if set_:
            problem = f"is {value}, and a run that trains nothing has one model and no rounds"
            raise ConfigError(problem, where=f"server.{name}", cure=cure)


def check_unmeasured(run: RunConfig, server: ServerConfig) -> None:
    """Refuse to let measures, which no noise covers, choose the model that is left (PolicyError).

    Parameters
    ----------
    run
        What the sites must agree with.
    server
        The server's configuration.
    """
    if run.private is not None and RULES[server.strategy].by_loss:
        problem = f"is {server.strategy}, which weighs sites by their training loss, and no noise covers that"
        raise PolicyError(problem, where="server.strategy", cure="fedavg")
    if run.private is None or (server.patience == 0 and server.keep == "last"):
        return
    name, cure = ("patience", "0") if server.patience else ("keep", "last")
    problem = f"'{name}' chooses the model by what sites measure, and no noise covers that"
    raise PolicyError(f"{problem}: 'privacy' would promise what does not hold", where=f"server.{name}", cure=cure)
