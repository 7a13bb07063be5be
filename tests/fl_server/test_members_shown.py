"""The server shows every site what the others signed, unchanged; whoever signed something else takes no part."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord

from medveil.errors import FederationError
from medveil.secagg.members import MEMBER, MEMBERS, join, members_in
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

KEYS = {f"site-{i}": SigningKey.from_secret(bytes([i]) * 32) for i in (1, 2, 3)}
ROSTER = Roster({name: key.public for name, key in KEYS.items()})


def signing(world, names, **changes):
    """Sites that approved a roster; `changes` are of the record each sends."""
    joins = []
    for site in (each for each in world.sites if each.name in names):
        made = join(KEYS[site.name], run=world.run.run, roster=ROSTER, name=site.name, examples=site.examples)
        joins.append(made)

        def answers(kind, round_, content, made=made):
            if kind == "query":
                content[MEMBER] = ConfigRecord({**made.as_record(), **changes})
            return content

        site.answers = answers
    return joins


@pytest.fixture
def sent(make_world):
    """A world of three sites, and all messages that the server sends them."""
    world, messages = make_world(3, rounds=1), []
    push = world.grid.push_messages

    def pushing(given):
        given = list(given)
        messages.extend((each.metadata.message_type, each.content) for each in given)
        return push(given)

    world.grid.push_messages = pushing
    return world, messages


def test_every_site_is_shown_what_all_signed(sent):
    world, messages = sent
    joins = signing(world, list(KEYS))
    world.federate()
    shown = [members_in(dict(content[MEMBERS])) for kind, content in messages if kind == "train"]
    assert shown == [joins] * 3
    assert not [kind for kind, content in messages if kind != "train" and MEMBERS in content]
    assert "join" not in str(world.manifest()["sites"])


def test_sites_without_a_roster_are_shown_nothing(sent):
    world, messages = sent
    world.federate()
    assert not [kind for kind, content in messages if MEMBERS in content]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"examples": 21}, "site-2: 'n-train' is 20; wanted the number it signed for the other sites"),
        ({"examples": "many"}, "site-2: its record 'member' is not what it should be"),
        ({"more": 1}, "site-2: its record 'member' is not what it should be"),
    ],
)
def test_a_site_that_signs_something_else_takes_no_part(sent, changes, text):
    world, _ = sent
    signing(world, ["site-2"], **changes)
    with pytest.raises(FederationError, match=text):
        world.federate()
