"""Setting up a consortium, and its list of sites."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fl_server.cli import main
from fl_server.deployment.consortium import Consortium, load_consortium
from fl_server.deployment.provision import (
    begin_signing,
    init,
    renew,
    server_fingerprint,
    warnings,
    write_roster,
)
from fl_server.deployment.roster import Roster
from medveil import node_keys
from medveil.audit_verify import verify
from medveil.certificates import fingerprint, issue, load_certificate, load_issued, names_of
from medveil.errors import ConfigError, FormatError, IntegrityError
from medveil.invitation import load_invitation
from medveil.secagg.roster import load_roster
from medveil.signing import SigningKey, load_signing_key

SETTINGS = ["name=veil", "certificates.names=[veil.example.org]", "fleet.host=0.0.0.0"]


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return init(tmp_path / "consortium.yaml", SETTINGS)


def public(name: str = "st-anna") -> node_keys.PublicKey:
    return enrolled(name)[0]


def enrolled(name: str = "st-anna", identity: SigningKey | None = None) -> tuple[node_keys.PublicKey, str]:
    """The public halves of a site and the file it sends."""
    return node_keys.public_file(node_keys.generate(), identity or SigningKey.generate(), name)


def run(*words: str | Path, folder: Path) -> int:
    return main([*map(str, words), "--consortium", str(folder / "consortium.yaml")])


def test_a_folder_is_no_consortiums_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; name the consortium's file in it"):
        load_consortium(tmp_path)


def test_a_consortium_is_set_up_once(consortium: Consortium, tmp_path: Path) -> None:
    assert load_consortium(tmp_path / "consortium.yaml") == consortium
    before = {path: path.read_bytes() for path in (*consortium.authority, *consortium.certificate)}
    with pytest.raises(ConfigError, match=r"has been set up before.*move the state folder away"):
        init(tmp_path / "consortium.yaml", [])
    with pytest.raises(ConfigError, match="give none here"):
        init(tmp_path / "consortium.yaml", ["name=other"])
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_secret_is_the_owners_alone(consortium: Consortium) -> None:
    for folder in (consortium.state, consortium.state / "pki", consortium.home):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for key in (consortium.authority[0], consortium.certificate[0], consortium.signing_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600, key


def test_the_certificate_is_good_for_what_sites_and_this_machine_use(consortium: Consortium) -> None:
    assert names_of(load_certificate(consortium.certificate[1])) == ["veil.example.org", "localhost", "127.0.0.1"]
    invited = load_invitation(consortium.invitation)
    assert invited.address == "veil.example.org:9092"
    assert invited.authority == consortium.authority[1].read_text()
    assert invited.server_key == load_signing_key(consortium.signing_key).public
    text = consortium.invitation.read_text() + (consortium.home / "config.toml").read_text()
    assert "PRIVATE" not in text


def test_a_renewed_certificate_is_of_the_same_authority(consortium: Consortium) -> None:
    old, authority = load_certificate(consortium.certificate[1]), consortium.authority[1].read_bytes()
    signing = consortium.signing_key.read_bytes()
    renew(consortium)
    assert consortium.signing_key.read_bytes() == signing, "sites would no longer know the server"
    new = load_issued(*consortium.certificate).certificate
    assert new.serial_number != old.serial_number
    new.verify_directly_issued_by(load_certificate(consortium.authority[1]))
    assert consortium.authority[1].read_bytes() == authority
    kept = consortium.certificate[1].with_name("server.crt.old")
    assert load_certificate(kept) == old


def test_a_renewed_signing_key_is_another_and_said(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_invitation(consortium.invitation)
    old, certificate = load_signing_key(consortium.signing_key), consortium.certificate[1].read_bytes()
    assert run("renew", "--signing-key", folder=tmp_path) == 0
    said = capsys.readouterr().out
    new, after = load_signing_key(consortium.signing_key), load_invitation(consortium.invitation)
    assert new.public != old.public
    assert after == replace(before, server_key=new.public)
    assert after.fingerprint in said and after.fingerprint != before.fingerprint
    assert "medveil-site rejoin" in said and str(consortium.invitation) in said
    assert consortium.certificate[1].read_bytes() == certificate
    assert stat.S_IMODE(consortium.signing_key.stat().st_mode) == 0o600
    # Of the old private half nothing is left; the log says that there was one.
    secret = consortium.signing_key.read_bytes()
    assert [path for path in consortium.state.rglob("*") if path.is_file() and path.read_bytes() == secret] == [
        consortium.signing_key
    ]
    assert {path.name for path in consortium.signing_key.parent.glob("signing*")} == {"signing.key"}
    log = consortium.audit.path.read_text()
    assert "signing-key-renewed" in log and old.fingerprint in log and new.fingerprint in log
    verify(consortium.audit.path)


def test_a_signing_key_stays_while_the_server_runs(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = consortium.signing_key.read_bytes()
    monkeypatch.setattr("medveil.processes.running", lambda record: 4711)
    assert run("renew", "--signing-key", folder=tmp_path) == 2
    assert "the server is running; medveil-server stop" in capsys.readouterr().err
    assert consortium.signing_key.read_bytes() == before
    assert not consortium.audit.path.exists()


def test_an_old_certificate_is_warned_of_by_every_command(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert warnings(consortium) == []
    issue(load_issued(*consortium.authority), consortium.names, days=29.5).save(*consortium.certificate)
    assert run("list", folder=tmp_path) == 0
    assert "warning: the server's certificate expires on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("control.port=9092", "another than fleet.port"),
        ("fleet.port=0", "1 to 65535"),
        ("fleet.host=veil.example.org", "an IP address of this machine"),
        ("policy.policies=[per-patient]", "'policy.policies' is 'per-patient'"),
        ("policy.least_sites=0", "at least 1"),
        ("certificates.names=['https://x']", "neither a host name nor an IP address"),
        ("certificates.server_days=0", "at least 1"),
        ("name=../up", "cannot name a site"),
        ("medveil-sites={}", "unknown key 'medveil-sites'"),
    ],
)
def test_a_consortium_that_could_not_be_run_is_not_set_up(
    setting: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "consortium.yaml"), setting]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "consortium.yaml").exists()


def test_nothing_goes_before_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", folder=tmp_path) == 2
    assert "medveil-server init" in capsys.readouterr().err
    (tmp_path / "consortium.yaml").write_text("name: veil\n")
    assert run("start", folder=tmp_path) == 2
    assert "has not been set up" in capsys.readouterr().err


# -- the list of sites -------------------------------------------------------------------------------------------------


def test_sites_are_admitted_by_their_public_key(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (key, text) = tmp_path / "st-anna.pub", enrolled()
    path.write_text(text)
    assert run("admit", path, "--fingerprint", "SHA256:other", folder=tmp_path) == 2
    assert "do not admit it" in capsys.readouterr().err
    assert Roster(consortium.roster).members() == []
    # As people write it down.
    assert re.fullmatch("[0-9a-f]{64}", key.fingerprint)
    given = " ".join(re.findall("....", key.fingerprint.upper()))
    assert run("admit", path, "--fingerprint", given, folder=tmp_path) == 0
    assert run("list", folder=tmp_path) == 0
    shown = capsys.readouterr().out
    assert "the server is not running; it learns this at 'medveil-server start'" in shown
    assert key.fingerprint in shown.splitlines()[-1]
    assert shown.splitlines()[-1].split()[:2] == ["st-anna", "admitted"]


def test_a_name_and_a_key_are_taken_once(consortium: Consortium) -> None:
    roster, key = Roster(consortium.roster), public()
    roster.admit(key)
    with pytest.raises(ConfigError, match="a site of this name is admitted already"):
        roster.admit(public())
    with pytest.raises(ConfigError, match="this key is admitted already, as 'st-anna'"):
        roster.admit(replace(key, name="mercy"))


def test_a_revoked_key_never_comes_back_and_its_site_may(consortium: Consortium) -> None:
    roster, key = Roster(consortium.roster), public()
    with pytest.raises(ConfigError, match="no site 'st-anna' is admitted; admitted: none"):
        roster.revoke("st-anna")
    roster.admit(key)
    roster.revoke("st-anna")
    with pytest.raises(ConfigError, match="a revoked key never comes back"):
        roster.admit(key)
    with pytest.raises(ConfigError, match="a revoked key never comes back"):
        roster.admit(replace(key, name="mercy"))
    again = roster.admit(public())
    assert roster.admitted() == [again]
    assert [member.status for member in roster.members()].count("revoked") == 1


def test_a_broken_list_is_no_empty_list(consortium: Consortium) -> None:
    Roster(consortium.roster).admit(public())
    consortium.roster.write_text('{"format": "medveil-roster", "version": 1, "sites": [{}]}')
    with pytest.raises(IntegrityError, match=r"sites\[0\].name"):
        Roster(consortium.roster).members()


def test_who_was_let_in_and_cut_off_is_written_down_first(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (key, text) = tmp_path / "st-anna.pub", enrolled()
    path.write_text(text)
    for words in (("admit", path), ("revoke", "st-anna")):
        assert run(*words, folder=tmp_path) == 0
    assert run("revoke", "st-anna", folder=tmp_path) == 2
    found = verify(consortium.audit.path)
    assert found.whole
    noted = [(each["event"], each["details"]) for each in found.records[1:]]
    who = {"site": "st-anna", "key": key.fingerprint}
    assert noted == [("site-admitted", who), ("site-revoked", who)]
    # What cannot be written down does not count.
    consortium.audit.path.write_text("not ours\n")
    path.write_text(enrolled("mercy")[1])
    assert run("admit", path, folder=tmp_path) == IntegrityError.exit_code
    assert Roster(consortium.roster).admitted() == []
    capsys.readouterr()
    assert run("audit", "verify", folder=tmp_path) == IntegrityError.exit_code
    assert "line 1: is no record" in capsys.readouterr().err


def test_the_commands_are_flowers_own(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("start", "--print", folder=tmp_path) == 0
    shown = capsys.readouterr().out.splitlines()
    stock = next(line for line in shown if line.startswith("flower-superlink "))
    assert "--host 127.0.0.1 --port 9093" in stock
    assert "--enable-supernode-auth" in stock
    assert "0.0.0.0" not in stock
    own = shown[-1]
    assert f"fl_server.deployment.superlink {consortium.file} -- " in own
    assert own.endswith(stock.removeprefix("flower-superlink "))
    assert f"export FLWR_HOME={consortium.home}" in shown


# -- who may sign ------------------------------------------------------------------------------------------------------


def test_a_site_is_one_identity(consortium: Consortium) -> None:
    roster, identity = Roster(consortium.roster), SigningKey.generate()
    roster.admit(enrolled("st-anna", identity)[0])
    with pytest.raises(ConfigError, match="this identity is admitted already, as 'st-anna'"):
        roster.admit(enrolled("mercy", identity)[0])
    roster.revoke("st-anna")
    for name in ("st-anna", "mercy"):
        with pytest.raises(ConfigError, match="a revoked identity never comes back"):
            roster.admit(enrolled(name, identity)[0])


def test_a_site_without_an_identity_is_not_admitted(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.pub"
    path.write_text(public().line())
    assert run("admit", path, folder=tmp_path) == 2
    assert (
        "names no identity to sign with; the site runs this MedVeil's 'medveil-site enroll'" in capsys.readouterr().err
    )
    assert Roster(consortium.roster).members() == []


def old_roster(consortium: Consortium, key: node_keys.PublicKey) -> None:
    """As version 1 wrote it."""
    member = {"name": key.name, "key": key.encoded, "status": "admitted", "since": "2026-11-01", "node": 7}
    consortium.roster.write_text(json.dumps({"format": "medveil-roster", "version": 1, "sites": [member]}))


def test_a_list_of_version_1_is_read_and_its_sites_name_their_identity_later(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, _ = enrolled()
    old_roster(consortium, key)
    roster = Roster(consortium.roster)
    (before,) = roster.members()
    assert (before.name, before.identity) == ("st-anna", "")
    assert run("list", folder=tmp_path) == 0
    assert "admitted, no identity" in capsys.readouterr().out
    # Another node key is another site's, whatever name it comes with.
    with pytest.raises(ConfigError, match="a site of this name is admitted already"):
        roster.admit(enrolled()[0])
    after = roster.admit(key)
    assert after == replace(before, identity=key.identity)
    assert roster.members() == [after]
    with pytest.raises(ConfigError, match="admitted already"):
        roster.admit(key)


def test_a_consortium_of_version_1_begins_to_sign_when_it_starts_or_renews(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    consortium.signing_key.unlink()
    document = json.loads(consortium.invitation.read_text())
    del document["server_key"]
    consortium.invitation.write_text(json.dumps({**document, "version": 1}))
    old = load_invitation(consortium.invitation)
    assert old.server_key == ""
    assert run("list", folder=tmp_path) == 0
    assert run("renew", folder=tmp_path) == 0
    said = capsys.readouterr().out
    new = load_invitation(consortium.invitation)
    assert new.server_key == load_signing_key(consortium.signing_key).public
    assert new.fingerprint in said
    assert "medveil-site rejoin" in said
    assert new.fingerprint != old.fingerprint == fingerprint(load_certificate(consortium.authority[1]))
    assert not begin_signing(consortium), "the key was made a second time"


@pytest.mark.parametrize("key", [None, "", 7, "AAAA", "A" * 44, "A" * 43 + "B", "\u00e9" * 44, "A" * 10**6])
def test_an_invitation_without_a_key_is_none(consortium: Consortium, key: object) -> None:
    document = json.loads(consortium.invitation.read_text())
    consortium.invitation.write_text(json.dumps({**document, "server_key": key}))
    with pytest.raises(FormatError):
        load_invitation(consortium.invitation)


def test_the_one_fingerprint_covers_authority_and_key(consortium: Consortium, tmp_path: Path) -> None:
    invited = load_invitation(consortium.invitation)
    assert invited.fingerprint == server_fingerprint(consortium)
    other = init(tmp_path / "other" / "consortium.yaml", SETTINGS)
    found = {
        invited.fingerprint,
        replace(invited, server_key=SigningKey.generate().public).fingerprint,
        replace(invited, authority=other.authority[1].read_text()).fingerprint,
    }
    assert len(found) == 3


def test_the_roster_is_of_the_admitted_sites_and_their_identities(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admitted, out = Roster(consortium.roster), tmp_path / "handed" / "roster.json"
    keys = {name: SigningKey.generate() for name in ("st-anna", "mercy", "grace", "hope")}
    for name, key in list(keys.items())[:2]:
        admitted.admit(enrolled(name, key)[0])
    assert run("roster", "--out", out, folder=tmp_path) == 2
    assert "has 2 sites; 3 to 1000" in capsys.readouterr().err
    for name, key in list(keys.items())[2:]:
        admitted.admit(enrolled(name, key)[0])
    admitted.revoke("hope")
    capsys.readouterr()
    assert run("roster", "--out", out, folder=tmp_path) == 0
    made = load_roster(out)
    assert (made.members, made.colluding) == ({name: keys[name].public for name in keys if name != "hope"}, 1)
    told = capsys.readouterr().out
    assert "any 3 of these 3 sites can open a sum, and none of fewer than 3" in told
    assert f"medveil-site approve-roster {made.fingerprint} --roster roster.json" in told
    assert f'"roster":"{made.fingerprint}"' in consortium.audit.path.read_text()
    assert run("roster", "--out", out, "--colluding", "0", folder=tmp_path) == 0
    assert load_roster(out).colluding == 0
    assert run("roster", "--out", out, "--colluding", "2", folder=tmp_path) == 2
    assert load_roster(out).colluding == 0, "a refusal leaves the older roster"


def test_no_roster_holds_a_site_without_an_identity(consortium: Consortium, tmp_path: Path) -> None:
    admitted = Roster(consortium.roster)
    for name in ("st-anna", "mercy", "grace"):
        admitted.admit(public(name))
    members = admitted.members()
    admitted._write([replace(members[0], identity=""), *members[1:]])
    with pytest.raises(ConfigError, match=rf"{members[0].name}: named no identity to sign with; it runs .*rejoin"):
        write_roster(consortium, tmp_path / "roster.json")


def test_a_server_that_does_not_run_is_not_healthy(consortium: Consortium, tmp_path: Path) -> None:
    assert run("status", folder=tmp_path) == 0
    assert run("status", "--healthy", folder=tmp_path) == 5
