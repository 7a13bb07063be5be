"""What happens when somebody speaks in the server's or in a site's name, and has not its key."""

from __future__ import annotations

from typing import Any

import pytest
from adversary import records
from consortium_world import World, wait
from faults import OddSite, manifest

from medveil.errors import FederationError
from medveil.signing import SigningKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.mark.faults
@pytest.mark.fault(
    "a server that has the certificate and not the signing key asks", "every site refuses and records it; no run begins"
)
def test_a_server_without_the_key_is_told_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up("policy.least_sites=1")
    for name in ("mercy", "st-anna"):
        world.enroll(name, "limits.least_sites=1")
    key = world.consortium.signing_key
    own = key.read_bytes()
    SigningKey.generate().save(key)
    assert world("start") == 0
    for site in world.sites.values():
        site.start()
        site.wait_ready()
    assert world("run", world.run_file()) == FederationError.exit_code
    said = capsys.readouterr().err
    for name, site in world.sites.items():
        assert f"{name}: no answer: an error came that nobody signed" in said
        assert [each["reason"] for each in records(site.files.audit.path, "refused")] == ["forged"]
        assert not records(site.files.audit.path, "asked")
        assert not (site.files.state / "site").exists(), "the site's images were opened"
    # With its own key back the very same sites and processes work for it.
    key.write_bytes(own)
    assert world("run", world.run_file()) == 0


@pytest.mark.faults
@pytest.mark.fault("a node key works without its site's identity", "no answer of it counts; its site is not blamed")
def test_a_node_key_alone_can_answer_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up("policy.least_sites=1")
    honest = world.enroll("st-anna", "limits.least_sites=1")
    thief = OddSite(world.enroll("mercy", "limits.least_sites=1"), stolen=True)
    assert world("start") == 0
    honest.start()
    honest.wait_ready()
    thief.start()
    file: dict[str, Any] = {"server": {"wait_for_sites": 60, "round_deadline": 120, "prepare_deadline": 120}}
    assert world("run", world.run_file(**file)) == FederationError.exit_code
    said = capsys.readouterr().err
    assert "mercy: no answer: what came was not signed by this site, and may not be from it" in said
    (found,) = records(world.consortium.audit.path, "unsigned-reply")
    assert (found["site"], found["reason"]) == ("mercy", "forged")
    assert [each["site"] for each in records(world.consortium.audit.path, "answered")] == ["st-anna"]
    assert manifest(world)["status"] == "failed"
    # The site itself, with its identity, is believed.
    assert thief.site("stop") == 0
    thief.site.start()
    wait("the worker of mercy", lambda: thief.site.log.count("is ready") >= 2)
    assert world("run", world.run_file()) == 0
