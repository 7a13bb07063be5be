"""The default engine: both apps in this process, sites one after another, bit-for-bit repeatable."""

from __future__ import annotations

from flwr.app import Context, RecordDict, UserConfig
from flwr.clientapp import ClientApp

from fl_client.app import app as client_app
from fl_client.config import site_name
from fl_server.app import app as server_app
from simulations.engines.absent import AbsentGrid
from simulations.engines.grid import SERVER_NODE, InProcessGrid
from simulations.plan import Plan

RUN_ID = 1


def _grid(
    plan: Plan, app: ClientApp, nodes: list[dict[str, int]], run_config: UserConfig, *, names: list[str]
) -> InProcessGrid:
    absent, seed = plan.experiment.absent, plan.experiment.seed
    if not absent.any:
        return InProcessGrid(app, nodes, run_config, names=names, run_id=RUN_ID)
    return AbsentGrid(app, nodes, run_config, absent=absent, seed=seed, names=names, run_id=RUN_ID)


def run_inprocess(plan: Plan, *, resume: bool = False, app: ClientApp | None = None) -> None:
    """Run an experiment in this process.

    Parameters
    ----------
    plan
        The experiment.
    resume
        Go on with it.
    app
        What the sites run, where some of them are to be other than they should (`simulations.attacks.poisoning`).

    Raises
    ------
    MedVeilError
        Whatever server or sites refuse.
    """
    run_config = plan.run_config(resume=resume)
    sites = plan.sites.sites
    nodes = [{"partition-id": index, "num-partitions": sites} for index in range(sites)]
    names = [site_name(index) for index in range(sites)]
    grid = _grid(plan, client_app if app is None else app, nodes, run_config, names=names)
    context = Context(run_id=RUN_ID, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config=run_config)
    server_app(grid, context)
