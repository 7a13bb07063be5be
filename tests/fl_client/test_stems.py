from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crypto.keys import SimulatedKey
from fl_client.stems import KEPT, StemVault
from medveil.errors import FederationError, FormatError, IntegrityError, StorageError

RUN = "11111111-2222-3333-4444-555555555555"


def vault(folder: Path, *, seed: int = 0, run: str = RUN) -> StemVault:
    return StemVault(folder, run=run, subkey=SimulatedKey(seed, "site-1").subkey("state"))


def stem(value: float) -> dict[str, Tensor]:
    return {
        "pos_embed": torch.full((1, 3, 2), float(value)),
        "patch_embed.proj.weight": torch.full((2, 1, 2, 2), -float(value)),
    }


def loaded(found: tuple[int, dict[str, Tensor]] | None) -> tuple[int, float]:
    assert found is not None
    return found[0], float(found[1]["pos_embed"][0, 0, 0])


def test_training_starts_from_the_newest_stem_of_a_round_before(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    assert kept.load(before=1) is None
    for round_ in (0, 1, 2):
        kept.save(round_, stem(round_))
    assert loaded(kept.load(before=1)) == (0, 0.0)
    assert loaded(kept.load(before=2)) == (1, 1.0)
    assert loaded(kept.load(before=9)) == (2, 2.0)
    found = kept.load(before=3)
    assert found is not None
    assert {name: tensor.shape for name, tensor in found[1].items()} == {n: t.shape for n, t in stem(2).items()}


def test_three_are_kept_and_a_repeated_round_replaces_its_own(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    for round_ in range(6):
        kept.save(round_, stem(round_))
    assert kept.rounds() == [3, 4, 5]
    assert len(kept.rounds()) == KEPT
    kept.save(5, stem(55))
    assert kept.rounds() == [3, 4, 5]
    assert loaded(kept.load(before=6)) == (5, 55.0)


def test_a_round_too_far_back_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    for round_ in range(6):
        kept.save(round_, stem(round_))
    with pytest.raises(IntegrityError, match="holds rounds 3 to 5, none before 2"):
        kept.load(before=2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_and_the_old_stay(tmp_path: Path, bad: float) -> None:
    kept = vault(tmp_path)
    kept.save(1, stem(1))
    spoiled = stem(2)
    spoiled["pos_embed"][0, 1, 1] = bad
    with pytest.raises(FederationError, match="'pos_embed' of round 2 is not finite"):
        kept.save(2, spoiled)
    with pytest.raises(FederationError):
        kept.save(1, spoiled)
    assert kept.rounds() == [1]
    assert loaded(kept.load(before=3)) == (1, 1.0)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-7], lambda data: data[:20], lambda data: b"", lambda data: b"x" * 99]
)
def test_a_damaged_newest_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    kept = vault(tmp_path)
    for round_ in (1, 2):
        kept.save(round_, stem(round_))
    path = kept.folder / "round-0002.sealed"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert loaded(kept.load(before=3)) == (1, 1.0)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(path) in said
    assert "using the one before it" in said


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    kept.save(1, stem(1))
    path = kept.folder / "round-0001.sealed"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"round-0001\.sealed: wrong key or changed file"):
        kept.load(before=2)


def test_another_key_another_run_and_another_round_do_not_open(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    kept.save(1, stem(1))
    with pytest.raises(IntegrityError, match="wrong key or changed file"):
        vault(tmp_path, seed=1).load(before=2)
    other = "99999999-2222-3333-4444-555555555555"
    (tmp_path / RUN).rename(tmp_path / other)
    with pytest.raises(IntegrityError):
        vault(tmp_path, run=other).load(before=2)
    (tmp_path / other).rename(tmp_path / RUN)
    (kept.folder / "round-0001.sealed").rename(kept.folder / "round-0000.sealed")
    with pytest.raises(IntegrityError):
        kept.load(before=2)


def test_a_newer_version_is_named(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    kept.save(1, stem(1))
    path = kept.folder / "round-0001.sealed"
    data = path.read_bytes()
    at = next(i for i, byte in enumerate(data) if byte == 1)
    path.write_bytes(data[:at] + b"\x09" + data[at + 1 :])
    with pytest.raises(FormatError, match="version 9"):
        kept.load(before=2)


def test_a_full_disk_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = vault(tmp_path)
    kept.save(1, stem(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left"):
            kept.save(2, stem(2))
    assert [each.name for each in kept.folder.iterdir()] == ["round-0001.sealed"]
    assert loaded(kept.load(before=3)) == (1, 1.0)


def test_nothing_is_readable_by_others_and_nothing_is_plain(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    kept.save(1, stem(1.5))
    path = kept.folder / "round-0001.sealed"
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    assert b"pos_embed" not in path.read_bytes()


def test_the_stem_of_a_round_that_may_be_wanted_again_stays(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    for round_, keep in ((0, None), (1, None), (2, 1), (4, 3), (5, 3), (6, 3), (7, 3)):
        kept.save(round_, stem(round_), keep=keep)
    # The model after round 3, which this site sat out, has the stem of round 2.
    assert kept.rounds() == [2, 5, 6, 7]
    assert loaded(kept.load(before=4)) == (2, 2.0)
    kept.save(8, stem(8), keep=7)
    assert kept.rounds() == [6, 7, 8]
