"""What a server could do that is not ours: it has Flower's database, and no rule of ours before it."""

from __future__ import annotations

from pathlib import Path

from flwr.common.constant import NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from medveil.fab import hash_of


def run_in_database(database: Path, content: bytes, config: dict[str, str]) -> int:
    """Begin a run of any app, past whatever its server would say of it; returns Flower's id of the run."""
    state = LinkStateFactory(str(database), NoOpFederationManager(), ObjectStoreFactory(str(database))).state()
    fab = Fab(hash_of(content), content, {})
    state.store_fab(fab)
    run = state.create_run(
        "medveil/medveil", "0", fab.hash_str, config, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    assert run
    return int(run)
