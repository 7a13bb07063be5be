"""What happens to a sum under masks when a process is killed between two of its messages, or a site comes late.

Four sites, of which three must be left to open a sum. One keeps back an answer, so that the server waits between two
steps while something is done to the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest
from consortium_world import World, wait
from faults import (
    OddSite,
    Proxy,
    answers,
    assert_made_of,
    begun,
    hold,
    left_out,
    manifest,
    meanwhile,
    send,
    server_app,
    sums,
    trained,
)

from fl_client.deployment import running
from fl_server.deployment.runs import submissions
from medveil.errors import EXIT_PARTIAL, FederationError
from medveil.secagg.roster import load_roster

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(900)]
Sites = dict[str, OddSite]
NAMES = ["grace", "mercy", "santa-fe", "st-anna"]
HOLDER = "st-anna"
AWAY = ("grace", "mercy")


@pytest.fixture
def sites(world: World) -> Sites:
    """Four sites that approved one roster and are connected."""
    world.set_up("policy.least_sites=3")
    return connected(world)


def connected(world: World, *, proxied: Collection[str] = (), port: int = 0) -> Sites:
    """The same, some of which reach their server through a proxy's port."""
    made = {name: OddSite(world.enroll(name, "limits.least_sites=3")) for name in NAMES}
    for name in proxied:
        made[name].site.change(server=f"127.0.0.1:{port}")
    path = world.folder / "roster.json"
    assert world("roster", "--out", path) == 0
    digest = load_roster(path).fingerprint
    for odd in made.values():
        assert odd.site("approve-roster", digest, "--roster", path) == 0
    assert world("start") == 0
    for odd in made.values():
        odd.start()
    return made


def masked_run(world: World, *, rounds: int, deadline: int) -> str:
    server = {"wait_for_sites": 120, "round_deadline": deadline, "prepare_deadline": 300, "min_updates": 3}
    return str(world.run_file(rounds=rounds, kind="delta", secagg={"on": True}, server=server))


def await_held(world: World, sites: Sites, kind: str, round_: int | None, *, since: int = 0) -> None:
    """Wait until the holder alone has not answered."""
    others = {(name, kind, round_) for name in NAMES if name != HOLDER}
    ready = lambda: others <= set(answers(world)[since:]) and sites[HOLDER].holds(kind, round_)  # noqa: E731
    wait(f"all but {HOLDER} answer {kind} of round {round_}", ready, seconds=150)


@pytest.mark.fault("a {process} is killed (-9) between the query and its training", "its update is in the sum")
@pytest.mark.fault(
    "a {process} is killed (-9) between its offer and its mask",
    "a worker's update is not in the sum of the other three, by name; of a node nothing is lost",
)
@pytest.mark.fault("a {process} is killed (-9) between its mask and the agreement", "its update is in the sum")
@pytest.mark.fault("a {process} is killed (-9) between agreement and unmasking", "its update is in the sum")
@pytest.mark.parametrize("process", ["worker", "supernode"])
def test_a_site_whose_process_is_killed_between_two_messages(world: World, sites: Sites, process: str) -> None:
    victim, holder = sites["grace"].site, sites[HOLDER]
    steps = [("query", None), ("train", 1), ("train.mask", 2), ("query.agree", 3)]
    holder.hold(*steps)

    def kill_it() -> None:
        for number, (kind, round_) in enumerate(steps):
            await_held(world, sites, kind, round_)
            killed = victim.pid(process)
            send(killed)
            wait(f"the {process} is back", lambda was=killed: victim.pid(process) not in {was, None}, seconds=120)  # type: ignore[misc]
            # The server refuses a node's key until the heartbeat of the one before has expired.
            wait("grace is back", lambda: running.is_connected(victim.files), seconds=150)
            holder.hold(*steps[number + 1 :])

    with meanwhile(kill_it):
        code = world("run", masked_run(world, rounds=3, deadline=300))
    lost = [(1, "grace")] if process == "worker" else []
    assert left_out(world) == lost
    assert code == (EXIT_PARTIAL if lost else 0)
    assert sums(world) == {round_: [name for name in NAMES if (round_, name) not in lost] for round_ in (1, 2, 3)}
    for round_, names in sums(world).items():
        assert_made_of(world, sites, round_, names)
    assert victim("audit", "verify") == 0


@pytest.mark.fault(
    "the ServerApp is killed (-9) while sites agree on a sum", "'resume' makes the round anew with the same sites"
)
@pytest.mark.fault(
    "the ServerApp is killed (-9) before the last site has unmasked", "'resume' opens that sum; nobody trains for it"
)
@pytest.mark.fault(
    "the ServerApp is killed (-9) after a sum was opened", "'resume' goes on after that round; none is opened twice"
)
def test_a_killed_server_app_opens_what_was_agreed_and_nothing_else(
    world: World, sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    holder, steps = sites[HOLDER], [("query.agree", 1), ("query.unmask", 1), ("train", 2)]
    holder.hold(*steps)
    command, began = ["run", masked_run(world, rounds=2, deadline=300)], [0]

    def kill_it() -> None:
        kind, round_ = steps[len(began) - 1]
        await_held(world, sites, kind, round_, since=began[-1])
        send(server_app(world))
        holder.hold(*steps[len(began) :])

    for _ in steps:
        with meanwhile(kill_it):
            assert world(*command) == FederationError.exit_code
        began.append(len(answers(world)))
        kept = world.run_folder() / "sums" / "train-0001.json"
        assert kept.exists() == (len(began) == 3), "what is agreed is kept until it is opened"
        command = ["resume"]
    capsys.readouterr()
    assert world("resume") == 0
    assert "resuming after round 1 of 2" in capsys.readouterr().err
    trained = [sorted(site for site, *what in answers(world)[since:] if what == ["train", 1]) for since in began]
    assert trained == [sorted(2 * NAMES), NAMES, [], []], "trained again for a sum that was agreed on"
    assert sums(world) == {1: NAMES, 2: NAMES}
    for round_, names in sums(world).items():
        assert_made_of(world, sites, round_, names)


def killed_between_offer_and_mask(world: World, sites: Sites, process: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of the four lose a process there, and the run ends below the threshold, naming both."""
    sites[HOLDER].hold(("train", 1))

    def kill_them() -> None:
        await_held(world, sites, "train", 1)
        for name in AWAY:
            send(sites[name].site.pid(process))
        sites[HOLDER].hold()

    with meanwhile(kill_them):
        assert world("run", masked_run(world, rounds=1, deadline=60)) == FederationError.exit_code
    said = capsys.readouterr().err
    assert "round 1: 2 sites are left, and 3 must: the attempt is lost" in said
    assert all(f"{name}: " in said for name in AWAY)
    assert not (world.run_folder() / "sums" / "train-0001.json").exists()


@pytest.mark.fault(
    "two of four sites' workers are killed (-9) between offer and mask: below the threshold",
    "the run ends and names both; nothing is opened; 'resume' makes the round",
)
@pytest.mark.fault(
    "two of four sites do not help in time to open a sum: below the threshold",
    "the run ends in words; 'resume' opens what was agreed once they are back; nobody trains for it again",
)
def test_below_the_threshold_nothing_is_opened_and_the_run_goes_on(
    world: World, sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_between_offer_and_mask(world, sites, "worker", capsys)
    for name in AWAY:
        wait(f"the worker of {name}", lambda odd=sites[name]: odd.site.pid("worker") is not None)  # type: ignore[misc]
        sites[name].hold(("query.unmask", 1))
    assert world("resume") == FederationError.exit_code
    assert "round 1: 2 sites helped, and 3 must: the attempt is lost" in capsys.readouterr().err
    assert not list((world.run_folder() / "checkpoints").glob("round-0001*")), "a sum of too few was opened"
    since = len(answers(world))
    for name in AWAY:
        sites[name].hold()
    assert world("resume") == 0
    assert not [site for site, *what in answers(world)[since:] if what == ["train", 1]]
    assert sums(world) == {1: NAMES}
    assert_made_of(world, sites, 1, NAMES)


@pytest.mark.fault(
    "two of four SuperNodes are killed (-9) with their supervisors between offer and mask: below the threshold",
    "the run ends and names both; nothing is opened; 'resume' makes the round",
)
@pytest.mark.fault(
    "the ServerApp is killed (-9) while two of four sites help to open a sum: below the threshold",
    "nothing is opened, by 'resume' neither, until they help; then what was agreed is; nobody trains for it again",
)
def test_below_the_threshold_a_killed_server_app_opens_nothing(
    world: World, sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    unmask = ("query.unmask", 1)
    killed_between_offer_and_mask(world, sites, "supervisor", capsys)
    for name in AWAY:
        sites[name].hold(unmask)
        sites[name].start(ready=False)
    for name in AWAY:
        # The server refuses a node's key until the heartbeat of the one before has expired.
        wait(f"{name} is back", lambda odd=sites[name]: running.is_connected(odd.site.files), seconds=150)  # type: ignore[misc]
        sites[name].site.wait_ready()

    def kill_it() -> None:
        wait("two do not help", lambda: all(sites[name].holds(*unmask) for name in AWAY), seconds=200)
        send(server_app(world))

    with meanwhile(kill_it):
        assert world("resume") == FederationError.exit_code
    assert (world.run_folder() / "sums" / "train-0001.json").exists()
    for name in AWAY:
        # What it was asked by the killed one it answers, so that it can be asked by the next.
        sites[name].hold()
        wait(f"{name} lets go", lambda odd=sites[name]: odd.has_let_go(*unmask))  # type: ignore[misc]
        sites[name].hold(unmask)
    capsys.readouterr()
    since = len(answers(world))
    assert world("resume") == FederationError.exit_code
    assert "round 1: 2 sites helped, and 3 must: the attempt is lost" in capsys.readouterr().err
    assert not list((world.run_folder() / "checkpoints").glob("round-0001*")), "a sum of too few was opened"
    for name in AWAY:
        sites[name].hold()
    assert world("resume") == 0
    assert not [site for site, *what in answers(world)[since:] if what == ["train", 1]]
    assert sums(world) == {1: NAMES}
    assert_made_of(world, sites, 1, NAMES)


@pytest.mark.fault(
    "one of four sites gives its masked update after the deadline: at the threshold",
    "the sum of the other three is opened; the late update is in none; the site is in a later one",
)
def test_a_late_masked_update_is_in_no_sum(world: World, sites: Sites) -> None:
    late = sites[HOLDER]
    late.hold(("train.mask", 1))

    def wait_for_it() -> None:
        wait("the round closes without it", lambda: (1, HOLDER) in _left_out(world), seconds=200)
        late.hold()

    with meanwhile(wait_for_it):
        assert world("run", masked_run(world, rounds=4, deadline=45)) == EXIT_PARTIAL
    assert left_out(world) == [(1, HOLDER)]
    assert manifest(world)["left_out"][0]["reason"] == "no reply within 45 s"
    found = sums(world)
    assert found[1] == [name for name in NAMES if name != HOLDER]
    assert found[4] == NAMES
    for round_, names in found.items():
        assert_made_of(world, sites, round_, names)


@pytest.fixture
def cut(world: World) -> Iterator[Proxy]:
    world.set_up("policy.least_sites=3")
    proxy = Proxy(world.consortium.config.fleet.port)
    yield proxy
    proxy.close()


@pytest.mark.fault(
    "the connections of {n} of four sites are cut for 60 s, between offer and mask",
    "one: the sum of the other three is opened, and it is in a later one. Two, below the threshold: the run ends and "
    "names both, nothing is opened; 'resume' makes the round of all. Each reconnects by itself",
)
@pytest.mark.parametrize("n", [1, 2])
def test_cut_connections_come_back_and_their_masked_updates_are_in_no_sum(
    world: World, cut: Proxy, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    away = NAMES[:n]
    sites, rounds = connected(world, proxied=away, port=cut.port), 8
    holder, first = sites[HOLDER], sites[away[0]].site
    holder.hold(("train", 1))

    def cut_them() -> None:
        await_held(world, sites, "train", 1)
        with meanwhile(lambda: cut.cut(60)):
            holder.hold()
        if n == 1:
            hold(holder.site, until=lambda: begun(first) >= 2, seconds=12, rounds=range(3, rounds))

    with meanwhile(cut_them):
        code = world("run", masked_run(world, rounds=rounds, deadline=45))
    assert cut.refused, "no node tried while it was cut off"
    said = capsys.readouterr().err
    if n == 1:
        assert code == EXIT_PARTIAL
        lost = left_out(world)
        assert lost[0] == (1, away[0])
        assert {site for _, site in lost} == set(away)
    else:
        assert code == FederationError.exit_code
        assert "round 1: 2 sites are left, and 3 must: the attempt is lost" in said
        assert all(f"{name}: " in said for name in away)
        assert not (world.run_folder() / "sums" / "train-0001.json").exists()
        for name in away:
            wait(f"{name} is back", lambda odd=sites[name]: running.is_connected(odd.site.files), seconds=150)  # type: ignore[misc]
        assert world("resume") == 0
        assert sums(world)[1] == NAMES
    assert sums(world)[rounds] == NAMES
    # A site that is away when a round begins is not asked in it, and so not left out of it.
    asked, lost = trained(world), left_out(world)
    for round_, names in sums(world).items():
        assert names == [name for name in NAMES if (round_, name) in asked and (round_, name) not in lost]
        assert_made_of(world, sites, round_, names)
    back = min(round_ for round_, names in sums(world).items() if names == NAMES)
    assert all(names == NAMES for round_, names in sums(world).items() if round_ > back)


def _left_out(world: World) -> list[tuple[int, str]]:
    """Nobody, too, while the run has no folder yet."""
    has_begun = submissions(world.consortium) and (world.run_folder() / "manifest.json").exists()
    return left_out(world) if has_begun and manifest(world).get("left_out") else []
