"""`audit verify`, `head` and `heads`, as an auditor of a server and of a site types them."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from medveil.audit import AuditLog, Head
from medveil.audit_commands import add_audit
from medveil.audit_heads import SERVER, kept_in, load_heads, save_heads, site
from medveil.audit_verify import verify
from medveil.cli import guarded, parser
from medveil.errors import ConfigError, FormatError, IntegrityError, SignatureError, StorageError
from medveil.fingerprints import plain_fingerprint
from medveil.signing import SigningKey


class Side:
    """One side of a consortium, with its commands."""

    def __init__(self, path: Path, owner: str, filed: str, option: str) -> None:
        self.log, self.filed, self.option = AuditLog(path, owner), filed, option
        self.key, self.knows = SigningKey.generate(), {}

    def __call__(self, *words: str | Path) -> int:
        made = parser("medveil-test", "text", "example")
        commands = made.add_subparsers(required=True)
        add_audit(
            commands,
            program="medveil-test",
            log_of=lambda _: (self.log, self.filed),
            key_of=lambda _: self.key,
            known_to=lambda _: lambda owner: self.knows.get(owner, []),
            heads_option=self.option,
            choose=lambda each: each.add_argument("--which"),
        )

        def body() -> int:
            arguments: argparse.Namespace = made.parse_args(["audit", *map(str, words)])
            return int(arguments.command(arguments))

        return guarded(body)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Side, Side]:
    """A server and a site after three messages, each with the other's heads in its log."""
    server = Side(tmp_path / "server" / "audit.jsonl", "server veil", SERVER, "--heads")
    anna = Side(tmp_path / "anna" / "audit.jsonl", "site st-anna", site("st-anna"), "--countersigned")
    server.knows["site st-anna"], anna.knows["server veil"] = [anna.key.public], [server.key.public]
    for round_ in range(3):
        head = server.log.append("asked", site="st-anna", round=round_)
        anna.log.append("asked", round=round_, head=str(head))
        head = anna.log.append("answered", round=round_)
        server.log.append("answered", site="st-anna", round=round_, head=str(head))
    return server, anna


def test_whole_logs_fit_each_others_heads(
    sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, anna = sides
    assert server("heads", "--out", tmp_path / "by-server.json") == 0
    assert "site st-anna: 3 heads, the newest of record 7" in capsys.readouterr().out
    assert anna("heads", "--out", tmp_path / "by-anna.json", "--json") == 0
    kept = {"file": str(tmp_path / "by-anna.json"), "heads": {"server": {"heads": 3, "newest": 6}}}
    assert json.loads(capsys.readouterr().out) == kept
    assert anna("verify", "--countersigned", tmp_path / "by-server.json") == 0
    assert server("verify", "--heads", tmp_path / "by-anna.json", "--json") == 0
    said = capsys.readouterr().out
    assert f"{anna.log.path}: whole, 7 records" in said
    assert anna("head") == 0
    assert Head.parse(capsys.readouterr().out.strip()) == anna.log.head()


def test_a_cut_tail_is_found_by_the_other_side_alone(
    sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, anna = sides
    server("heads", "--out", tmp_path / "kept.json")
    lines = anna.log.path.read_text().splitlines(keepends=True)
    anna.log.path.write_text("".join(lines[:-2]))
    assert anna("verify") == 0
    capsys.readouterr()
    assert anna("verify", "--countersigned", tmp_path / "kept.json") == IntegrityError.exit_code
    said = capsys.readouterr()
    assert "line 7: is missing: server veil knows record 7; it ends at 5" in said.err
    assert "NOT whole" in said.out


def test_an_end_rewritten_before_the_newest_head_is_found_by_an_older_one(
    sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, anna = sides
    lines = anna.log.path.read_text().splitlines(keepends=True)
    anna.log.path.write_text("".join(lines[:-2]))
    for _ in range(2):
        anna.log.append("asked", round=9)
    head = anna.log.append("answered", round=9)
    server.log.append("answered", site="st-anna", round=9, head=str(head))
    server("heads", "--out", tmp_path / "kept.json")
    assert anna("verify", "--countersigned", tmp_path / "kept.json") == IntegrityError.exit_code
    assert "line 7: is not the record that server veil knows" in capsys.readouterr().err


def test_a_log_moved_away_is_named(
    sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, anna = sides
    server("heads", "--out", tmp_path / "kept.json")
    moved = anna.log.path.rename(tmp_path / "old.jsonl")
    given = ["verify", "--countersigned", tmp_path / "kept.json"]
    assert anna(*given) == StorageError.exit_code
    assert "there is no log; the first record makes it; if it was moved away, name where to" in capsys.readouterr().err
    assert anna(*given, "--log", moved) == 0
    said = capsys.readouterr().out
    assert f"{moved}: whole, 7 records" in said
    assert f"{anna.log.path}: no such file; nothing was written down since" in said
    anna.log.append("started")
    assert anna(*given) == IntegrityError.exit_code
    assert "name the file it was moved to with --log" in capsys.readouterr().err
    assert anna(*given, "--log", moved) == 0


def test_a_changed_line_is_named_and_such_a_log_vouches_for_nobody(
    sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = sides
    text = server.log.path.read_text()
    server.log.path.write_text(text.replace('"round":1', '"round":2'))
    assert server("verify", "--json") == IntegrityError.exit_code
    said = capsys.readouterr()
    assert "line 4: was changed" in said.err
    assert json.loads(said.out)[0]["whole"] is False
    assert server("heads", "--out", tmp_path / "kept.json") == IntegrityError.exit_code
    assert not (tmp_path / "kept.json").exists()


def test_files_that_are_no_heads_of_this_log(sides: tuple[Side, Side], tmp_path: Path) -> None:
    server, _ = sides
    kept = kept_in(verify(server.log.path).records)
    save_heads(tmp_path / "kept.json", kept, kept_by="server veil", key=server.key)
    with pytest.raises(ConfigError, match="holds no head of site mercy; it holds 'site st-anna'"):
        load_heads(tmp_path / "kept.json", owner=site("mercy"), keys_of=lambda _: [server.key.public])
    for document in ({"format": "medveil-heads", "version": 1}, {"format": "other", "version": 1}):
        (tmp_path / "odd.json").write_text(json.dumps(document))
        with pytest.raises(FormatError):
            load_heads(tmp_path / "odd.json", owner=SERVER, keys_of=lambda _: [])
    with pytest.raises(ConfigError, match="holds no heads of others yet"):
        save_heads(tmp_path / "none.json", {}, kept_by="server veil", key=server.key)


def test_a_verification_says_whose_signature_the_heads_bear(
    sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, anna = sides
    path = tmp_path / "kept.json"
    server("heads", "--out", path)
    assert anna("verify", "--countersigned", path) == 0
    said = capsys.readouterr().out
    known = plain_fingerprint(server.key.fingerprint)
    assert re.fullmatch("[0-9a-f]{64}", known)
    assert f"note: the heads kept by server veil are signed by its key {known}" in said
    assert re.search(r" records, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC to \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", said)
    # A version of before is read, and said to be what it is.
    old = {**json.loads(path.read_text()), "version": 1}
    del old["signature"]
    path.write_text(json.dumps(old))
    assert anna("verify", "--countersigned", path) == 0
    assert "note: the heads kept by server veil are not signed" in capsys.readouterr().out


def test_heads_that_were_changed_or_are_somebody_elses_are_refused(
    sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, anna = sides
    path = tmp_path / "kept.json"
    server("heads", "--out", path)
    whole = json.loads(path.read_text())
    other = Head("f" * 32, 9, "e" * 64)
    forged = [
        {**whole, "heads": {**whole["heads"], "site st-anna": whole["heads"]["site st-anna"][:1]}},
        {**whole, "heads": {**whole["heads"], "site mercy": [str(other)]}},
        {**whole, "heads": {"site st-anna": [[]]}},
        {**whole, "heads": {"site st-anna": [float("nan")]}},
        {**whole, "signature": anna.key.sign("medveil heads", 2, {}).signature},
        {**whole, "signature": ""},
        {**whole, "signature": None},
        {**whole, "signature": ["x"]},
        {name: each for name, each in whole.items() if name != "signature"},
    ]
    for document in forged:
        path.write_text(json.dumps(document))
        code = anna("verify", "--countersigned", path)
        said = capsys.readouterr().err
        assert code in {SignatureError.exit_code, FormatError.exit_code, IntegrityError.exit_code}, said
        reasons = ("was not signed by 'server veil'", "is not a list of heads", "is not a whole JSON document")
        assert any(reason in said for reason in reasons), said
    # Who kept them is part of what is signed, and nobody unknown is believed.
    path.write_text(json.dumps({**whole, "kept_by": "site mercy"}))
    assert anna("verify", "--countersigned", path) == ConfigError.exit_code
    assert "no key of theirs is known here" in capsys.readouterr().err
    anna.knows["site mercy"] = [server.key.public]
    assert anna("verify", "--countersigned", path) == SignatureError.exit_code


def test_messages_without_a_head_are_noted_in_either_log(
    sides: tuple[Side, Side], capsys: pytest.CaptureFixture[str]
) -> None:
    server, anna = sides
    for side in sides:
        side("verify")
        assert "note:" not in capsys.readouterr().out
    for round_ in range(46):
        anna.log.append("asked", round=round_, head=None)
    server.log.append("answered", site="st-anna", head=None)
    anna("verify", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert found["notes"][0].startswith("46 messages without a head of the server's log, in lines 8, 9, 10")
    server("verify")
    assert "note: 1 replies without a head, in lines 8:" in capsys.readouterr().out


def test_records_of_an_odd_shape_are_no_traceback() -> None:
    for details in ([], "text", 7, None):
        records = [{"sequence": 1, "event": event, "details": details} for event in ("asked", "answered", "refused")]
        assert kept_in(records) == {}
