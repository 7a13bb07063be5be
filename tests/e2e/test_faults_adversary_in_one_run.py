"""What a server that forges, a site that sends nonsense and one that speaks for others come to, in one consortium."""

from __future__ import annotations

import numpy as np
import pytest
from adversary import beating, code, counted, evil_server, node_id, pulled_by, raw_node, records
from consortium_world import World, wait
from faults import OddSite, assert_made_of, left_out, manifest, meanwhile, trained
from flwr.app import Array, ArrayRecord, RecordDict
from raw_node import SERVER, Pulled, answer

from medveil.audit_verify import verify
from medveil.errors import EXIT_PARTIAL, FederationError

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(900)]
ROUNDS = 5


def begun(world: World) -> dict[str, OddSite]:
    """A server whose app forges messages, and two sites whose updates are kept."""
    world.set_up("policy.least_sites=1")
    sites = {name: OddSite(world.enroll(name, "limits.least_sites=1")) for name in ("mercy", "st-anna")}
    assert world("start") == 0
    for site in sites.values():
        site.start()
    return sites


def bad_updates_are_left_out_by_name(
    world: World, sites: dict[str, OddSite], capsys: pytest.CaptureFixture[str]
) -> None:
    sites["mercy"].be(updates={"1": "nan", "2": "shape", "3": "dtype", "4": "norm"})
    capsys.readouterr()
    assert world("run", world.run_file(rounds=ROUNDS)) == EXIT_PARTIAL
    said = capsys.readouterr().err
    wanted = {1: "not finite", 2: "has shape", 3: "is float64, wanted float32", 4: "norm is"}
    for round_, reason in wanted.items():
        told = [line for line in said.splitlines() if line.startswith(f"left out of round {round_}: mercy: ")]
        assert len(told) == 1, said
        assert reason in told[0]
    assert left_out(world) == [(round_, "mercy") for round_ in wanted]
    assert manifest(world)["status"] == "finished"
    for round_ in range(1, ROUNDS + 1):
        assert_made_of(world, sites, round_)
    assert (ROUNDS, "mercy") in trained(world), "its good update was not counted"


def what_the_server_did_not_sign_changed_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """In that run's second round the site whose node comes first was sent three messages more."""
    refused = {name: records(site.files.audit.path, "refused") for name, site in world.sites.items()}
    (name,) = [name for name, found in refused.items() if found]
    found = [(each["kind"], each["error"], each["reason"]) for each in refused[name]]
    assert sorted(found) == [
        ("evaluate", "SignatureError", "unsigned"),
        ("train", "SignatureError", "content"),
        ("train", "SignatureError", "replayed"),
    ]
    for site in world.sites.values():
        assert counted(site) == {"train": ROUNDS, "evaluate": 1}
        asked = records(site.files.audit.path, "asked")
        assert [each["kind"] for each in asked] == ["query", *["train"] * ROUNDS, "evaluate"]
        assert all(each["head"] for each in asked)
    capsys.readouterr()
    assert world.sites[name]("audit", "verify") == 0
    assert "without a head" not in capsys.readouterr().out


def a_site_speaks_for_nobody_else(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody has mercy's node key in its stead, and asks and answers by hand."""
    honest = world.sites["st-anna"]
    before = honest.files.node_log.read_text()
    assert world.sites["mercy"]("stop") == 0
    mercy = raw_node(world, "mercy")
    mercy.activate(seconds=90)
    other, done = node_id(world, "st-anna"), list[Pulled]()

    def attack() -> None:
        wait("mercy is asked", lambda: bool(done) or pulled_by(mercy, done) is not None)
        pulled: Pulled = done[0]
        mercy.pull_all(pulled)
        about = pulled.message
        content = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(4, np.float32))})})
        forged = {"reply_to_message_id": "", "dst_node_id": other, "content": content, "message_type": "evaluate"}
        refused = [
            code(lambda each=each: mercy.push(answer(about, source=each, **forged)))
            for each in (SERVER, other, mercy.node.node_id)
        ]
        refused += [code(lambda: mercy.push(answer(about, source=other)))]
        refused += [code(lambda: mercy.pull_object(about.metadata.run_id, "0" * 64))]
        refused += [code(lambda: mercy.confirm(about.metadata.run_id, "0" * 64))]
        assert set(refused) == {403}
        own = mercy.node.node_id
        guesses = [
            code(lambda n=n: mercy.push(answer(about, source=own, reply_to_message_id=f"{n:064x}"))) for n in range(60)
        ]
        assert guesses[-1] == 429

    capsys.readouterr()
    with beating(mercy), meanwhile(attack):
        settings = {"wait_for_sites": 60, "prepare_deadline": 20, "round_deadline": 60}
        ended = world("run", world.run_file(rounds=1, server=settings))
    said = capsys.readouterr().err
    assert ended in {FederationError.exit_code, EXIT_PARTIAL}, said
    assert "mercy" in said
    assert not [line for line in said.splitlines() if "st-anna" in line and "written by another" in line]
    assert "evaluate" not in honest.files.node_log.read_text().removeprefix(before), "the honest site was instructed"
    assert world("status") == 0
    shown = capsys.readouterr().out
    for why in ("pushed an instruction", "pushed a message in another's name", "asked for an object of no message"):
        assert f"mercy {why}" in shown
    log = world.consortium.log.read_text()
    assert log.count("refused: mercy answered a message that it was never sent") <= 4
    verify(world.consortium.audit.path)
    assert '"door-refused"' in world.consortium.audit.path.read_text()


@pytest.mark.fault("a site sends NaN", "left out of that round, named with the reason; the run goes on", kind="updates")
@pytest.mark.fault(
    "a site sends a tensor of another shape", "left out of that round, named with the reason", kind="updates"
)
@pytest.mark.fault(
    "a site sends a tensor of another type", "left out of that round, named with the reason", kind="updates"
)
@pytest.mark.fault(
    "a site sends an update 1000 times as large", "left out of that round, named with the reason", kind="updates"
)
@pytest.mark.fault(
    "a message nobody signed, a replay and a changed one lie in the SuperLink for a site",
    "each refused and recorded; no model kept, nothing counted; worker and run go on",
)
@pytest.mark.fault("a site instructs another in the server's name", "refused at the door; said with its name")
@pytest.mark.fault("a site answers in another's name", "refused; the run's word on the other is its own")
@pytest.mark.fault(
    "a site guesses the messages of others", "30 guesses, then it waits a minute; the log says it thrice"
)
@pytest.mark.fault("a site asks for others' objects, or deletes them", "refused; the other's message is whole")
def test_who_forges_sends_nonsense_or_speaks_for_others_comes_to_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil_server(world, monkeypatch)
    sites = begun(world)
    workers = [site.pid("worker") for site in world.sites.values()]
    bad_updates_are_left_out_by_name(world, sites, capsys)
    what_the_server_did_not_sign_changed_nothing(world, capsys)
    assert [site.pid("worker") for site in world.sites.values()] == workers, "a worker was ended by a message"
    a_site_speaks_for_nobody_else(world, capsys)
