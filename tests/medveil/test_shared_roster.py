"""The roster sites approve: its digest names one list of identities and no other; what is no roster is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil.errors import ConfigError, FormatError, IntegrityError, MedVeilError
from medveil.secagg.roster import FORMAT, Roster, load_roster
from medveil.signing import SigningKey

NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus")
KEYS = {name: SigningKey.from_secret(bytes([i]) * 32).public for i, name in enumerate(NAMES, 1)}


def roster(count: int = 3, colluding: int = 0) -> Roster:
    return Roster({name: KEYS[name] for name in NAMES[:count]}, colluding)


def test_the_digest_is_that_of_the_other_implementation() -> None:
    # ../shared/reference/secagg/vectors.json
    assert roster().fingerprint == "d644bc2b867d5b6675ce2ad04441821f4239560acc0e9257d6cb36402752e1e9"


def test_any_change_is_another_roster() -> None:
    known = roster(4, 1)
    others = [
        roster(5, 1),
        roster(4, 0),
        Roster({**known.members, "dan": KEYS["eve"]}, 1),
        Roster({**{name: KEYS[name] for name in NAMES[:3]}, "dam": KEYS["dan"]}, 1),
        Roster({**known.members, "ada": KEYS["bob"], "bob": KEYS["ada"]}, 1),
    ]
    assert len({each.digest for each in [known, *others]}) == 6
    assert Roster(dict(reversed(known.members.items())), 1).digest == known.digest, "the order of a file is nothing"


@pytest.mark.parametrize(
    ("sites", "colluding", "threshold", "fewest"),
    [(3, 0, 2, 3), (3, 1, 3, 3), (4, 0, 3, 3), (4, 2, 4, 4), (5, 1, 4, 4), (7, 0, 4, 4), (7, 5, 7, 7)],
)
def test_thresholds_are_those_against_an_active_server(sites: int, colluding: int, threshold: int, fewest: int) -> None:
    made = roster(sites, colluding)
    assert (made.threshold, made.fewest) == (threshold, fewest)
    assert 2 * made.threshold > sites + colluding >= 2 * (made.threshold - 1)


def test_what_cannot_be_a_roster() -> None:
    for members, colluding, words in (
        ({"ada": KEYS["ada"], "bob": KEYS["bob"]}, 0, "has 2 sites; 3 to 1000"),
        (dict.fromkeys(NAMES[:3], KEYS["ada"]), 0, "one identity under two names"),
        ({**roster().members, "../up": KEYS["dan"]}, 0, "cannot name a site"),
        ({**roster().members, "dan": "AAAA"}, 0, "roster, dan: has no identity"),
        ({**roster().members, "dan": ""}, 0, "roster, dan: has no identity"),
        (dict(roster().members), 2, "colluding: no threshold can stand so many colluding sites; 0 to 1 of 3"),
        (dict(roster().members), -1, "0 to 1 of 3"),
    ):
        with pytest.raises(ConfigError, match=words):
            Roster(members, colluding)


def test_a_roster_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = roster(5, 1)
    made.save(tmp_path / "roster.json")
    assert load_roster(tmp_path / "roster.json") == made


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"format": "medveil-roster"}, FormatError, f"is not a {FORMAT} file"),
        ({"version": 2}, FormatError, "version 2"),
        ({"sites": []}, IntegrityError, "'sites'"),
        ({"sites": {"ada": 1}}, IntegrityError, "'sites.ada'"),
        ({"sites": {}}, IntegrityError, "has 0 sites"),
        ({"colluding": True}, IntegrityError, "'colluding'"),
        ({"colluding": 10**30}, IntegrityError, "'colluding'"),
        ({"colluding": 9}, IntegrityError, "no threshold"),
    ],
)
def test_what_is_no_file_of_a_roster(
    tmp_path: Path, changes: dict[str, Any], kind: type[MedVeilError], words: str
) -> None:
    path = tmp_path / "roster.json"
    roster().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(kind, match=words):
        load_roster(path)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_roster_or_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    with pytest.raises(MedVeilError):
        load_roster(path)
