"""What a site approves of a roster: the one that was read out, and only if it is on it itself."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fl_client.cli import main
from fl_client.deployment.roster import ApprovedRoster
from medveil import node_keys
from medveil.audit import AuditLog
from medveil.errors import ConfigError, FormatError, IntegrityError
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

NAMES = ("st-anna", "mercy", "grace")
KEYS = {name: SigningKey.from_secret(bytes([i]) * 32) for i, name in enumerate(NAMES, 1)}


def roster(**changes: str) -> Roster:
    return Roster({**{name: key.public for name, key in KEYS.items()}, **changes})


@pytest.fixture
def approved(tmp_path: Path) -> ApprovedRoster:
    return ApprovedRoster(tmp_path / "roster.json", AuditLog(tmp_path / "audit.jsonl", "site st-anna"))


def approve(approved: ApprovedRoster, found: Roster, digest: str) -> None:
    approved.approve(found, digest, site="st-anna", identity=KEYS["st-anna"].public)


def test_only_what_was_read_out_is_approved(approved: ApprovedRoster, tmp_path: Path) -> None:
    known, other = roster(), roster(mercy=SigningKey.generate().public)
    assert approved.roster() is None
    with pytest.raises(ConfigError, match=f"digest is {other.fingerprint}; this is not what was read out"):
        approve(approved, other, known.fingerprint)
    for odd in ("", "12", "g" * 64, known.fingerprint[:-1]):
        with pytest.raises(ConfigError, match="is no digest of 64 hex digits"):
            approve(approved, known, odd)
    assert approved.roster() is None
    parted = " ".join(known.fingerprint[i : i + 8].upper() for i in range(0, 64, 8))
    approve(approved, known, parted)
    assert approved.roster() == known
    assert stat.S_IMODE((tmp_path / "roster.json").stat().st_mode) == 0o600
    assert '"roster-approved"' in (tmp_path / "audit.jsonl").read_text()


def test_a_site_approves_no_roster_without_itself(approved: ApprovedRoster) -> None:
    stolen = roster(**{"st-anna": SigningKey.generate().public})
    with pytest.raises(ConfigError, match="has another identity under this site's name"):
        approve(approved, stolen, stolen.fingerprint)
    members = {name: SigningKey.generate().public for name in ("a", "b", "c")}
    with pytest.raises(ConfigError, match="has no site under this site's name"):
        approve(approved, Roster(members), Roster(members).fingerprint)


def test_another_member_is_another_roster_and_withdrawing_counts_at_once(approved: ApprovedRoster) -> None:
    approve(approved, roster(), roster().fingerprint)
    more = roster(hope=SigningKey.generate().public)
    approve(approved, more, more.fingerprint)
    assert approved.roster() == more
    assert approved.withdraw() == more
    assert approved.roster() is None
    with pytest.raises(ConfigError, match="no roster is approved"):
        approved.withdraw()


def test_a_roster_changed_on_disk_is_none(approved: ApprovedRoster, tmp_path: Path) -> None:
    approve(approved, roster(), roster().fingerprint)
    path = tmp_path / "roster.json"
    document = json.loads(path.read_text())
    changed = roster(mercy=SigningKey.generate().public)
    path.write_text(json.dumps({**document, "roster": changed.as_data()}))
    with pytest.raises(IntegrityError, match="holds another roster than was approved; approve it anew, by hand"):
        approved.roster()
    path.write_text(json.dumps({**document, "version": 2}))
    with pytest.raises(FormatError, match="version 2"):
        approved.roster()
    path.write_text(json.dumps({**document, "roster": {"sites": {}, "colluding": 1}}))
    with pytest.raises(IntegrityError, match="approve it anew"):
        approved.roster()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With files as `enroll` leaves them, without what costs time: the command opens no key."""
    key = tmp_path / "st-anna.node"
    node = node_keys.generate()
    key.write_bytes(node_keys.private_bytes(node))
    key.with_suffix(".pub").write_text(node_keys.public_file(node, KEYS["st-anna"], "st-anna")[1])
    site = tmp_path / "site.yaml"
    site.write_text("name: st-anna\nserver: s:1\nnode_key: st-anna.node\nkey: k\ndata: {source: npz, path: x}\n")
    roster().save(tmp_path / "roster.json")

    def said(*words: str) -> tuple[int, str]:
        code = main(["approve-roster", *words, "--site", str(site)])
        told = capsys.readouterr()
        return code, told.out + told.err

    assert said() == (0, "no roster is approved: 'limits.least_sites' is the server's promise until one is\n")
    code, told = said(roster().fingerprint)
    assert (code, "needs the roster itself; --roster FILE" in told) == (2, True), told
    given = ["--roster", str(tmp_path / "roster.json")]
    code, told = said(*given)
    assert (code, "needs HEX" in told) == (2, True), told
    assert said("0" * 64, *given)[0] == 2
    code, told = said(roster().fingerprint, *given)
    assert code == 0
    assert told.splitlines()[0] == f"approved: {roster().fingerprint}, 3 sites"
    assert told.splitlines()[1:] == roster().lines()
    assert said()[1] == told
    assert said("--withdraw") == (0, f"withdrawn: {roster().fingerprint}\n")
    assert said("--withdraw")[0] == 2
