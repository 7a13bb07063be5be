"""What happens when a disk is full, and when what lies on it was changed."""

from __future__ import annotations

import pytest
from consortium_world import RUN, World, wait
from faults import (
    LONG,
    asked,
    assert_same,
    await_round,
    damage,
    left_out,
    manifest,
    meanwhile,
    send,
    server_app,
    tensors,
    trained,
)
from full_disk import Disks
from unbroken import unbroken

from medveil.errors import EXIT_PARTIAL, FederationError, StorageError

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(900)]
ALONE = {"wait_for_sites": 60, "round_deadline": 120, "min_sites": 1}


@pytest.mark.fault(
    "the server's disk is full at a checkpoint ({disk})",
    "the run stops and says so; 'resume' goes on from the last good one",
)
def test_a_full_disk_at_the_server_stops_the_run_and_its_checkpoint_loads(
    disks: Disks, consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = disks(consortium.consortium.runs)
    asked_for = {"rounds": 2, "train": LONG, "model": {**RUN["model"], "width": 48}}
    assert consortium("run", consortium.run_file(**asked_for)) == 0
    first = consortium.run_folder()

    # Room for a manifest, not for a model; the audit log lies elsewhere, or is the smaller file.
    model = (first / "checkpoints" / "round-0001.safetensors").stat().st_size
    assert 3 * consortium.consortium.audit.path.stat().st_size < model, "the log would be what does not fit"

    def fill_it() -> None:
        await_round(consortium, 2, after=first)
        disk.fill(server_app(consortium), left=model - 4096)

    capsys.readouterr()
    with meanwhile(fill_it):
        assert consortium("run", consortium.run_file(**asked_for)) == StorageError.exit_code
    said = capsys.readouterr().err
    assert "round-0002.safetensors" in said
    assert ("no space left on device" if disk.real else "file too large") in said
    assert manifest(consortium)["status"] == "failed"
    checkpoints = sorted(path.name for path in (consortium.run_folder() / "checkpoints").iterdir())
    assert checkpoints == ["round-0001.json", "round-0001.safetensors"], "half a checkpoint was left"
    if disk.real:
        disk.free(None)
    assert consortium("resume") == 0
    assert "resuming after round 1 of 2" in capsys.readouterr().err
    assert_same(unbroken(consortium, 2), tensors(consortium, 2))


@pytest.mark.fault(
    "a site's disk is full at its store ({disk})", "it takes no part and says why; the others train; no half store"
)
@pytest.mark.fault(
    "a site's disk is full at its stem ({disk})", "left out of that round by name; the round before counts; back"
)
def test_a_full_disk_at_a_site_leaves_it_out(
    disks: Disks, consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    site = consortium.sites["mercy"]
    disk = disks(site.files.own)
    disk.fill(site.pid("worker"), left=4096)
    assert consortium("run", consortium.run_file(rounds=1, server=ALONE)) == 0
    assert [row["site"] for row in manifest(consortium)["sites"]] == ["st-anna"]
    assert "answered a query message" in site.log
    assert "StorageError: see the log of the site" in site.log
    assert ("no space left on device" if disk.real else "file too large") in site.log
    assert not list((site.files.own / "stores").glob("*/*.sealed")), "half a store was left"
    disk.free(site.pid("worker"))
    before = asked(site)

    def fill_it() -> None:
        wait("mercy trains", lambda: asked(site) >= before + 2)
        disk.fill(site.pid("worker"), left=4096)
        await_round(consortium, 3)
        disk.free(site.pid("worker"))

    with meanwhile(fill_it):
        assert consortium("run", consortium.run_file(rounds=3, train=LONG, server=ALONE)) == EXIT_PARTIAL
    assert left_out(consortium) == [(2, "mercy")]
    assert "left out of round 2: mercy: StorageError: see the log of the site" in capsys.readouterr().err
    assert (3, "mercy") in trained(consortium)
    stems = site.files.own / "stems" / manifest(consortium)["run"]
    assert sorted(path.name for path in stems.iterdir()) == [f"round-000{r}.sealed" for r in (0, 1, 3)]


@pytest.mark.fault(
    "all of a site's disk is full, its audit log first ({disk})",
    "left out by name; nothing leaves unrecorded; its processes live, and the log is whole; back",
)
def test_a_site_that_cannot_write_its_audit_log_is_left_out_and_comes_back(
    disks: Disks, consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    site = consortium.sites["mercy"]
    assert site("stop") == 0
    disk = disks(site.files.state)
    site.start()
    site.wait_ready()
    processes = {name: site.pid(name) for name in ("supervisor", "supernode", "worker")}
    counted = 0

    def fill_it() -> None:
        nonlocal counted
        wait("mercy trains", lambda: asked(site) >= 2)
        # A limit below its length forbids the log to grow.
        disk.fill(site.pid("worker"), left=0)
        counted = len(site.files.audit.path.read_bytes())
        await_round(consortium, 3)
        disk.free(site.pid("worker"))

    with meanwhile(fill_it):
        assert consortium("run", consortium.run_file(rounds=3, train=LONG, server=ALONE)) == EXIT_PARTIAL
    assert left_out(consortium) == [(2, "mercy")]
    assert "left out of round 2: mercy: StorageError: see the log of the site" in capsys.readouterr().err
    assert (3, "mercy") in trained(consortium)
    assert {name: site.pid(name) for name in processes} == processes, "a process ended"
    assert site.files.audit.path.stat().st_size > counted > 0
    assert site("audit", "verify") == 0


def broken_off(world: World) -> None:
    """A run of three rounds whose process was killed in the last of them."""

    def kill_it() -> None:
        await_round(world, 3)
        send(server_app(world))

    with meanwhile(kill_it):
        assert world("run", world.run_file(rounds=3, train=LONG)) == FederationError.exit_code


@pytest.mark.fault("a bit of the newest checkpoint is turned", "found by checksum; the one before is used, and said so")
@pytest.mark.fault("a bit of a site's store is turned", "found by its seal; built anew, and said so; tensors as ever")
def test_a_damaged_checkpoint_and_store_are_found_and_the_model_is_as_ever(
    consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    site = consortium.sites["mercy"]
    broken_off(consortium)
    damage(consortium.run_folder() / "checkpoints" / "round-0002.safetensors")
    assert site("stop") == 0
    (store,) = (site.files.state / "site" / "stores").glob("*/train.sealed")
    damage(store)
    site.start()
    site.wait_ready()
    capsys.readouterr()
    assert consortium("resume") == 0
    said = capsys.readouterr().err
    assert "resuming after round 1 of 3; skipped as damaged: round-0002 is not what its checksum says" in said
    assert "built the store anew: it was damaged" in site.log
    assert "does not open: wrong key or changed file" in site.log
    assert_same(unbroken(consortium, 3), tensors(consortium, 3))


@pytest.mark.fault("a bit of a site's newest stem is turned", "found by its seal; the one before is used, and said so")
def test_a_damaged_stem_is_found_and_the_one_before_is_used(consortium: World) -> None:
    site = consortium.sites["mercy"]
    broken_off(consortium)
    stem = site.files.state / "site" / "stems" / manifest(consortium)["run"] / "round-0002.sealed"
    damage(stem)
    assert consortium("resume") == 0
    assert f"{stem}: " in site.log
    assert "using the one before it" in site.log
    assert (3, "mercy") in trained(consortium)
