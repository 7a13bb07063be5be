"""Every command has --json; what only does something says what it did, and no secret."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

import crypto.cli
import crypto.sealed_file
import fl_client.cli
import fl_server.cli
import simulations.cli
from medveil import node_keys
from medveil.signing import SigningKey

DOORS = {
    "medveil-crypto": (crypto.cli.make_parser, crypto.cli.main),
    "medveil-site": (fl_client.cli._parser, fl_client.cli.main),
    "medveil-server": (fl_server.cli._parser, fl_server.cli.main),
    "medveil-sim": (simulations.cli._parser, simulations.cli.main),
}
DOCUMENTED = (ROOT / "docs/reference/json.md").read_text(encoding="utf-8")


def commands(made: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    inner = [each for each in made._actions if isinstance(each, argparse._SubParsersAction)]
    if not inner:
        yield name, made
    for each in inner:
        for word, below in each.choices.items():
            yield from commands(below, f"{name} {word}")


@pytest.mark.parametrize("door", DOORS)
def test_every_command_has_it(door: str) -> None:
    found = dict(commands(DOORS[door][0](), door))
    assert len(found) > 5
    without = {name for name, made in found.items() if "--json" not in made._option_string_actions}
    assert not without
    # Bare, it is what `medveil.cli.run_command` looks for.
    for name in found:
        option = found[name]._option_string_actions["--json"]
        assert (option.const, option.dest) == (True, "json"), name


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Runs a command in a folder; its one document, whose names the documentation has in the command's row."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crypto.sealed_file, "SCRYPT_N", 2**10)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", "seven horses correct the battery")

    def run(line: str, *, code: int = 0) -> dict[str, Any]:
        door, *words = line.split()
        capsys.readouterr()
        assert DOORS[door][1]([*words, "--json"]) == code, line
        said = capsys.readouterr()
        document: dict[str, Any] = json.loads(said.out)
        assert (set(document) == {"error"}) == (code not in {0, 6}), line
        if code == 0:
            section = DOCUMENTED.partition(f"## {door}\n")[2].partition("\n## ")[0]
            rows = " ".join(row for row in section.splitlines() if re.match(rf"\|[^|]*`{words[0]}[`, ]", row))
            assert [name for name in document if f"`{name}`" not in rows] == [], line
        return document

    return run


def secrets_in(folder: Path) -> list[str]:
    """What no document may hold: lines of private keys."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in {".node", ".key"}]
    return [line for path in files for line in path.read_text(errors="replace").splitlines() if len(line) > 30]


def test_a_consortium_is_set_up_by_a_program(
    told: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Real ones start in tests/e2e.
    monkeypatch.setattr("fl_server.deployment.superlink.start", lambda _, attended: 4711)
    monkeypatch.setattr("fl_client.deployment.running.start", lambda *_, **__: 4712)
    monkeypatch.setattr("fl_client.deployment.running.wait_connected", lambda _: (False, "nobody answers"))
    made = told("medveil-server init consortium.yaml name=veil")
    assert Path(made["invitation"]).is_file()
    given = f"--invitation {made['invitation']} data.source=npz data.path=x"
    site = told(f"medveil-site enroll --name st-anna --out enrol {given}")
    assert (site["server_fingerprint"], site["compared"]) == (made["fingerprint"], False)
    for name in ("grace", "mercy"):
        text = node_keys.public_file(node_keys.generate(), SigningKey.generate(), name)[1]
        (tmp_path / f"{name}.pub").write_text(text)
        admitted = told(f"medveil-server admit {name}.pub")
    assert (admitted["site"], admitted["server"], admitted["compared"]) == ("mercy", None, False)
    admitted = told(f"medveil-server admit {site['public']} --fingerprint {site['fingerprint']}")
    assert (admitted["key"], admitted["compared"]) == (site["fingerprint"], True)
    roster = told("medveil-server roster --out roster.json")
    at = "--site enrol/site.yaml"
    assert told(f"medveil-site approve-roster {at}") == {"approved": False, "fingerprint": None}
    given = f"{roster['fingerprint']} --roster roster.json"
    assert told(f"medveil-site approve-roster {given} {at}") == {**_less(roster, "file"), "approved": True}
    assert told(f"medveil-site approve-roster --withdraw {at}")["fingerprint"] == roster["fingerprint"]
    own = told("medveil-server run --hash")["hash"]
    assert told(f"medveil-site approve {own} {at}")["approved"]
    listed = told(f"medveil-site approve {at}")
    assert (listed["installed"], [each["hash"] for each in listed["approvals"]]) == (own, [own])
    up = told(f"medveil-site start {at}")
    assert (up["site"], up["process"], up["connected"], up["why_not"]) == ("st-anna", 4712, False, "nobody answers")
    up = told("medveil-server start")
    assert (up["process"], up["server"], up["runs_ended"], up["new_signing_key"]) == (4711, None, [], False)
    for line, name in (("medveil-server metrics", "server_up"), (f"medveil-site metrics {at}", "process_up")):
        samples = told(f"{line} --once")["samples"]
        assert {each["value"] for each in samples if each["name"] == f"medveil_{name}"} == {0}
    assert not told(f"medveil-site approve {own} --withdraw {at}")["approved"]
    assert told(f"medveil-site seal {at}") == {"key": None, "stores": 0, "files": 0}
    assert "flower-supernode" in told(f"medveil-site start --print {at}")["commands"]
    assert "flower-superlink" in told("medveil-server start --print")["commands"]
    assert told("medveil-server run --template")["yaml"].startswith("# A run of a consortium.")
    kit = told(f"medveil-site kit --out kit --user me {at}")
    assert all(Path(file).is_file() for file in kit["files"]) and kit["files"]
    renewed = told("medveil-server renew")
    assert "127.0.0.1" in renewed["certificate"] and not renewed["new_signing_key"]
    renewed = told("medveil-server renew --signing-key")
    assert renewed["new_signing_key"] and renewed["former_key"] and renewed["fingerprint"] != made["fingerprint"]
    again = told(f"medveil-site rejoin --invitation {renewed['invitation']} {at}")
    assert again["server_fingerprint"] == renewed["fingerprint"]
    assert told("medveil-server revoke mercy")["site"] == "mercy"
    private = secrets_in(tmp_path)
    assert len(private) > 5
    everything = json.dumps([made, site, admitted, roster, listed, renewed, again])
    assert [line for line in private if line in everything] == []


def test_what_is_refused_before_a_command_begins_is_a_document_too(told: Callable[..., dict[str, Any]]) -> None:
    assert "--nmae" in told("medveil-site enroll --nmae x", code=2)["error"]["problem"]
    assert told("medveil-sim report nowhere", code=2)["error"]["exit_code"] == 2
    wrong = told("medveil-sim init --log-file /nowhere/at/all", code=3)["error"]
    assert (wrong["kind"], wrong["where"]) == ("StorageError", "/nowhere/at/all")


def test_lists_and_texts_of_a_researcher(
    told: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "rounds:" in told("medveil-sim init")["yaml"]
    assert told("medveil-sim init demo --out demo.yaml") == {"file": "demo.yaml"}
    for command in ("init", "compare", "ablate"):
        assert simulations.cli.main([command, "--list", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert all(each["name"] for each in rows) and len(rows) > 3


def _less(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}
