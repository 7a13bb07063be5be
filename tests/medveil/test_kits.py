"""What the kits name exists: programs, commands, options, variables, settings and files."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from crypto import passphrase
from fl_client import cli as site_cli
from fl_client.deployment.config import SiteConfig
from fl_client.deployment.own_files import OwnFiles
from fl_server import cli as server_cli
from fl_server.deployment.consortium import Consortium, ConsortiumConfig
from medveil import kits
from medveil.kits import SERVER, SITE, kit_files

ROOT = Path(__file__).parents[2]
CLIS = {SITE: site_cli, SERVER: server_cli}
NAMES = {SITE: "site.yaml", SERVER: "consortium.yaml"}
OPTION = {SITE: "--site", SERVER: "--consortium"}


@pytest.fixture
def kit_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Writes a role's kit through its command, with programs in place for it to name."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python", "medveil-site", "medveil-server"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))

    def write(role: str) -> Path:
        out = tmp_path / "kit"
        words = ["kit", "--out", str(out), "--user", "root", OPTION[role], str(tmp_path / NAMES[role])]
        assert CLIS[role].main(words) == 0
        return out

    return write


def unit_of(folder: Path) -> configparser.ConfigParser:
    (file,) = folder.glob("*.service")
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(file)
    return parser


@pytest.mark.parametrize("role", [SITE, SERVER])
def test_the_unit_starts_a_command_that_exists(kit_of, role: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    unit = unit_of(kit_of(role))
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program == str(tmp_path / "bin" / f"medveil-{role}")
    given = CLIS[role]._parser().parse_args(words)
    assert given.foreground
    assert getattr(given, OPTION[role][2:]) == tmp_path / NAMES[role]
    assert float(unit["Service"]["RestartSec"]) >= 60
    assert shlex.split(unit["Service"]["ReadWritePaths"]) == [str(tmp_path)] == [unit["Service"]["WorkingDirectory"]]
    assert f"medveil-{role}" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("role", [SITE, SERVER])
def test_systemd_finds_no_fault_in_the_unit(kit_of, role: str) -> None:  # type: ignore[no-untyped-def]
    (unit,) = kit_of(role).glob("*.service")
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_credential_is_the_one_a_site_reads(
    kit_of,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = kit_of(SITE)
    name, _, _ = unit_of(folder)["Service"]["LoadCredentialEncrypted"].partition(":")
    given = tmp_path / "credentials"
    given.mkdir()
    (given / name).write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    assert passphrase.read_passphrase() == "from systemd"
    assert f" {passphrase.CREDENTIALS}=/run/secrets\n" in (folder / "Containerfile").read_text()
    compose = composed(folder)
    assert compose["services"]["site"]["secrets"] == [name] == list(compose["secrets"])
    assert f"--name={name} " in (folder / "medveil-site.service").read_text()


def composed(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "compose.yaml").read_text()))


@pytest.mark.parametrize("role", [SITE, SERVER])
def test_the_container_starts_a_command_that_exists_and_is_not_root(kit_of, role: str) -> None:  # type: ignore[no-untyped-def]
    folder = kit_of(role)
    service = composed(folder)["services"][role]
    for words in (service["command"], service["healthcheck"]["test"][1:]):
        assert words[0] == f"medveil-{role}"
        given = CLIS[role]._parser().parse_args(words[1:])
        # Beside what the folder holds.
        assert getattr(given, OPTION[role][2:]) == Path(NAMES[role])
    text = (folder / "Containerfile").read_text()
    user, home = (re.search(rf"^{word} (.+)$", text, re.MULTILINE)[1] for word in ("USER", "WORKDIR"))  # type: ignore[index]
    assert service["user"] == user == "10001:10001"
    assert f"./{role}:{home}" in service["volumes"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert "--no-index" in text
    if role == SERVER:
        fleet = ConsortiumConfig().fleet.port
        assert service["ports"] == [f"{fleet}:{fleet}"]


@pytest.mark.parametrize("role", [SITE, SERVER])
def test_the_logs_that_are_rotated_are_those_that_are_written(kit_of, role: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = (kit_of(role) / "logrotate.conf").read_text()
    named = {Path(path) for path in re.findall(r'"(/[^"]+)"', text)}
    if role == SITE:
        files = OwnFiles(SiteConfig(), tmp_path / "site.yaml")
        assert named == {files.node_log, *(files.log.with_name(f"{name}.out") for name in ("worker", "supervisor"))}
    else:
        consortium = Consortium(ConsortiumConfig(), tmp_path / "consortium.yaml")
        assert named == {consortium.log.with_suffix(".out")}


@pytest.mark.parametrize("role", [SITE, SERVER])
def test_nothing_is_left_to_fill_in_and_nothing_is_replaced(
    kit_of,  # type: ignore[no-untyped-def]
    role: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = kit_of(role)
    written = sorted(folder.iterdir())
    assert [path.name for path in written] == sorted(path.name for path in kit_files(role))
    for path in written:
        assert not re.search(r"@[A-Z]+@", path.read_text()), path.name
        assert bool(path.stat().st_mode & stat.S_IXUSR) == (path.suffix == ".sh")
    readme = (folder / "README.txt").read_text()
    assert [path.name for path in written if path.name not in readme and path.name != "README.txt"] == []
    assert CLIS[role].main(["kit", "--out", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_path_no_unit_can_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site_cli.main(["kit", "--out", str(tmp_path / "kit"), "--site", str(tmp_path / 'a"b' / "site.yaml")]) == 2
    assert site_cli.main(["kit", "--out", str(tmp_path / "kit"), "--user", "root; rm"]) == 2
    assert "no account name" in capsys.readouterr().err
    assert not (tmp_path / "kit").exists()


def test_the_kit_is_packed() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["medveil"]
    package = Path(kits.__file__).parent
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert packed >= {*kit_files(SITE), *kit_files(SERVER)}


def test_wheels_are_checked_before_they_are_installed(kit_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    script = kit_of(SITE) / "wheelhouse.sh"
    wheels = script.parent / "wheelhouse"
    wheels.mkdir()
    (wheels / "a.whl").write_bytes(b"changed on the way")
    (wheels / "SHA256SUMS").write_text(f"{'0' * 64}  ./a.whl\n")
    done = subprocess.run([str(script), "install", str(tmp_path / "venv")], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "FAILED" in done.stdout + done.stderr
    assert not (tmp_path / "venv" / "bin").exists(), "it was installed"
    assert subprocess.run([str(script)], capture_output=True, check=False).returncode == 2
