from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from crypto import keyfile
from crypto.keyfile import inspect_key, load_keyring, rotate_key, save_key
from crypto.keyring import MOST_KEYS
from crypto.keys import SiteKey
from medveil import files
from medveil.errors import IntegrityError, KeyMaterialError, MedVeilError, StorageError
from medveil.files import locked

PASSPHRASE = "five words or more: café"
OTHER = "correct horse battery staple"

pytestmark = pytest.mark.usefixtures("cheap_scrypt")


@pytest.fixture
def key() -> SiteKey:
    return SiteKey.generate("mercy")


@pytest.fixture
def path(tmp_path: Path, key: SiteKey) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    save_key(folder / "mercy.key", key, PASSPHRASE)
    return folder / "mercy.key"


def secrets_in(path: Path, passphrase: str = PASSPHRASE) -> list[bytes]:
    return [key.secret for key in load_keyring(path, passphrase)]


def test_rotation_keeps_the_old_key_and_the_passphrase(path: Path, key: SiteKey) -> None:
    created = inspect_key(path)["created"]
    ring = rotate_key(path, PASSPHRASE)
    assert secrets_in(path) == [each.secret for each in ring]
    assert [each.secret for each in ring.retired] == [key.secret]
    assert ring.current.secret != key.secret
    seen = inspect_key(path)
    assert (seen["fingerprint"], seen["retired"]) == (ring.current.fingerprint, [key.fingerprint])
    loaded = load_keyring(path, PASSPHRASE)
    assert loaded.dates_of(loaded.retired[0]).created == created
    assert loaded.dates_of(loaded.retired[0]).retired == seen["created"]


def test_rotation_can_change_the_passphrase(path: Path, key: SiteKey) -> None:
    rotate_key(path, PASSPHRASE, new_passphrase=OTHER)
    assert secrets_in(path, OTHER)[1:] == [key.secret]
    with pytest.raises(KeyMaterialError, match="wrong passphrase"):
        load_keyring(path, PASSPHRASE)


def test_an_empty_new_passphrase_leaves_the_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(KeyMaterialError, match="empty"):
        rotate_key(path, PASSPHRASE, new_passphrase="")
    assert path.read_bytes() == before


def test_a_file_of_version_1_becomes_one_of_version_2(tmp_path: Path, fixtures: Path) -> None:
    old = tmp_path / "old.key"
    old.write_bytes((fixtures / "mercy-version-1.key").read_bytes())
    rotate_key(old, PASSPHRASE)
    assert inspect_key(old)["version"] == 2
    ring = load_keyring(old, PASSPHRASE)
    assert [each.secret for each in ring.retired] == [bytes(range(32))]
    assert ring.dates_of(ring.retired[0]).created == "2026-11-24T10:53:27Z"


def test_a_full_ring_stays_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(MOST_KEYS - 1):
        rotate_key(path, PASSPHRASE)
    assert len(secrets_in(path)) == MOST_KEYS
    before = path.read_bytes()
    with pytest.raises(KeyMaterialError, match=f"holds {MOST_KEYS} keys already"):
        rotate_key(path, PASSPHRASE)
    assert path.read_bytes() == before


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("change", "passphrase", "kind"),
    [
        (lambda _: None, OTHER, KeyMaterialError),
        (spoil, PASSPHRASE, IntegrityError),
        (lambda path: path.unlink(), PASSPHRASE, StorageError),
    ],
)
def test_what_cannot_be_opened_is_not_rotated(
    path: Path, change: Callable[[Path], None], passphrase: str, kind: type[MedVeilError]
) -> None:
    change(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(kind):
        rotate_key(path, passphrase)
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_link_stays_a_link(path: Path, tmp_path: Path, key: SiteKey) -> None:
    link = tmp_path / "link.key"
    link.symlink_to(path)
    rotate_key(link, PASSPHRASE)
    assert link.is_symlink()
    assert secrets_in(path)[1:] == [key.secret]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_permissions_stay(path: Path, mode: int) -> None:
    path.chmod(mode)
    rotate_key(path, PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_only_the_owner_rotates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(StorageError, match="belongs to another user"):
        rotate_key(path, PASSPHRASE)
    assert path.read_bytes() == before


def test_two_rotations_at_once_are_one(path: Path) -> None:
    before = path.read_bytes()
    with locked(path), pytest.raises(StorageError, match="is in use by another process"):
        rotate_key(path, PASSPHRASE)
    assert path.read_bytes() == before


# --- whatever happens, the old keys or all of the new ones -----------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "open", "replace"])
def test_a_disk_that_refuses_leaves_the_old_file_alone(path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(StorageError, match="no space left on device"):
        rotate_key(path, PASSPHRASE)
    monkeypatch.undo()
    assert path.read_bytes() == before
    # Where nothing opens there is no lock either.
    assert {each.name for each in path.parent.iterdir()} - {"mercy.key.lock"} == {"mercy.key"}


def rotate_and_die(path: Path, line: int) -> bool:
    """Rotate in a child that kills itself (SIGKILL) before the given line of Python below `write_json`; True if so."""
    child = os.fork()
    if child == 0:
        try:
            _rotate_until(path, line)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in {0, signal.SIGKILL}
    return status == signal.SIGKILL


def _rotate_until(path: Path, line: int) -> None:
    left = line

    def die() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _rotate_line_by_line(path, die)


def _rotate_line_by_line(path: Path, reached: Callable[[], None]) -> None:
    """Rotate, calling back before each line of Python below `write_json`."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        # Turning the document into text touches no file, and is thousands of lines.
        if frame.f_globals.get("__name__", "").startswith("json"):
            return None
        if event == "line":
            reached()
        return trace

    write_json = keyfile.write_json

    def traced(*arguments: Any, **named: Any) -> None:
        sys.settrace(trace)
        write_json(*arguments, **named)
        sys.settrace(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyfile, "write_json", traced)
        rotate_key(path, PASSPHRASE)


def test_at_any_line_the_file_holds_the_old_keys_or_all_of_the_new(path: Path, key: SiteKey) -> None:
    first, held = path.read_bytes(), []
    _rotate_line_by_line(path, lambda: held.append(path.read_bytes()))
    held.append(path.read_bytes())
    assert len(held) > 100
    assert held[0] == first != held[-1]
    assert len(set(held)) == 2
    assert secrets_in(path)[1:] == [key.secret]


def test_a_kill_leaves_the_old_keys_or_all_of_the_new(path: Path, key: SiteKey) -> None:
    first = path.read_bytes()
    seen: set[int] = set()
    line = parts = 0
    while True:
        path.write_bytes(first)
        died = rotate_and_die(path, line)
        parts += len(list(path.parent.glob(".mercy.key.*.part")))
        secrets = secrets_in(path)
        seen.add(len(secrets))
        assert secrets == [key.secret] or secrets[1:] == [key.secret]
        if not died:
            break
        # The test above looks at every line.
        line += 5
    assert seen == {1, 2}
    # Some of the killed left a part behind, and the next rotation removed it, but no other file's.
    assert parts > 2
    others = [".county.key.abcd_123.part", ".mercy.key.old.abcd_123.part"]
    for other in others:
        (path.parent / other).touch()
    rotate_key(path, PASSPHRASE)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        *others,
        "mercy.key",
        "mercy.key.lock",
    ]
