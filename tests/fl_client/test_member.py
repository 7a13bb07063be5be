"""What a site refuses to a server that lies: section 4 of the reference, each attack by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from secagg_made import MODEL, Going, World

from medveil.errors import AggregationError, FederationError, SignatureError
from medveil.secagg.members import Join, join
from medveil.secagg.rounds import Offer, Task, agreement, sealed_digest, sign_agreement, transcript_of
from medveil.secagg.sums import VALIDATE
from medveil.signing import SigningKey
from medveil.summed_messages import number_of

EVIL = X25519PrivateKey.generate().public_key().public_bytes_raw()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def refused(ask: Callable[[], Any], kind: type[Exception] = AggregationError) -> tuple[str, str]:
    """Of a refusal the reason, and whom or what it names."""
    with pytest.raises(kind) as found:
        ask()
    return found.value.reason, found.value.where  # type: ignore[attr-defined]


# -- who takes part ----------------------------------------------------------------------------------------------------


def told(world: World, *joins: Join) -> Callable[[], Any]:
    return lambda: world.members["s0"].offer(Task(world.run, 1, 0, MODEL, joins))


def test_swapped_sealing_keys(world: World) -> None:
    swapped = replace(world.joins[4], key=EVIL)
    assert refused(told(world, *world.joins[:4], swapped), SignatureError) == ("forged", "s4")
    own = replace(world.joins[0], key=EVIL)
    assert refused(told(world, own, *world.joins[1:]), SignatureError) == ("forged", "s0")


def test_an_added_site(world: World) -> None:
    theirs = join(SigningKey.generate(), run=world.run, roster=world.roster, name="s9", examples=100, key=EVIL)
    assert refused(told(world, *world.joins, theirs), SignatureError) == ("added", "s9")
    posed = join(SigningKey.generate(), run=world.run, roster=world.roster, name="s4", examples=100, key=EVIL)
    assert refused(told(world, *world.joins[:4], posed), SignatureError) == ("forged", "s4")


def test_a_site_named_twice_or_with_anothers_key(world: World) -> None:
    assert refused(told(world, *world.joins, world.joins[4])) == ("twice", "s4")
    same = join(world.keys["s4"], run=world.run, roster=world.roster, name="s4", examples=100, key=world.joins[3].key)
    assert refused(told(world, *world.joins[:4], same))[0] == "twice"
    keyless = join(world.keys["s4"], run=world.run, roster=world.roster, name="s4", examples=100)
    assert refused(told(world, *world.joins[:4], keyless))[0] == "keys"


def test_another_number_of_images(world: World) -> None:
    """A server that set weights could set one site's to 1 and the others' to 0."""
    assert (
        refused(told(world, *[replace(each, examples=1) for each in world.joins[1:]], world.joins[0]), SignatureError)[
            0
        ]
        == "forged"
    )


def test_too_few_sites_and_none_without_its_own_key(world: World) -> None:
    assert refused(told(world, *world.joins[:2])) == ("few", "limits.least_sites")
    assert refused(told(world, *world.joins[1:])) == ("own", "s0")
    earlier = join(world.keys["s0"], run=world.run, roster=world.roster, name="s0", examples=100, key=EVIL)
    assert refused(told(world, earlier, *world.joins[1:])) == ("own", "s0")


def test_a_site_counts_by_its_own_limit_too(tmp_path: Path) -> None:
    world = World(tmp_path, least_sites=4)
    assert refused(told(world, *world.joins[:3])) == ("few", "limits.least_sites")
    assert told(world, *world.joins[:4])()


def test_a_site_does_not_hide_in_a_sum_that_is_mostly_its_own(tmp_path: Path) -> None:
    world = World(tmp_path, examples=[100, 40, 40, 40, 40])
    assert refused(told(world, *world.joins[:3])) == ("share", "limits.most_share")
    going = Going.begin(world)
    going.masked(world.names)
    # Nor when those are lost that made it small.
    assert refused(lambda: going.agree("s0", ["s0", "s1", "s2"])) == ("share", "limits.most_share")
    assert going.agree("s0", ["s0", "s1", "s2", "s3"])


def test_another_run(world: World) -> None:
    other = replace(world.task(), run=world.run[::-1])
    assert refused(lambda: world.members["s0"].offer(other))[0] == "run"


# -- offers ------------------------------------------------------------------------------------------------------------


def shown(going: Going, name: str, *changed: Offer, sealed: dict[str, bytes] | None = None) -> Callable[[], Any]:
    """Have a site mask, shown these offers in place of those they are named after."""
    by = {each.name: each for each in [*going.aggregator.offers(), *changed]}
    given = going.sealed_for(name) if sealed is None else sealed
    world = going.world
    return lambda: world.members[name].mask(going.task, list(by.values()), given, world.updates[name], (0.0, 0.0))


def offer_of(going: Going, name: str) -> Offer:
    return going.offered[name].offer


def test_swapped_mask_keys(world: World) -> None:
    for number, changed in enumerate(("key", "commitment", "sealed"), 1):
        going = Going.begin(world, world.task(number))
        swapped = replace(offer_of(going, "s3"), **{changed: EVIL})
        assert refused(shown(going, "s0", swapped), SignatureError) == ("forged", "s3")


def test_a_replayed_offer(world: World) -> None:
    old = Going.begin(world)
    later = Going.begin(world, world.task(number=2))
    assert refused(shown(later, "s0", offer_of(old, "s3"))) == ("round", "s3")
    again = Going.begin(world, world.task(number=2, attempt=1))
    assert refused(shown(again, "s0", offer_of(later, "s3"))) == ("attempt", "s3")


def test_an_offer_of_another_run_or_roster(world: World, tmp_path: Path) -> None:
    going = Going.begin(world)
    other = Going.begin(World(tmp_path / "other"))
    assert refused(shown(going, "s0", offer_of(other, "s3")), SignatureError) == ("forged", "s3")


def test_two_models(world: World) -> None:
    """Pasquini et al. (arXiv 2111.07380): one site gets the model, the others one whose updates are nothing."""
    going, odd = Going(world, world.task(), world.aggregator(world.task())), world.task(content=bytes(32))
    for name in world.names:
        going.offered[name] = world.members[name].offer(odd if name == "s0" else going.task)
        if name != "s0":
            going.aggregator.offer(name, going.offered[name])
    offers = [each.offer for each in going.offered.values()]
    sealed = {name: each.sealed["s0"] for name, each in going.offered.items()}
    reason = refused(lambda: world.members["s0"].mask(odd, offers, sealed, world.updates["s0"]))
    assert reason == ("model", "s1")


def test_two_lists_of_who_takes_part(world: World) -> None:
    """Told of fewer sites, one would weigh more than the others think."""
    short = Task(world.run, 1, 0, MODEL, world.joins[:3])
    offers = {name: world.members[name].offer(short if name == "s0" else world.task()) for name in world.names[:3]}
    given = [each.offer for each in offers.values()]
    sealed = {name: each.sealed["s0"] for name, each in offers.items()}
    assert refused(lambda: world.members["s0"].mask(short, given, sealed, world.updates["s0"])) == ("model", "s1")


def test_an_offer_of_who_is_no_member_or_did_not_join(world: World) -> None:
    going = Going(world, Task(world.run, 1, 0, MODEL, world.joins[:4]), world.aggregator(world.task()))
    offers = [world.members[name].offer(going.task) for name in world.names[:4]]
    sealed = {each.offer.name: each.sealed["s0"] for each in offers}
    outside = replace(offers[3].offer, name="s4").signed(world.keys["s4"], run=world.run, roster=world.roster)
    given = [*(each.offer for each in offers[:3]), outside]
    ask = world.members["s0"].mask
    assert refused(lambda: ask(going.task, given, sealed, world.updates["s0"])) == ("added", "s4")
    world.restart("s0").offer(replace(going.task, attempt=1))
    stranger = replace(offers[3].offer, name="s9", attempt=1)
    assert refused(
        lambda: world.members["s0"].mask(replace(going.task, attempt=1), [stranger], sealed, world.updates["s0"])
    ) == ("added", "s9")


def test_shares_that_do_not_open_or_are_missing(world: World) -> None:
    for attempt, sealed in enumerate(({"s3": bytes(92)}, {"s3": b""}, {"s3": None})):
        going = Going.begin(world, world.task(attempt=attempt))
        given = {**going.sealed_for("s0"), **sealed}
        given = {name: each for name, each in given.items() if each is not None}
        assert refused(shown(going, "s0", sealed=given)) == ("shares", "s3")
    going = Going.begin(world, world.task(attempt=9))
    swapped = {**going.sealed_for("s0"), "s3": going.sealed_for("s1")["s3"]}
    assert refused(shown(going, "s0", sealed=swapped)) == ("shares", "s3")


def test_too_few_offers_and_none_without_its_own(world: World) -> None:
    going = Going.begin(world)
    offers = going.aggregator.offers()
    ask = world.members["s0"].mask
    assert refused(lambda: ask(going.task, offers[1:], going.sealed_for("s0"), world.updates["s0"])) == ("own", "s0")
    again = Going.begin(world, world.task(attempt=1))
    offers = again.aggregator.offers()[:2]
    assert refused(lambda: ask(again.task, offers, again.sealed_for("s0"), world.updates["s0"]))[0] == "few"


def test_a_site_masks_once_and_only_what_it_offered_for(world: World) -> None:
    going = Going.begin(world)
    going.mask("s0")
    assert refused(lambda: going.mask("s0"))[0] == "order"
    other = replace(going.task, content=bytes(32))
    ask = world.members["s1"].mask
    offers = going.aggregator.offers()
    assert refused(lambda: ask(other, offers, going.sealed_for("s1"), world.updates["s1"]))[0] == "order"
    # What it offered is forgotten with its process: it cannot mask it with other numbers.
    world.restart("s2")
    assert refused(lambda: going.mask("s2"))[0] == "order"
    assert refused(lambda: world.members["s2"].offer(going.task))[0] == "attempt"


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_an_update_that_is_not_finite_never_leaves(world: World, odd: float) -> None:
    going = Going.begin(world)
    world.updates["s0"][3] = odd
    with pytest.raises(FederationError, match="the update is not finite"):
        going.mask("s0")
    world.updates["s1"][3] = 0
    with pytest.raises(FederationError, match="a measure to be summed is not finite"):
        going.mask("s1", sums=(odd, 0.0))


# -- sets --------------------------------------------------------------------------------------------------------------


def test_two_sets_of_survivors(world: World) -> None:
    going = Going.begin(world)
    survivors = going.masked(world.names)
    first = going.agree("s0")
    assert refused(lambda: going.agree("s0", survivors[:4])) == ("set", world.run)
    assert going.agree("s0") == first, "the same again is the same"
    world.restart("s0")
    assert refused(lambda: going.agree("s0", survivors[:4])) == ("set", world.run)
    assert going.agree("s0") == first


def test_a_set_without_the_site_with_strangers_or_too_few(world: World) -> None:
    going = Going.begin(world, offering=world.names[:4])
    going.masked(world.names[:4])
    assert refused(lambda: going.agree("s0", world.names[1:4])) == ("set", "s0")
    assert refused(lambda: going.agree("s0", world.names)) == ("set", world.run)
    assert refused(lambda: going.agree("s0", world.names[:2]))[0] == "few"
    assert refused(lambda: going.agree("s0", ["s0", "s1", "s2", "s2"])) == ("twice", "s2")


def test_alive_and_dead_at_once(world: World) -> None:
    """Both shares of a site would open its own masked update: what is given is of the one or of the other, for ever."""
    going = Going.begin(world)
    survivors = going.masked(world.names)
    signatures = going.agreed(survivors)
    given = going.unmask("s0", signatures)
    without = [name for name in survivors if name != "s4"]
    made = agreement(transcript_of(going.task.round, world.roster, going.aggregator.offers()), without)
    # Even were all others to sign that s4 is dead.
    forged = {name: sign_agreement(world.keys[name], made) for name in without}
    assert refused(lambda: going.unmask("s0", forged, without)) == ("set", world.run)
    assert refused(lambda: going.unmask("s0", signatures, [*survivors, "s4"])) == ("set", world.run)
    assert set(given) == set(world.names)
    assert all(len(each) == 32 for each in given.values())
    assert going.unmask("s0", signatures) == given, "a lost reply is answered the same again"
    world.restart("s0")
    assert going.unmask("s0", signatures) == given


def test_too_few_signatures_forged_ones_and_those_of_others(world: World) -> None:
    going = Going.begin(world)
    survivors = going.masked(world.names[:4])
    signatures = {name: going.agree(name) for name in survivors}
    few = dict(list(signatures.items())[:2])
    assert refused(lambda: going.unmask("s0", few)) == ("signatures", world.run)
    swapped = {**signatures, "s1": signatures["s2"]}
    assert refused(lambda: going.unmask("s0", swapped), SignatureError) == ("forged", "s1")
    outside = {**signatures, "s4": signatures["s3"]}
    assert refused(lambda: going.unmask("s0", outside)) == ("signatures", "s4")
    # A site that agreed to nothing helps with nothing, whatever the others signed.
    late = Going.begin(world, world.task(number=2))
    late.masked(world.names)
    signed = {name: late.agree(name) for name in world.names[1:]}
    assert refused(lambda: late.unmask("s0", signed)) == ("set", world.run)


def test_a_repeated_round_with_another_set(world: World) -> None:
    going = Going.begin(world, offering=world.names[:4])
    survivors = going.masked(world.names[:4])
    signatures = going.agreed(survivors)
    first = going.unmask("s0", signatures)
    # The same attempt again, and the round begun anew without one of them, or with one more.
    assert refused(lambda: world.members["s0"].offer(going.task))[0] == "attempt"
    fewer = Task(world.run, 1, 1, MODEL, tuple(each for each in world.joins if each.name != "s3"))
    assert refused(lambda: world.members["s0"].offer(fewer)) == ("set", world.run)
    again = Going.begin(world, world.task(attempt=1))
    again.masked(world.names)
    assert refused(lambda: again.agree("s0")) == ("set", world.run)
    assert refused(lambda: again.agree("s0", ["s0", "s1", "s2"])) == ("set", world.run)
    # Until it agreed anew, the sum of before can still be finished; after that, the new one over the same set alone.
    assert going.unmask("s0", signatures) == first
    assert again.agree("s0", survivors)
    assert refused(lambda: going.unmask("s0", signatures)) == ("set", world.run)


def test_one_site_alone_is_not_sent_a_round_of_before_with_another_model(world: World) -> None:
    """Its stem would be another one then: two sums of a later round, over the same sites, told what that changed."""
    member, validated = world.members["s0"], number_of(VALIDATE, 2)
    for number in (2, validated, 4):
        member.offer(world.task(number=number), "of the round")
    for site in (member, world.restart("s0")):
        for number in (2, validated):
            again = world.task(number=number, attempt=1)
            assert refused(partial(site.check, again, "of its own"))[0] == "model"
            site.check(again, "of the round")
        assert refused(partial(site.check, world.task(number=3), "of its own"))[0] == "round"
        site.check(world.task(number=5), "of the next")
        site.check(world.task(number=number_of(VALIDATE, 1)), "of a measure, which leaves nothing")


def test_a_ledger_of_before_that_names_no_model_is_held_to_the_next(world: World) -> None:
    member = world.members["s0"]
    member.offer(world.task(number=2))
    member.offer(world.task(number=2, attempt=1), "of the round")
    assert refused(partial(member.check, world.task(number=2, attempt=2), "of its own"))[0] == "model"


def test_signatures_of_one_thing_stand_for_nothing_else(world: World) -> None:
    going = Going.begin(world)
    survivors = going.masked(world.names)
    signatures = {name: going.agree(name) for name in survivors}
    posed = {**signatures, "s1": offer_of(going, "s1").signature}
    assert refused(lambda: going.unmask("s0", posed), SignatureError) == ("forged", "s1")
    posed = {**signatures, "s1": world.joins[1].signature}
    assert refused(lambda: going.unmask("s0", posed), SignatureError) == ("forged", "s1")


def test_what_is_sealed_is_what_was_signed(world: World) -> None:
    offered = world.members["s0"].offer(world.task())
    assert sealed_digest(offered.sealed) == offered.offer.sealed
    assert set(offered.sealed) == set(world.names), "its own share too: it keeps none"
    assert {len(each) for each in offered.sealed.values()} == {92}
