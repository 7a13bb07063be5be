from __future__ import annotations

import getpass
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crypto import passphrase
from crypto.cli import main
from crypto.keyfile import load_key

GOOD = "correct horse battery staple"


pytestmark = pytest.mark.usefixtures("cheap_scrypt")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)
    yield
    logging.getLogger("medveil").handlers.clear()
    logging.getLogger("medveil").propagate = True


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mercy.key"


def keygen(out: Path, *more: str) -> int:
    return main(["keygen", "--site", "mercy", "--out", str(out), *more])


def say(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Be the person at the terminal."""
    left = iter(answers)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(left))


def test_keygen_and_inspect(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(passphrase.VARIABLE, GOOD)
    assert keygen(out) == 0
    key = load_key(out, GOOD)
    shown = capsys.readouterr()
    assert key.fingerprint in shown.out
    assert GOOD not in shown.out + shown.err
    assert main(["inspect", str(out)]) == 0
    text = capsys.readouterr().out
    assert "mercy" in text
    assert key.fingerprint in text
    assert main(["inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == key.fingerprint


def test_keygen_prints_json(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(passphrase.VARIABLE, GOOD)
    assert keygen(out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"file": str(out), "site": "mercy", "fingerprint": load_key(out, GOOD).fingerprint}


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_passphrase_file_is_read_without_its_line_break(out: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes((GOOD + ending).encode())
    assert keygen(out, "--passphrase-file", str(file)) == 0
    assert load_key(out, GOOD).site == "mercy"


def test_the_file_comes_before_the_environment(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(passphrase.VARIABLE, "another one altogether")
    (tmp_path / "passphrase").write_text(GOOD)
    assert keygen(out, "--passphrase-file", str(tmp_path / "passphrase")) == 0
    assert load_key(out, GOOD).site == "mercy"


def test_a_typed_passphrase_is_asked_for_twice(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, GOOD, GOOD)
    assert keygen(out) == 0
    assert load_key(out, GOOD).site == "mercy"


def test_two_different_passphrases_make_no_key(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, GOOD, GOOD + "r")
    assert keygen(out) == 4
    assert "the two passphrases differ" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("how", ["environment", "file", "typed"])
def test_an_empty_passphrase_makes_no_key(
    how: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more: list[str] = []
    if how == "environment":
        monkeypatch.setenv(passphrase.VARIABLE, "")
    elif how == "file":
        (tmp_path / "passphrase").write_text("\n")
        more = ["--passphrase-file", str(tmp_path / "passphrase")]
    else:
        say(monkeypatch, "", "")
    assert keygen(out, *more) == 4
    assert "the passphrase is empty" in capsys.readouterr().err
    assert not out.exists()


def test_a_short_passphrase_is_warned_of(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(passphrase.VARIABLE, "hunter2")
    assert keygen(out) == 0
    warned = capsys.readouterr().err
    assert "a passphrase of 7 characters is short" in warned
    assert "hunter2" not in warned
    monkeypatch.setenv(passphrase.VARIABLE, GOOD)
    assert keygen(out.with_name("other.key")) == 0
    assert "is short" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["keygen", "--site", "a/b", "--out", "{out}"], 4, "cannot name a site"),
        (["keygen", "--site", "a"], 2, "--out"),
        (["keygen", "--site", "a", "--out", "{out}", "--passphrase", "x"], 2, "no option '--passphrase'"),
        (["keygen", "--site", "a", "--out", "{out}"], 4, "no terminal to ask for the passphrase"),
        (["keygen", "--site", "a", "--out", "{out}", "--passphrase-file", "/no/such"], 3, "no such file"),
        (["inspect", "/no/such.key"], 3, "no such file"),
        (["inspect", "/dev/null"], 3, "is empty"),
        (["inspect", "/"], 3, "cannot read the file"),
        ([], 2, "COMMAND"),
        (["forge"], 2, "invalid choice"),
    ],
)
def test_bad_use_is_one_line_and_the_documented_exit_code(
    arguments: list[str], code: int, words: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([each.replace("{out}", str(out)) for each in arguments]) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not out.exists()


def test_a_key_is_never_overwritten(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(passphrase.VARIABLE, GOOD)
    assert keygen(out) == 0
    before = out.read_bytes()
    assert keygen(out) == 3
    assert "is there already" in capsys.readouterr().err
    assert out.read_bytes() == before


# --- the installed command -------------------------------------------------------------------------------------------


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("medveil-crypto")
    return subprocess.run(
        [script, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_makes_a_key_and_reads_it_back(out: Path) -> None:
    made = command("keygen", "--site", "mercy", "--out", str(out), MEDVEIL_PASSPHRASE=GOOD)
    assert (made.returncode, out.stat().st_mode & 0o777) == (0, 0o600)
    seen = command("inspect", str(out), "--json")
    assert json.loads(seen.stdout)["kdf"]["n"] == 2**17
    out.write_bytes(out.read_bytes()[:-20])
    broken = command("inspect", str(out))
    assert (broken.returncode, broken.stdout) == (3, "")
    assert broken.stderr.startswith(f"error: {out}: is cut short")
    assert "Traceback" not in broken.stderr


COMMANDS = ["keygen", "inspect", "rotate", "recipient", "share", "open"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"example: medveil-crypto {command}" in said
    assert ("--json" in said) is bool(command)


def test_the_command_starts_without_the_heavy_packages() -> None:
    code = "import sys, crypto.cli; print(sorted({'torch', 'timm', 'flwr', 'scipy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_ciphers_work_where_torch_is_not_imported() -> None:
    code = """
import sys, numpy as np
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey
for scheme in ("block-pixel", "aes-ctr", "none"):
    cipher = make_cipher(CipherConfig(scheme, 4), SiteKey.generate("a"), channels=1, height=8, width=8)
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    nonces = cipher.fresh_nonces(1)
    assert (cipher.decrypt(cipher.encrypt(image, nonces), nonces) == image).all()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
