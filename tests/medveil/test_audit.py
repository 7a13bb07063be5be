"""The audit log: whatever single thing is done to its lines is found, and where."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil.audit import ZERO, AuditLog, Head, canonical
from medveil.audit_verify import compare, verify
from medveil.errors import FormatError, IntegrityError, StorageError

RECORDS = 6


def written(folder: Path, records: int = RECORDS) -> tuple[Path, list[Head]]:
    path = folder / "audit.jsonl"
    log = AuditLog(path, "site st-anna")
    return path, [log.append("asked", kind="train", round=number) for number in range(records)]


@pytest.fixture(scope="module")
def whole() -> tuple[bytes, list[Head]]:
    with tempfile.TemporaryDirectory() as folder:
        path, heads = written(Path(folder))
        return path.read_bytes(), heads


def problems(data: bytes, heads: list[Head] | None = None) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        path.write_bytes(data)
        found = verify(path)
        compare([found], heads or [], kept_by="the server")
        return found.problems


def named(found: list[str]) -> list[int]:
    return [int(re.match(r"line (\d+): ", each)[1]) for each in found]  # type: ignore[index]


def test_a_record_is_what_a_slow_reading_of_the_formula_makes(tmp_path: Path) -> None:
    path, heads = written(tmp_path)
    before = ZERO
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        record = json.loads(line)
        digest = record.pop("digest")
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == digest
        assert (record["previous"], record["sequence"]) == (before, number)
        before = digest
    assert before == heads[-1].digest
    assert [head.sequence for head in heads] == list(range(2, RECORDS + 2))
    assert verify(path).whole
    assert verify(path).head == heads[-1] == AuditLog(path, "").head()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_in_its_line(whole: tuple[bytes, list[Head]], data: st.DataObject) -> None:
    log, _ = whole
    place = data.draw(st.integers(0, len(log) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda each: each != log[place]))
    line = log[:place].count(b"\n") + 1
    assert line in named(problems(log[:place] + bytes([other]) + log[place + 1 :]))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cut_of_bytes_is_found(whole: tuple[bytes, list[Head]], data: st.DataObject) -> None:
    log, heads = whole
    start = data.draw(st.integers(0, len(log) - 1))
    end = data.draw(st.integers(start + 1, len(log)))
    assert problems(log[:start] + log[end:], heads)
    if end < len(log):
        # Only a cut of whole lines at the end leaves a whole chain.
        assert problems(log[:start] + log[end:])


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_line_moved_put_in_or_taken_out_is_found(whole: tuple[bytes, list[Head]], data: st.DataObject) -> None:
    log, heads = whole
    lines = log.splitlines(keepends=True)
    i = data.draw(st.integers(0, len(lines) - 1))
    j = data.draw(st.integers(0, len(lines)))
    put_in = [*lines[:j], lines[i], *lines[j:]]
    assert min(named(problems(b"".join(put_in)))) >= min(i, j)
    taken = b"".join([*lines[:i], *lines[i + 1 :]])
    if i == len(lines) - 1:
        assert not problems(taken)
        assert named(problems(taken, heads)) == [i + 1]
    else:
        assert i + 1 in named(problems(taken))
    left = [*lines[:i], *lines[i + 1 :]]
    moved = [*left[:j], lines[i], *left[j:]]
    if moved != lines:
        assert problems(b"".join(moved))


@settings(max_examples=50, deadline=None)
@given(start=st.integers(1, RECORDS))
def test_a_log_written_anew_is_whole_by_itself_and_found_by_a_head(whole: tuple[bytes, list[Head]], start: int) -> None:
    log, heads = whole
    records = [json.loads(line) for line in log.splitlines()]
    records[start]["details"] = {"kind": "nothing"}
    for number in range(start, len(records)):
        records[number]["previous"] = records[number - 1]["digest"]
        rest = {name: value for name, value in records[number].items() if name != "digest"}
        records[number]["digest"] = hashlib.sha256(canonical(rest)).hexdigest()
    forged = b"".join(canonical(record) + b"\n" for record in records)
    assert not problems(forged)
    assert named(problems(forged, heads[-1:])) == [RECORDS + 1]
    assert named(problems(forged, heads)) == list(range(start + 1, RECORDS + 2))


def test_another_log_in_its_place_is_found_and_both_together_are_right(tmp_path: Path) -> None:
    path, heads = written(tmp_path)
    moved = path.rename(tmp_path / "old.jsonl")
    path, more = written(tmp_path)
    found = verify(path)
    compare([found], [*heads, *more], kept_by="the server")
    assert named(found.problems) == [1]
    assert heads[0].log in found.problems[0]
    both = [verify(path), verify(moved)]
    compare(both, [*heads, *more], kept_by="the server")
    assert all(each.whole for each in both)


def test_a_torn_line_is_said_and_never_swallowed(tmp_path: Path) -> None:
    path, heads = written(tmp_path)
    log = path.read_bytes()
    path.write_bytes(log[:-20])
    assert named(verify(path).problems) == [RECORDS + 1]
    torn = log.splitlines(keepends=True)[-1][:-20]
    AuditLog(path, "site st-anna").append("asked")
    found = verify(path)
    assert found.whole
    assert found.notes == [f"line {RECORDS + 1}: a write before it was torn off ({len(torn)} bytes)"]
    assert found.records[-2]["details"] == {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
    # Had it been whole before, whoever keeps its head sees that it was cut, not torn.
    compare([found], heads, kept_by="the server")
    assert named(found.problems) == [RECORDS + 1]


def test_nothing_is_added_to_a_log_that_was_tampered_with(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    changed = path.read_bytes()[:-60] + b"x" + path.read_bytes()[-59:]
    path.write_bytes(changed)
    with pytest.raises(IntegrityError, match="was changed"):
        AuditLog(path, "site st-anna").append("asked")
    assert path.read_bytes() == changed


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = written(tmp_path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medveil.audit.os.fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        AuditLog(path, "site st-anna").append("asked")
    assert path.read_bytes() == before


def _add(path: str, times: int) -> None:
    for number in range(times):
        AuditLog(Path(path), "site st-anna").append("asked", number=number)


def test_processes_that_share_a_log_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    adding = [context.Process(target=_add, args=(str(path), 15)) for _ in range(3)]
    for each in adding:
        each.start()
    for each in adding:
        each.join()
    found = verify(path)
    assert found.whole
    assert len(found.records) == 46


def test_heads_are_read_as_they_are_written_and_newer_logs_are_refused(tmp_path: Path) -> None:
    path, heads = written(tmp_path)
    assert Head.parse(str(heads[0])) == heads[0]
    for text in ("", "1:2", f"{heads[0]}x", None, 7):
        with pytest.raises(FormatError):
            Head.parse(text)
    first = json.loads(path.read_bytes().splitlines()[0])
    first["details"]["version"] = 2
    del first["digest"]
    first["digest"] = hashlib.sha256(canonical(first)).hexdigest()
    path.write_bytes(canonical(first) + b"\n")
    with pytest.raises(FormatError, match="upgrade MedVeil"):
        verify(path)
