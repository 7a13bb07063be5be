"""`medveil-site check --hardening`: what is weak is said, with a cure that mends it; what is not known is not good."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from enrolled_site import enrolled

from crypto.passphrase import VARIABLE
from fl_client.cli import main
from fl_client.deployment.hardening import UNKNOWN, WEAK, hardening
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_client.deployment.points import OK, Point
from medveil.files import make_folder
from medveil.kits import SITE, kit_files

LIMITS = {
    "secagg: false": "secagg: true",
    "approve_runs: false": "approve_runs: true",
    "disclosure: optional": "disclosure: required",
    "epsilon: null": "epsilon: 8.0",
    "least_sites: 2": "least_sites: 3",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> OwnFiles:
    made = enrolled(tmp_path_factory.mktemp("hardening"))
    make_folder(made.state, 0o700)
    (made.file.parents[1] / "own.npz").chmod(0o640)
    return made


@pytest.fixture
def machine(tmp_path: Path, site: OwnFiles) -> Path:
    """A machine's files as a hardened one has them."""
    device = os.stat(site.state).st_dev
    (unit,) = (each for each in kit_files(SITE) if each.name == "medveil-site.service")
    told = {
        "proc/self/limits": "Limit  Soft Limit  Hard Limit\nMax core file size        0        0        bytes\n",
        "proc/swaps": "Filename Type Size Used Priority\n/dev/dm-1 partition 1 0 -2\n",
        "proc/sys/kernel/yama/ptrace_scope": "1\n",
        "sys/class/block/dm-1/dm/uuid": "CRYPT-PLAIN-swap\n",
        # A volume on an encrypted one.
        f"sys/dev/block/{os.major(device)}:{os.minor(device)}/dm/uuid": "LVM-root\n",
        f"sys/dev/block/{os.major(device)}:{os.minor(device)}/slaves/dm-0/dm/uuid": "CRYPT-LUKS2-disk\n",
        "etc/systemd/system/medveil-site.service": unit.read_text().replace("@USER@", "hospital"),
    }
    for name, text in told.items():
        make_folder((tmp_path / name).parent)
        (tmp_path / name).write_text(text)
    return tmp_path


def looked(site: OwnFiles, machine: Path, **environment: str) -> dict[str, Point]:
    return {point.what: point for point in hardening(site, root=machine, environment=environment)}


def test_what_is_in_order_is_ok_and_the_defaults_that_are_not_say_how(site: OwnFiles, machine: Path) -> None:
    found = looked(site, machine)
    limits = {"masks", "roster", "each run", "disclosure", "privacy", "fewest sites"}
    assert {what for what, point in found.items() if point.state != OK} - {"account"} == limits
    # Each cure but the roster's, typed as it says.
    text = site.file.read_text()
    for old, new in LIMITS.items():
        assert f"  {old}" in text, old
        text = text.replace(f"  {old}", f"  {new}")
    mended = site.file.with_name("mended.yaml")
    mended.write_text(text)
    left = looked(load_site(mended), machine)
    assert {what for what, point in left.items() if point.state == WEAK} - {"account"} == {"roster"}


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        ("proc/self/limits", "Max core file size   unlimited   unlimited   bytes\n", "core dumps"),
        ("proc/swaps", "Filename Type\n/dev/sda2 partition\n", "swap"),
        ("proc/swaps", "Filename Type\n/swapfile file\n", "swap"),
        ("proc/sys/kernel/yama/ptrace_scope", "0\n", "memory"),
        ("etc/systemd/system/medveil-site.service", "[Service]\n#ProtectSystem=strict\nLimitCORE=0\n", "systemd unit"),
    ],
)
def test_what_is_weak_of_a_machine_is_said(site: OwnFiles, machine: Path, file: str, text: str, what: str) -> None:
    assert looked(site, machine)[what].state == OK
    (machine / file).write_text(text)
    weak = looked(site, machine)[what]
    assert (weak.state, bool(weak.cure)) == (WEAK, True)
    (machine / file).unlink()
    assert looked(site, machine)[what].state == UNKNOWN


def test_a_disk_without_encryption_is_weak_and_an_unknown_one_not_checked(site: OwnFiles, machine: Path) -> None:
    (block,) = (machine / "sys/dev/block").iterdir()
    (block / "slaves/dm-0/dm/uuid").write_text("LVM-other\n")
    assert looked(site, machine)["disk"].state == WEAK
    block.rename(block.with_name("no:such"))
    assert looked(site, machine)["disk"].state == UNKNOWN


@pytest.mark.parametrize(
    ("name", "mode", "what"),
    [
        *[("st-anna.key", 0o640, "key"), ("st-anna.identity", 0o604, "identity"), ("site.yaml", 0o664, "site file")],
        *[("state", 0o750, "state folder"), ("ca.crt", 0o666, "authority"), ("../own.npz", 0o644, "images")],
    ],
)
def test_files_that_others_may_read_or_change_are_weak(
    site: OwnFiles, machine: Path, name: str, mode: int, what: str
) -> None:
    path = site.file.parent / name
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        weak = looked(site, machine)[what]
    finally:
        path.chmod(before)
    assert weak.state == WEAK
    assert weak.cure.startswith("chmod ")
    assert looked(site, machine)[what].state == OK


def test_a_passphrase_on_the_disk_or_in_a_variable_is_weak(site: OwnFiles, machine: Path) -> None:
    assert looked(site, machine)["passphrase"].state == OK
    assert looked(site, machine, **{VARIABLE: "word"})["passphrase"].state == WEAK
    assert looked(site, machine, CREDENTIALS_DIRECTORY="/run/credentials/x")["passphrase"].state == OK
    written = site.file.with_name("written.yaml")
    (site.file.parent / "word").write_text("word")
    written.write_text(site.file.read_text().replace("passphrase_file: null", "passphrase_file: word", 1))
    found = looked(load_site(written), machine)
    assert found["passphrase"].state == WEAK
    assert "word" in found["passphrase"].found
    assert found["passphrase file"].state == WEAK


def test_the_command_asks_no_passphrase_and_tells_a_program(
    site: OwnFiles, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["check", "--hardening", "--json", "--site", str(site.file)]) == 6
    told = json.loads(capsys.readouterr().out)
    assert {point["state"] for point in told} <= {OK, WEAK, UNKNOWN}
    assert all(point["cure"] for point in told if point["state"] == WEAK)
    assert main(["check", "--hardening", "--site", str(site.file)]) == 6
    assert "what to do:" in capsys.readouterr().out
