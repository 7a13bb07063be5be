"""The ledger of a site: sealed, whole or as before, and never another set for a round that has one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives import serialization

from fl_client.secagg.ledger import SUFFIX, Ledger, Opened, end_former
from medveil.errors import AggregationError, IntegrityError, MedVeilError, StorageError

RUN, SUBKEY = "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", bytes(range(32))
FIRST, SECOND = bytes(32), bytes([1]) * 32
THREE = ["s0", "s1", "s2"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "secagg.sealed"


def ledger(path: Path, run: str = RUN, subkey: bytes = SUBKEY) -> Ledger:
    return Ledger(path, run=run, subkey=subkey)


def agreed(path: Path) -> Ledger:
    made = ledger(path)
    made.offering(3, 0)
    made.masking(3, 0, FIRST)
    made.agreeing(3, FIRST, ["s2", "s0", "s1"])
    return made


def raw(found: Ledger) -> bytes:
    key = found.seal_key()
    return key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())


def test_what_was_agreed_outlives_the_process(path: Path) -> None:
    agreed(path)
    assert ledger(path).of(3) == Opened(0, FIRST.hex(), FIRST.hex(), ("s0", "s1", "s2"))
    assert ledger(path).of(2) is None
    ledger(path).agreeing(3, FIRST, THREE)
    with pytest.raises(AggregationError, match="agreed to another set of sites in round 3") as refused:
        ledger(path).agreeing(3, FIRST, THREE[:2])
    assert refused.value.reason == "set"
    again = ledger(path)
    again.offering(3, 1)
    again.masking(3, 1, SECOND)
    with pytest.raises(AggregationError, match="another set"):
        again.agreeing(3, SECOND, [*THREE, "s3"])
    again.agreeing(3, SECOND, THREE)
    assert ledger(path).of(3) == Opened(1, SECOND.hex(), SECOND.hex(), ("s0", "s1", "s2"))


def test_steps_out_of_order(path: Path) -> None:
    found = ledger(path)
    for step in (lambda: found.masking(1, 0, FIRST), lambda: found.agreeing(1, FIRST, THREE)):
        with pytest.raises(AggregationError) as refused:
            step()
        assert refused.value.reason == "order"
    found.offering(1, 2)
    for attempt in (2, 1, 0, -1):
        with pytest.raises(AggregationError) as refused:
            found.offering(1, attempt)
        assert refused.value.reason == "attempt"
    with pytest.raises(AggregationError):
        found.masking(1, 1, FIRST)
    found.masking(1, 2, FIRST)
    with pytest.raises(AggregationError):
        found.masking(1, 2, SECOND)
    with pytest.raises(AggregationError):
        found.agreeing(1, SECOND, THREE)
    assert found.of(1) == Opened(2, FIRST.hex())


def test_the_file_is_sealed_and_its_owners_alone(path: Path) -> None:
    secret = raw(agreed(path))
    data = path.read_bytes()
    for plain in (b"s0", b"survivors", RUN.encode(), secret, secret.hex().encode(), FIRST.hex().encode()):
        assert plain not in data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for other in (ledger(path, run=RUN[::-1]), ledger(path, subkey=bytes(32))):
        with pytest.raises(IntegrityError, match="wrong key or changed file"):
            other.of(3)
    for cut in (data[:-1], data[:40], data[:-1] + bytes([data[-1] ^ 1]), b""):
        path.write_bytes(cut)
        for step in (
            lambda: ledger(path).of(3),
            lambda: ledger(path).offering(4, 0),
            lambda: ledger(path).agreeing(3, FIRST, THREE[:2]),
            lambda: ledger(path).seal_key(),
        ):
            with pytest.raises(MedVeilError, match=r"secagg\.sealed"):
                step()
        assert path.read_bytes() == cut, "a damaged ledger is never begun anew"


@pytest.mark.parametrize("dies_at", ["replace", "fsync"])
def test_a_site_killed_while_it_writes_has_the_old_ledger_or_the_new(
    path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    found = ledger(path)
    found.offering(3, 0)
    found.masking(3, 0, FIRST)

    class Killed(BaseException):
        pass

    def die(*given: object, **more: object) -> NoReturn:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, dies_at, die)
        with pytest.raises(Killed):
            found.agreeing(3, FIRST, THREE)
    # Nothing was signed, and nothing is known of it: either set may still be the one.
    assert ledger(path).of(3) == Opened(0, FIRST.hex())
    ledger(path).agreeing(3, FIRST, THREE[:2])
    with pytest.raises(AggregationError, match="another set"):
        ledger(path).agreeing(3, FIRST, THREE)


def test_a_disk_that_refuses_is_an_error_of_ours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = agreed(path)

    def full(*given: object, **more: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError):
        found.offering(4, 0)


def test_the_key_of_a_run_stays_until_it_ends_and_then_is_gone(path: Path) -> None:
    first = raw(agreed(path))
    assert raw(ledger(path)) == first
    ledger(path).end()
    for found in (ledger(path), ledger(path)):
        with pytest.raises(AggregationError, match="the run has ended at this site"):
            found.seal_key()
    assert ledger(path).of(3) == Opened(0, FIRST.hex(), FIRST.hex(), ("s0", "s1", "s2")), "the sets stay"
    other = path.with_name("other.sealed")
    ledger(other).end()
    with pytest.raises(AggregationError, match="has ended"):
        ledger(other).seal_key()


def test_a_rotated_key_reads_ledgers_of_before_and_keeps_no_site_out_of_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rotated, runs = bytes(32), [f"{number}{RUN[1:]}" for number in range(3)]
    for run in runs:
        raw(ledger(tmp_path / f"{run}{SUFFIX}", run))
    (tmp_path / f"{runs[0]}{SUFFIX}").write_bytes(b"damaged")
    end_former(tmp_path, subkey=rotated, former=[SUBKEY], keep=0)
    assert caplog.text.count("the key of a former run is not erased") == 1
    for run in runs[1:]:
        with pytest.raises(AggregationError, match="the run has ended at this site"):
            Ledger(tmp_path / f"{run}{SUFFIX}", run=run, subkey=rotated).seal_key()
    path = tmp_path / "other" / f"{RUN}{SUFFIX}"
    agreed(path)
    with pytest.raises(AggregationError, match="agreed to another set"):
        Ledger(path, run=RUN, subkey=rotated, former=[SUBKEY]).agreeing(3, FIRST, THREE[:2])
