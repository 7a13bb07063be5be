"""Looks at a Ray cluster from inside: ``python -m simulations.engines.cluster_look ASK ANSWER``, in its own process.

Both are JSON files. Ray sends `seen` to each node as it stands here, also to one that has no MedVeil or another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

WAIT_S = 150.0
"""For all nodes together: a node's first process of a Python takes a while."""


def seen(ask: dict[str, Any]) -> dict[str, Any]:
    """What an actor would find on the node this runs on: it takes nothing of this module along but itself.

    Parameters
    ----------
    ask
        ``paths`` that are read, the ``run`` folder, the name and the text of a file in it (``token``, ``text``).

    Returns
    -------
    dict
        ``medveil``: the installed one's hash, None where there is none; ``versions``; ``paths``: a digest of the names
        and sizes at each, None where it cannot be read; ``shared``: whether the run folder is the same and takes
        files; ``environment``: the variables that keep Flower and Ray offline, as they are here.
    """
    import hashlib  # noqa: PLC0415
    import os  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    def raises(error: OSError) -> None:
        raise error

    def contents(path: str) -> str | None:
        sizes = []
        try:
            if not os.path.isdir(path):
                with open(path, "rb"):
                    return str(os.path.getsize(path))
            for folder, _, names in os.walk(path, onerror=raises, followlinks=True):
                for name in names:
                    file = os.path.join(folder, name)
                    if not os.access(file, os.R_OK):
                        return None
                    sizes.append((os.path.relpath(file, path), os.path.getsize(file)))
        except OSError:
            return None
        return hashlib.sha256(repr(sorted(sizes)).encode(errors="surrogateescape")).hexdigest()

    def shared() -> bool:
        try:
            with open(os.path.join(ask["run"], ask["token"])) as stream:
                same = bool(stream.read() == ask["text"])
            with tempfile.NamedTemporaryFile(dir=ask["run"], prefix=".cluster-"):
                return same
        except (OSError, ValueError):
            return False

    try:
        from medveil import fab, versions  # noqa: PLC0415

        medveil, found = fab.hash_of(fab.installed_fab()), versions.environment()
    except Exception:
        medveil, found = None, {}
    return {
        "medveil": medveil,
        "versions": found,
        "paths": {path: contents(path) for path in ask["paths"]},
        "shared": shared(),
        "environment": {name: os.environ.get(name) for name in ask["environment"]},
    }


def _looked(ask: dict[str, Any]) -> dict[str, Any]:
    import ray  # noqa: PLC0415 - an extra
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    # As Flower starts it.
    path = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    try:
        ray.init(address=ask["address"], runtime_env=path, include_dashboard=False, log_to_driver=False)
    except Exception as error:
        return {"refused": f"{error}"}
    task = ray.remote(num_cpus=0, max_retries=0)(seen)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = {
        node["NodeID"]: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(ask)
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=WAIT_S)
    found = []
    for node in nodes:
        said: dict[str, Any] = {"name": node["NodeManagerAddress"], "resources": node["Resources"]}
        try:
            said["seen"] = ray.get(asked[node["NodeID"]], timeout=0)
        except Exception as error:
            said["problem"] = type(error).__name__
        found.append(said)
    return {"here": seen(ask), "nodes": found, "free": ray.available_resources().get("CPU", 0.0)}


if __name__ == "__main__":
    from medveil.bounded import parse_json
    from medveil.files import write_json

    ask, answer = sys.argv[1:]
    write_json(answer, _looked(parse_json(Path(ask).read_text(), where=ask)))
