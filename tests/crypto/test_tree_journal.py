from __future__ import annotations

import dataclasses
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree.index import Index
from crypto.tree.journal import Journal, read_journal
from crypto.tree.manifest import read_manifest, write_manifest
from crypto.tree.paths import folded
from crypto.tree.records import (
    Heading,
    Marks,
    Record,
    heading_of,
    parse_heading,
    parse_record,
    read_heading,
    record_line,
)
from crypto.tree.walk import Stamp
from medveil.errors import FormatError, IntegrityError, MedVeilError, StorageError
from medveil.plain import shown

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
MARKS = Marks(KEY)
HEADING = heading_of("encrypt", KEY, Recipe(purpose="archive"))


def record(name: str, **more: object) -> Record:
    made = Record(source=name, target=f"{name}.png", kind="png", frames=1, size=5, stamp="0" * 64, digest="1" * 64)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


RECORDS = [record("a"), record("sub/b", warnings=("look",)), record("bad\udcff\n", removed=("EXIF", "GPS"))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Journal(tmp_path / "journal", HEADING, MARKS) as made:
        made.add(RECORDS[:1])
        made.add(RECORDS[1:])
    return tmp_path / "journal"


def test_a_journal_gives_its_records_back(path: Path) -> None:
    assert list(read_journal(path, MARKS)) == RECORDS
    assert read_heading(path) == HEADING
    with Journal(path, HEADING, MARKS) as made:
        made.add([record("d")])
    assert list(read_journal(path, MARKS)) == [*RECORDS, record("d")]


def test_a_journal_cut_at_any_byte_keeps_what_is_whole_and_can_be_appended_to(path: Path) -> None:
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for length in sorted({*range(ends[0], len(whole), 17), *ends[:-1], *(end - 1 for end in ends[1:])}):
        path.write_bytes(whole[:length])
        kept = sum(end <= length for end in ends[1:])
        assert list(read_journal(path, MARKS, mend=False)) == RECORDS[:kept]
        assert path.stat().st_size == length
        assert list(read_journal(path, MARKS)) == RECORDS[:kept]
        with Journal(path, HEADING, MARKS) as made:
            made.add([record("d")])
        assert list(read_journal(path, MARKS)) == [*RECORDS[:kept], record("d")]


def test_zeros_at_the_end_as_a_crash_leaves_them_are_cut(path: Path) -> None:
    whole = path.read_bytes()
    for more in (bytes(4096), b"\n\n\n", b'{"half": \n' + bytes(9)):
        path.write_bytes(whole + more)
        assert list(read_journal(path, MARKS)) == RECORDS
        assert path.read_bytes() == whole


def test_a_line_damaged_in_the_middle_is_no_crash(path: Path) -> None:
    data = path.read_bytes()
    second = data.index(b"sub/b")
    path.write_bytes(data[:second] + b"X" + data[second + 1 :])
    with pytest.raises(IntegrityError, match="its line 3 is damaged"):
        list(read_journal(path, MARKS))


def test_lines_of_another_key_count_for_nothing(path: Path) -> None:
    other = Marks(SiteKey.generate("other"))
    assert list(read_journal(path, other, mend=False)) == []


@pytest.mark.parametrize("field", ["source", "target", "kind", "frames", "size", "stamp", "digest", "mac", "removed"])
def test_every_field_of_a_record_is_proven(field: str) -> None:
    document = json.loads(record_line(RECORDS[2], MARKS))
    document[field] = 7 if isinstance(document[field], int) else "x"
    assert parse_record(json.dumps(document).encode(), MARKS) is None
    del document[field]
    assert parse_record(json.dumps(document).encode(), MARKS) is None


@given(st.builds(record, st.text(), frames=st.integers(), size=st.integers(), removed=st.lists(st.text()).map(tuple)))
@settings(max_examples=50, deadline=None)
def test_any_record_comes_back(made: Record) -> None:
    line = record_line(made, MARKS)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert parse_record(line, MARKS) == made


@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_no_record_and_no_heading(data: bytes) -> None:
    assert parse_record(data, MARKS) is None
    with pytest.raises(MedVeilError):
        parse_heading(data, where=Path("x"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["mac", "format"]), inner),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=60, deadline=None)
def test_any_json_is_no_record_and_no_heading(document: object) -> None:
    data = json.dumps(document).encode()
    assert parse_record(data, MARKS) is None
    with pytest.raises(MedVeilError):
        parse_heading(data, where=Path("x"))


def test_deep_json_is_refused() -> None:
    assert parse_record(b"[" * 100000, MARKS) is None
    with pytest.raises(IntegrityError):
        parse_heading(b"[" * 100000, where=Path("x"))


def test_newer_and_foreign_headings_are_refused(tmp_path: Path) -> None:
    newer = json.loads(HEADING.line()) | {"version": 2}
    for data, kind, says in (
        (json.dumps(newer).encode(), FormatError, "version 2; this MedVeil reads up to 1"),
        (b'{"format": "other", "version": 1}', FormatError, "is not a medveil-manifest file"),
        (b'{"format": "medveil-manifest", "version": 1}', IntegrityError, "first line is damaged"),
        (b"", IntegrityError, "first line is damaged"),
    ):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(kind, match=says):
            read_heading(tmp_path / "x")
    assert read_heading(tmp_path / "gone") is None
    with pytest.raises(StorageError):
        read_heading(tmp_path)


def test_old_headings_are_still_read(tmp_path: Path) -> None:
    line = b'{"action":"encrypt","fingerprint":"ab","format":"medveil-manifest","recipe":{},"version":1}\n'
    assert parse_heading(line, where=tmp_path) == Heading(action="encrypt", fingerprint="ab", recipe={})


# --- the manifest


def manifest(path: Path, records: list[Record]) -> Path:
    write_manifest(path, HEADING, (record_line(each, MARKS) for each in records), MARKS)
    return path


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_manifest_gives_its_records_back(tmp_path: Path, n: int) -> None:
    path = manifest(tmp_path / "m", RECORDS[:n])
    assert list(read_manifest(path, RING)) == RECORDS[:n]


def test_the_mac_of_a_manifest_is_the_one_described(tmp_path: Path) -> None:
    *body, last = manifest(tmp_path / "m", RECORDS).read_bytes().splitlines(keepends=True)
    made = hmac.new(KEY.subkey("mac", "manifest"), b"manifest\0" + b"".join(body), "sha256").hexdigest()
    assert json.loads(last) == {"files": 3, "mac": made}


@pytest.fixture(scope="session")
def whole_manifest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = manifest(tmp_path_factory.mktemp("manifest") / "m", RECORDS)
    return path, path.read_bytes()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_mutated_manifest_is_refused(whole_manifest: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = whole_manifest
    at = data.draw(st.integers(0, len(whole) - 1))
    removed = data.draw(st.integers(0, 40))
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=40)) + whole[at + removed :])
    if path.read_bytes() == whole:
        return
    with pytest.raises(MedVeilError):
        list(read_manifest(path, RING))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_mutated_journal_gives_only_records_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated-journal"
    whole = HEADING.line() + b"".join(record_line(each, MARKS) for each in RECORDS)
    at = data.draw(st.integers(0, len(whole) - 1))
    removed = data.draw(st.integers(0, 40))
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=40)) + whole[at + removed :])
    found: list[Record] = []
    try:
        read_heading(path)
        found.extend(read_journal(path, MARKS))
    except MedVeilError:
        pass
    assert all(each in RECORDS for each in found)


# --- marks, names and the index


def test_marks_of_one_use_are_no_marks_of_another(tmp_path: Path) -> None:
    stamp = Stamp(5, 7)
    (tmp_path / "f").write_bytes(b"5 7")
    subkey = KEY.subkey("mac", "manifest")
    assert MARKS.stamp(stamp) == hmac.new(subkey, b"stamp\0005 7", "sha256").hexdigest()
    assert MARKS.file(tmp_path / "f") == hmac.new(subkey, b"file\0005 7", "sha256").hexdigest()
    assert len({MARKS.stamp(stamp), MARKS.file(tmp_path / "f"), MARKS.record(b"5 7")}) == 3


def test_names_are_printed_so_that_nothing_speaks_to_the_terminal() -> None:
    assert shown("plain Zürich.png") == "plain Zürich.png"
    assert shown("a\x1b[2Jb\n\udcff\u202e") == r"a\x1b[2Jb\n\udcff\u202e"


def test_names_fold_as_disks_fold_them() -> None:
    assert folded("STRASSE/É.PNG") == folded("straße/e\u0301.png")
    assert folded("a\udcff") == "a\udcff"


def test_the_index_remembers_takes_and_forgets() -> None:
    with Index(MARKS) as index:
        for each in RECORDS:
            index.add(each)
        assert [index.find(each.target) for each in RECORDS] == RECORDS
        index.see("a.png")
        assert {each.target for each in index.unseen()} == {"sub/b.png", "bad\udcff\n.png"}
        assert index.unseen_with("1" * 64) in RECORDS
        index.add(record("a", size=9))
        found = index.find("a.png")
        assert found is not None
        assert found.size == 9
        index.drop("a.png")
        assert index.find("a.png") is None
        assert index.count() == 2
        assert [json.loads(line)["source"] for line in index.lines()] == ["bad\udcff\n", "sub/b"]
        assert index.take("X.png", "x") is None
        assert index.take("x.PNG", "y") == ("x", "X.png")
        index.say("failed", "b", "why \x1b")
        index.say("failed", "a\udcff", "why")
        index.say("failed", "a\udcff", "why")
        assert list(index.said("failed")) == [("a\udcff", "why"), ("b", r"why \x1b")]
        assert len(list(index.said("failed", 1))) == 1
