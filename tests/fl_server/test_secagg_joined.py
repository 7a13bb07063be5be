"""What a site signs before a run decides what it is of the sum: absurd numbers and foreign keys are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fl_server.rows import SiteRow
from fl_server.secagg.joined import check_joined, joins_of
from medveil.errors import FederationError
from medveil.secagg.members import join
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

KEYS = {f"s{i}": SigningKey.from_secret(bytes([i + 1]) * 32) for i in range(4)}
BASE_POINT = (9).to_bytes(32, "little")
ROSTER = Roster({name: key.public for name, key in KEYS.items()}, 0)


def row(name: str, examples: int, *, run: str = "run", key: bytes = BASE_POINT) -> SiteRow:
    made = join(KEYS[name], run=run, roster=ROSTER, name=name, examples=examples, key=key)
    blank = dict.fromkeys(("model_hash", "scheme", "fingerprint", "version"), "")
    counts = dict.fromkeys(("n_validation", "n_test", "skipped", "block", "derivation"), 0)
    lists = {"classes": [], "counts": [], "missing": []}
    return SiteRow(node=1, site=name, n_train=examples, negate=False, join=made, **blank, **counts, **lists)


def test_who_signed_with_a_key_of_the_run_can_be_in_a_sum() -> None:
    check_joined(row("s0", 20), ROSTER, run="run")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (replace(row("s0", 20), join=None), "s0: signed no key that updates could be masked with; it runs this"),
        (row("s0", 20, key=b""), "s0: signed no key"),
        (row("s0", 20, key=bytes(32)), "s0: signed a key that nobody can agree on"),
        (row("s0", 20, run="another"), "s0: did not sign that it takes part in this run"),
        (row("s0", 10**12 + 1), "s0: signed for more images than any site has; at most 1000000000000"),
    ],
)
def test_who_cannot_be_is_named(found: SiteRow, says: str) -> None:
    with pytest.raises(FederationError, match=says):
        check_joined(found, ROSTER, run="run")


def test_a_number_of_images_that_would_be_the_whole_sum_is_refused() -> None:
    honest = [row(name, 100) for name in ("s0", "s1", "s2")]
    assert [each.examples for each in joins_of([*honest, row("s3", 300)], most_share=0.5)] == [100, 100, 100, 300]
    with pytest.raises(FederationError, match=r"s3: signed for 100 % of all images, .*server.most_share above 0.5"):
        joins_of([*honest, row("s3", 10**9)], most_share=0.5)
    assert joins_of([*honest, row("s3", 10**9)], most_share=1.0)
