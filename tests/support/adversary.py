"""What an adversary does to a consortium by hand, and what its audit logs then say."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from consortium_world import HERE, Hospital, World
from odd_server import SITECUSTOMIZE
from raw_node import Pulled, RawNode, load_key

from fl_server.deployment.consortium import Consortium
from medveil.audit import Record
from medveil.audit_verify import verify


def raw_node(world: World, name: str) -> RawNode:
    """Somebody with a site's node key, who speaks to the door by hand."""
    key = load_key(world.sites[name].file.with_name(f"{name}.node"))
    return RawNode(f"{HERE}:{world.consortium.config.fleet.port}", key, world.consortium.authority[1])


def code(ask: object) -> int:
    """The status that a request of a node is refused with."""
    assert callable(ask)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        ask()
    return caught.value.response.status_code


def node_id(world: World, name: str) -> int:
    """What a site's own log says its node is called: whoever has its key file may have that too."""
    found = re.findall(r"SuperNode ID: (\d+)", world.sites[name].files.node_log.read_text())
    return int(found[-1])


@contextlib.contextmanager
def beating(node: RawNode) -> Iterator[None]:
    """Keep a node listed as online."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(10):
            # A node that was refused too often has to wait with this too.
            with contextlib.suppress(httpx.HTTPStatusError):
                node.beat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def pulled_by(node: RawNode, done: list[Pulled]) -> Pulled | None:
    """The next message for a node, kept in a list as well."""
    found = node.pull()
    if found is not None:
        done.append(found)
    return found


# -- in the server's name ----------------------------------------------------------------------------------------------


def records(path: Path, event: str) -> list[Record]:
    found = verify(path)
    assert found.whole, found.problems
    return [each["details"] for each in found.records if each["event"] == event]


def counted(site: Hospital) -> dict[str, int]:
    """How often a site has answered its one run, by kind."""
    (path,) = site.files.state.glob("runs/*/served.json")
    return dict(json.loads(path.read_text())["answered"])


def evil_server(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = world.folder / "evil"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    environment = Consortium.environment
    monkeypatch.setattr(
        Consortium, "environment", lambda self: {**environment(self), "PYTHONPATH": str(folder)}, raising=True
    )
