"""What is looked at before a simulation joins a Ray cluster; tests/e2e/test_flower_cluster.py starts a real one."""

from __future__ import annotations

import builtins
import copy
import types
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil import fab, versions
from medveil.config import load_config
from medveil.errors import ConfigError, DataError, FederationError, MedVeilError, StorageError
from medveil.ports import free_port
from simulations.config import ExperimentConfig
from simulations.engines import cluster, cluster_look, flower
from simulations.engines.cluster import Node
from simulations.plan import Plan
from simulations.ray_config import RayConfig
from simulations.resolved import resolved


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"address": "ray://head:10001"}, "ray.address"),
        ({"address": "head"}, "ray.address"),
        ({"address": "head:70000"}, "ray.address"),
        ({"address": "head:6379; rm -r"}, "ray.address"),
        ({"cpus": 0}, "ray.cpus"),
        ({"gpus": 1.5}, "ray.gpus"),
        ({"gpus": -1.0}, "ray.gpus"),
        ({"gpus": 0.001}, "ray.gpus"),
        ({"gpus": float("nan")}, "ray.gpus"),
        ({"gpus": float("inf")}, "ray.gpus"),
        ({"memory": -1.0}, "ray.memory"),
        ({"memory": float("nan")}, "ray.memory"),
    ],
)
def test_what_no_cluster_could_be_asked(wrong: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RayConfig(**wrong).check()
    assert caught.value.where == where


@pytest.mark.parametrize("right", [{}, {"address": "10.0.0.1:6379"}, {"address": "[::1]:6379"}, {"gpus": 0.25}])
def test_what_one_could_be(right: dict[str, Any]) -> None:
    RayConfig(**right).check()


def test_a_gpu_that_ray_would_not_show_an_actor(tmp_path: Path) -> None:
    config = ExperimentConfig(engine="flower", device="cuda", ray=RayConfig(gpus=0.5))
    resolved(config, tmp_path)
    config.ray.gpus = 0
    with pytest.raises(ConfigError, match=r"^device: is cuda, and an actor that takes no GPU sees none; ray\.gpus=1"):
        resolved(config, tmp_path)


def test_the_cluster_is_named_by_the_settings_or_by_rays_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cluster.VARIABLE, raising=False)
    assert cluster.address_of(RayConfig()) == ""
    for named, found in (("local", ""), ("10.0.0.2:6379", "10.0.0.2:6379")):
        monkeypatch.setenv(cluster.VARIABLE, named)
        assert cluster.address_of(RayConfig()) == found
        assert cluster.address_of(RayConfig(address="10.0.0.1:6379")) == "10.0.0.1:6379"
        # What of it reaches Flower is what was looked at.
        assert cluster.VARIABLE not in flower._environment(Path("scratch"))
    monkeypatch.setenv(cluster.VARIABLE, "auto")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS: 'auto' is no address"):
        cluster.address_of(RayConfig())


sizes = st.builds(
    Node, st.just("n"), st.integers(0, 8).map(float), st.sampled_from([0.0, 1.0, 4.0]), st.integers(0, 64).map(float)
)


@settings(max_examples=40)
@given(st.lists(sizes, max_size=4), st.integers(1, 4), st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0, 3, 16]))
def test_no_node_hosts_more_actors_than_it_has_memory_for(
    nodes: list[Node], cpus: int, gpus: float, memory: float
) -> None:
    ray = RayConfig(cpus=cpus, gpus=gpus, memory=memory)

    def fits(each: int) -> bool:
        actors = [node.actors(each, gpus) for node in nodes]
        return sum(actors) > 0 and all(n * memory <= node.memory for n, node in zip(actors, nodes, strict=True))

    right = [each for each in range(cpus, 9) if fits(each)]
    if right:
        assert cluster.fitting(nodes, ray) == right[0]
    else:
        with pytest.raises(ConfigError, match="an actor takes"):
            cluster.fitting(nodes, ray)


def test_an_actor_larger_than_the_cluster_is_told_what_there_is() -> None:
    nodes = [Node("10.0.0.1", 2.0, 0.0, 7.5), Node("10.0.0.2", 4.0, 1.0, 15.0)]
    assert cluster.fitting(nodes, RayConfig()) == 1
    # Two on the small one and three on the large one hold 2 CPUs each at most.
    assert cluster.fitting(nodes, RayConfig(memory=5.0)) == 2
    with pytest.raises(ConfigError) as caught:
        cluster.fitting(nodes, RayConfig(cpus=8, gpus=0.5))
    assert str(caught.value) == (
        "ray: an actor takes 8 CPUs, 0.5 GPU, and no node of the cluster has as much; "
        "10.0.0.1 has 2 CPUs, 7.5 GiB; 10.0.0.2 has 4 CPUs, 1 GPU, 15.0 GiB"
    )


HERE: dict[str, Any] = {
    "medveil": "a" * 64,
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "paths": {"/data/images": "d" * 64},
    "shared": True,
    "environment": cluster.OFFLINE,
}


@pytest.mark.parametrize(
    ("theirs", "kind", "said"),
    [
        ({"medveil": None, "versions": {}}, ConfigError, "has no MedVeil in the Python of its Ray"),
        ({"versions": {"python": "3.12.1", "torch": "2.13.0"}}, ConfigError, "has python 3.12.1, and here is 3.11.9"),
        ({"versions": {"python": "3.11.9"}}, ConfigError, "has torch unknown, and here is 2.13.0"),
        ({"medveil": "b" * 64}, ConfigError, "has another MedVeil than this machine"),
        ({"shared": False}, StorageError, "does not share the run folder /runs/one"),
        ({"paths": {"/data/images": None}}, DataError, "cannot read /data/images"),
        ({"paths": {"/data/images": "e"}}, DataError, "has other files than this machine at /data/images"),
    ],
)
def test_a_node_that_could_not_host_a_site(theirs: dict[str, Any], kind: type[MedVeilError], said: str) -> None:
    run = Path("/runs/one")
    cluster.check_node({"name": "10.0.0.2", "seen": copy.deepcopy(HERE)}, HERE, run=run)
    with pytest.raises(kind) as caught:
        cluster.check_node({"name": "10.0.0.2", "seen": {**HERE, **theirs}}, HERE, run=run)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"node 10.0.0.2: {said}")


def test_a_node_that_runs_nothing() -> None:
    with pytest.raises(FederationError, match=r"node 10\.0\.0\.2: runs no task of ours \(GetTimeoutError\)"):
        cluster.check_node({"name": "10.0.0.2", "problem": "GetTimeoutError"}, HERE, run=Path("run"))


def plan_of(run: Path, *overrides: str) -> Plan:
    config = load_config(ExperimentConfig, None, overrides)
    return cast("Plan", types.SimpleNamespace(experiment=config, out=run))


def test_nobody_at_the_address(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(FederationError, match=f"Ray cluster: nobody answers at {address} within 5 s"):
        cluster.cpus_of_an_actor(plan_of(tmp_path), tmp_path, {cluster.VARIABLE: address})


def test_memory_is_not_counted_on_a_ray_of_ones_own(tmp_path: Path) -> None:
    assert cluster.cpus_of_an_actor(plan_of(tmp_path, "ray.cpus=3"), tmp_path, {}) == 3
    with pytest.raises(ConfigError, match=r"^ray\.memory: is counted on a cluster"):
        cluster.cpus_of_an_actor(plan_of(tmp_path, "ray.memory=3"), tmp_path, {})


def test_a_node_that_hosts_nobody_is_not_asked_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    head = {"name": "10.0.0.1", "resources": {}, "problem": "GetTimeoutError"}
    node = {"name": "10.0.0.2", "resources": {"CPU": 8.0, "memory": 16 * 2**30}}
    seen = {**HERE, "environment": {**cluster.OFFLINE, "RAY_USAGE_STATS_ENABLED": None}}
    found = {"here": HERE, "nodes": [head, {**node, "seen": seen}], "free": 6.0}
    monkeypatch.setattr(cluster, "_answers", lambda _: None)
    monkeypatch.setattr(cluster, "_look", lambda *_: found)
    environment = {cluster.VARIABLE: "10.0.0.1:6379"}
    assert cluster.cpus_of_an_actor(plan_of(tmp_path, "ray.memory=8"), tmp_path, environment) == 3
    assert "2 CPUs of the cluster are others' now" in caplog.text
    assert "node 10.0.0.2 was started without RAY_USAGE_STATS_ENABLED=0" in caplog.text


def test_what_a_node_says_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fab, "installed_fab", lambda: b"app")
    # Ray sends the function alone: what stands around it here may not be there.
    seen = types.FunctionType(cluster_look.seen.__code__, {"__builtins__": builtins})
    run, images = tmp_path / "run", tmp_path / "images"
    run.mkdir()
    (images / "a").mkdir(parents=True)
    (images / "a" / "1.png").write_bytes(b"1")
    (run / "token").write_text("text")
    ask = {"paths": [str(images)], "run": str(run), "token": "token", "text": "text", "environment": ["UNSET_HERE"]}
    first = seen(ask)
    assert first["medveil"] == fab.hash_of(b"app")
    assert first["versions"] == versions.environment()
    assert (first["shared"], first["environment"]) == (True, {"UNSET_HERE": None})
    assert sorted(each.name for each in run.iterdir()) == ["token"]
    assert seen(ask) == first
    assert seen({**ask, "text": "of another folder"})["shared"] is False
    (images / "a" / "2.png").write_bytes(b"2")
    assert seen(ask)["paths"] != first["paths"]
    missing = seen({**ask, "paths": [str(tmp_path / "none")], "run": str(tmp_path / "none")})
    assert (missing["paths"], missing["shared"]) == ({str(tmp_path / "none"): None}, False)
