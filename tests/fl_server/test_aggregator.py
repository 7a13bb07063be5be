"""What a server takes of sites that lie or come late, and that one of them cannot stop the others unnamed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from secagg_made import CLIP, Going, World

from medveil.errors import AggregationError, FederationError, SignatureError
from medveil.secagg.masks import public_bytes
from medveil.secagg.members import join
from medveil.secagg.rounds import Offered, sealed_digest
from medveil.secagg.shamir import sets_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def refused(ask: Callable[[], Any], kind: type[Exception] = AggregationError) -> tuple[str, str]:
    with pytest.raises(kind) as found:
        ask()
    return found.value.reason, found.value.where  # type: ignore[attr-defined]


def resigned(world: World, given: Offered, **changes: Any) -> Offered:
    """What a site itself may have changed: its signature holds."""
    name = changes.get("name", given.offer.name)
    return replace(
        given, offer=replace(given.offer, **changes).signed(world.keys[name], run=world.run, roster=world.roster)
    )


def _spelt_otherwise(number: int) -> bytes:
    """A key as RFC 7748 also reads it, its unused bit set."""
    return (number + 2**255).to_bytes(32, "little")


def test_a_site_that_offers_something_else_is_named(world: World) -> None:
    going = Going.begin(world, offering=["s0"])
    good = world.members["s1"].offer(going.task)
    short = {name: each for name, each in good.sealed.items() if name != "s2"}
    cut = {**good.sealed, "s2": good.sealed["s2"][:-1]}
    for odd, reason in (
        (replace(good, offer=replace(good.offer, key=bytes([9]) * 32)), "forged"),
        (replace(good, sealed={**good.sealed, "s2": good.sealed["s3"]}), "shares"),
        (resigned(world, replace(good, sealed=short), sealed=sealed_digest(short)), "shares"),
        (resigned(world, replace(good, sealed=cut), sealed=sealed_digest(cut)), "shares"),
        (resigned(world, good, number=2), "round"),
        (resigned(world, good, attempt=1), "attempt"),
        (resigned(world, good, model=bytes(32)), "model"),
        (resigned(world, good, key=b"12"), "keys"),
        (resigned(world, good, key=bytes(32)), "keys"),
        (resigned(world, good, key=_spelt_otherwise(2)), "keys"),
        (resigned(world, good, key=going.offered["s0"].offer.key), "twice"),
        (resigned(world, good, name="s2"), "added"),
    ):
        kind = SignatureError if reason == "forged" else AggregationError
        assert refused(lambda odd=odd: going.aggregator.offer("s1", odd), kind) == (reason, "s1")
    going.aggregator.offer("s1", good)
    assert refused(lambda: going.aggregator.offer("s1", good)) == ("order", "s1")
    assert refused(lambda: going.aggregator.offer("s9", good)) == ("added", "s9")


def test_no_offer_and_no_update_comes_late(world: World) -> None:
    going = Going.begin(world, offering=world.names[:4])
    late = world.members["s4"].offer(going.task)
    going.aggregator.offers()
    assert refused(lambda: going.aggregator.offer("s4", late)) == ("order", "s4")
    made = going.mask("s0")
    assert refused(lambda: going.aggregator.masked("s4", made.packed, made.sums)) == ("order", "s4")
    going.aggregator.masked("s0", made.packed, made.sums)
    assert refused(lambda: going.aggregator.masked("s0", made.packed, made.sums)) == ("order", "s0")


def test_a_masked_update_of_another_length_changes_nothing(world: World) -> None:
    going = Going.begin(world)
    going.aggregator.offers()
    made = going.mask("s0")
    before = going.aggregator._sum.copy()
    for packed, sums in (
        (made.packed[:-4], made.sums),
        (np.append(made.packed, made.packed[:4]), made.sums),
        (made.packed.astype(np.int16), made.sums),
        (made.packed, made.sums[:1]),
        (made.packed, made.sums.astype(np.int64)),
    ):
        with pytest.raises(FederationError):
            going.aggregator.masked("s0", packed, sums)
    assert (going.aggregator._sum == before).all()
    going.aggregator.masked("s0", made.packed, made.sums)


def test_a_signature_that_is_none_is_named_and_not_counted(world: World) -> None:
    going = Going.begin(world)
    survivors = going.masked(world.names[:4])
    good = {name: going.agree(name) for name in survivors}
    assert refused(lambda: going.aggregator.agreed("s1", good["s2"]), SignatureError) == ("forged", "s1")
    assert refused(lambda: going.aggregator.agreed("s1", b""), SignatureError) == ("forged", "s1")
    assert refused(lambda: going.aggregator.agreed("s4", good["s2"])) == ("order", "s4")
    going.aggregator.agreed("s0", good["s0"])
    going.aggregator.agreed("s1", good["s1"])
    assert refused(going.aggregator.signatures) == ("signatures", "round 1")
    going.aggregator.agreed("s2", good["s2"])
    assert going.aggregator.signatures() == {name: good[name] for name in ("s0", "s1", "s2")}


def helped(going: Going) -> dict[str, dict[str, bytes]]:
    survivors = going.masked(going.world.names)
    signatures = going.agreed(survivors)
    return {name: going.unmask(name, signatures) for name in survivors}


def test_shares_that_are_none_are_refused_by_who_gave_them(world: World) -> None:
    going = Going.begin(world)
    shares = helped(going)["s0"]
    for odd in ({**shares, "s1": b"short"}, {**shares, "s1": b"\xff" * 32}, {"s0": shares["s0"]}, {}):
        assert refused(lambda odd=odd: going.aggregator.helped("s0", odd)) == ("shares", "s0")
    assert refused(lambda: going.aggregator.helped("s9", shares)) == ("order", "s9")


def test_one_helper_that_lies_costs_nothing_and_two_of_three_cost_the_attempt(world: World) -> None:
    going = Going.begin(world)
    shares = helped(going)
    lie = {name: bytes([each[0] ^ 1]) + each[1:] for name, each in shares["s0"].items()}
    going.aggregator.helped("s0", lie)
    for name in ("s1", "s2"):
        going.aggregator.helped(name, shares[name])
    assert refused(going.aggregator.open) == ("shares", "s0")
    going.aggregator.helped("s3", shares["s3"])
    found = going.aggregator.open()
    assert (found.residues == world.plain(going.task, world.names)).all()


def test_no_helper_is_in_all_sets_that_are_tried() -> None:
    """Of 32, the first thousand sets in order all held the first fourteen: any of these could stop every sum."""
    few, many = [f"s{i}" for i in range(5)], [f"s{i:02}" for i in range(32)]
    assert len({*sets_of(few, 3)}) == 10
    tried = list(sets_of(many, 18))
    assert len(tried) == 1000
    assert all(len({*each}) == 18 for each in tried)
    for pair in itertools.combinations(many, 2):
        assert any(not {*pair} & {*each} for each in tried)


def test_a_site_that_shared_something_else_than_it_offered_is_named(world: World) -> None:
    going = Going.begin(world, offering=world.names[:4])
    given = world.members["s4"].offer(going.task)
    liar = resigned(world, given, commitment=bytes([7]) * 32)
    going.aggregator.offer("s4", liar)
    world.members["s4"].secrets = replace(world.members["s4"].secrets, offer=liar.offer)  # type: ignore[type-var]
    shares = helped(going)
    for name in world.names:
        going.aggregator.helped(name, shares[name])
    assert refused(going.aggregator.open) == ("shares", "s4")


def test_a_mean_beyond_the_clip_is_no_model(world: World) -> None:
    going = Going.begin(world)
    for name in world.names:
        made = going.mask(name)
        words = made.packed.view("<u4").copy()
        if name == "s0":
            # Half the field in two numbers: under the masks it looks like any other.
            words[:2] += np.uint32(2**31 - 5)
        going.aggregator.masked(name, words.view(np.uint8), made.sums)
    survivors = going.aggregator.survivors()
    going.agreed(survivors)
    assert refused(lambda: going.opened(survivors)) == ("norm", "round 1")


def test_updates_at_the_clip_are_not_refused(world: World) -> None:
    for name in world.names:
        world.updates[name] = np.full(world.size, 1e6, np.float32)
    going = Going.begin(world)
    survivors = going.masked(world.names)
    going.agreed(survivors)
    found = going.opened(survivors)
    assert float(np.linalg.norm(found.mean)) == pytest.approx(CLIP, rel=1e-6)
    # 40 numbers, each rounded by five sites to 2^31 steps in the clip.
    assert found.rounding == pytest.approx(math.sqrt(40 * 5 / 12) / 2**31, rel=1e-3)


@pytest.mark.parametrize("key", [bytes(32), (1).to_bytes(32, "little"), _spelt_otherwise(9)])
def test_a_key_that_stops_all_others_is_refused_by_its_sites_name(world: World, key: bytes) -> None:
    bad = join(world.keys["s4"], run=world.run, roster=world.roster, name="s4", examples=100, key=key)
    task = replace(world.task(), joins=(*world.joins[:4], bad))
    for judge in (world.aggregator, world.members["s0"].offer):
        assert refused(lambda judge=judge: judge(task), SignatureError) == ("keys", "s4")
    Going.begin(world)  # Nothing of it counted as an attempt.


def test_what_no_site_signed_begins_nothing(world: World) -> None:
    forged = replace(world.task(), joins=(replace(world.joins[0], examples=9), *world.joins[1:]))
    assert refused(lambda: world.aggregator(forged), SignatureError) == ("forged", "s0")
    few = replace(world.task(), joins=world.joins[:2])
    assert refused(lambda: world.aggregator(few)) == ("few", "round 1")


def test_keys_of_a_round_are_drawn_anew(world: World) -> None:
    first, second = (world.members["s0"].offer(world.task(number=number)).offer for number in (1, 2))
    assert first.key != second.key
    assert first.commitment != second.commitment
    assert public_bytes(world.ledger("s0").seal_key()) == world.joins[0].key
