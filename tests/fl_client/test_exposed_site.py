"""What a site's audit log says in numbers, read once and then as it grows."""

from __future__ import annotations

from pathlib import Path

from fl_client.deployment.exposed import CountedLog
from medveil.audit import ANSWERED, REFUSED, AuditLog


def test_answers_and_refusals_are_counted_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    counted = CountedLog(path)
    counted.read()
    assert not counted.answered
    log = AuditLog(path, "site anna")
    log.append(ANSWERED, kind="train")
    log.append(ANSWERED, kind="train")
    log.append(ANSWERED, kind="no kind\n of ours")
    log.append(REFUSED, kind="train", error="PolicyError")
    counted.read()
    counted.read()
    assert counted.answered == {"train": 2, "other": 1}
    log.append(REFUSED, kind="query", error="PolicyError")
    log.append(REFUSED, kind="query", error="a name\n")
    counted.read()
    assert counted.refused == {"PolicyError": 2, "other": 1}
    with path.open("ab") as stream:
        stream.write(b'{"event": "answered", "details": {"kind": "tra')
    counted.read()
    assert counted.answered["train"] == 2
    with path.open("ab") as stream:
        stream.write(b'in"}}\nno json\n')
    counted.read()
    assert counted.answered["train"] == 3
    path.write_bytes(b"")
    counted.read()
    assert not counted.answered + counted.refused
