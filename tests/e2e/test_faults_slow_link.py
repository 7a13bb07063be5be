"""A site at the end of a slow and lossy line that is cut twice: a round of ViT-Ti goes through all the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from consortium_world import RUN, World, wait
from faults import asked, await_round, left_out, manifest, meanwhile, trained
from slow_link import SERVER, SlowLink, why_not

from models.config import ModelConfig
from models.vit import build_vit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3000)]

RATE, ROUND_TRIP, LOSS = 1e6, 0.2, 0.01
CUT_S = 60
SIZE, BLOCK = 224, 16
VIT_TI = {"width": 192, "depth": 12, "heads": 3}
HALF = 5e6
"""Bytes, about half of what a message of the model's size has in bf16."""


@dataclass(frozen=True)
class Mark:
    """How far a line had come at a moment: seconds, and bytes of IP packets that arrived, or did not."""

    at: float
    up: int
    down: int
    lost: int

    @classmethod
    def of(cls, line: SlowLink) -> Mark:
        return cls(time.monotonic(), line.up.passed, line.down.passed, line.up.lost + line.down.lost)

    def since(self, before: Mark) -> str:
        seconds, up, down = self.at - before.at, self.up - before.up, self.down - before.down
        lost = (self.lost - before.lost) / max(1, up + down + self.lost - before.lost)
        an_hour = (up + down) * 3600 / seconds
        return (
            f"{seconds:.0f} s, {up / 1e6:.1f} MB up, {down / 1e6:.1f} MB down, {lost:.1%} lost, "
            f"{an_hour / 1e6:.0f} MB an hour"
        )


@pytest.fixture
def line() -> Iterator[SlowLink]:
    """The line; the test and its server are at one end."""
    if reason := why_not():
        pytest.skip(reason)
    with SlowLink(rate=RATE, round_trip=ROUND_TRIP, loss=LOSS) as made:
        yield made


def parameters() -> int:
    sizes = ModelConfig(**VIT_TI, image_size=SIZE, patch=BLOCK, channels=1, classes=2)
    return sum(each.numel() for each in build_vit(sizes, seed=0).parameters())


def cut_in_the_middle(line: SlowLink, passed: Callable[[], int]) -> None:
    """Cut it once half of a message has passed."""
    before = passed()
    wait("half of it passes", lambda: passed() - before > HALF, seconds=600)
    line.cut(CUT_S)


@pytest.mark.faults
@pytest.mark.fault(
    "a line of 1 Mbit/s, 200 ms and 1 % loss is cut for 60 s while ViT-Ti comes, and again while its update goes",
    "both go on where they were; the update counts",
    kind="network",
)
def test_a_round_of_vit_ti_goes_over_a_slow_line_that_is_cut_twice(
    line: SlowLink, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.set_up("policy.least_sites=1", "fleet.host=0.0.0.0", f"certificates.names=[{SERVER}]")
    near, far = (world.enroll(name, "limits.least_sites=1") for name in ("st-anna", "mercy"))
    far.change(server=f"{SERVER}:{world.consortium.config.fleet.port}")
    assert world("start") == 0
    near.start()
    with line.at_site():
        far.start()
    for site in (near, far):
        site.wait_ready()
    marks: list[Mark] = [Mark.of(line)]

    def counted() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return (1, "mercy") in trained(world)
        return False

    def watch() -> None:
        await_round(world, 1, seconds=600)
        marks.append(Mark.of(line))
        cut_in_the_middle(line, lambda: line.down.passed)
        cut_in_the_middle(line, lambda: line.up.passed)
        wait("its update is counted", counted, seconds=600)
        marks.append(Mark.of(line))

    run = {
        "data": {**RUN["data"], "image_size": SIZE},
        "cipher": {"block": BLOCK, "negate": True},
        "model": VIT_TI,
        "train": {**RUN["train"], "epochs": 1},
        "server": {"wait_for_sites": 60, "round_deadline": 1800, "prepare_deadline": 600},
    }
    with meanwhile(watch):
        assert world("run", world.run_file(**run, rounds=1, wire="bf16")) == 0
    marks.append(Mark.of(line))
    assert manifest(world)["status"] == "finished"
    assert left_out(world) == []
    assert asked(far) == 1
    begun, first, second, end = marks
    # Whatever the cuts cost, it is less than half of a message anew.
    size = 2 * parameters()
    assert size < second.down - first.down < 1.5 * size
    assert size < second.up - first.up < 1.5 * size
    with capsys.disabled():
        print(f"\n{parameters() / 1e6:.2f} million parameters in bf16: {size / 1e6:.1f} MB each way")
        print(f"the round:   {second.since(first)}")
        print(f"the whole run, with the app before and the last measuring: {end.since(begun)}")
