"""`medveil-crypto rotate`, `recipient`, `share`, `open`, and `inspect` of what they write."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crypto import passphrase, sealed_file
from crypto.cli import main
from crypto.documents import checksum
from crypto.keyfile import load_keyring, save_key
from crypto.keys import SiteKey
from crypto.recipient import RecipientKey, load_recipient, save_recipient

GOOD = "correct horse battery staple"
NEW = "five words or more: café"

pytestmark = pytest.mark.usefixtures("cheap_scrypt")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A consortium's key, a recipient, and a new passphrase: made once, as each write waits for the disk."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_file, "SCRYPT_N", 2**4)
        save_key(folder / "consortium.key", SiteKey.generate("consortium"), GOOD)
        save_recipient(folder / "county.recipient", RecipientKey.generate("county"), GOOD)
    (folder / "new.txt").write_text(NEW)
    (folder / "new.txt").chmod(0o600)
    return folder


@pytest.fixture(autouse=True)
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with copies of these, their passphrase in the environment."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(passphrase.VARIABLE, GOOD)
    monkeypatch.delenv(passphrase.CREDENTIALS, raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """Run a command that must end with this code; its output and its complaints."""
    assert main(list(arguments)) == code, capsys.readouterr().err
    shown = capsys.readouterr()
    for secret in (GOOD, NEW):
        assert secret not in shown.out + shown.err
    return shown.out, shown.err


def recipient_print() -> str:
    return load_recipient("county.recipient.pub").fingerprint


def key_print() -> str:
    return load_keyring("consortium.key", GOOD).current.fingerprint


def share(capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> tuple[str, str]:
    given = () if "--fingerprint" in more else ("--fingerprint", recipient_print())
    fixed = ("share", "--key", "consortium.key", "--to", "county.recipient.pub", "--out", "county.shared")
    return run(capsys, *fixed, *given, *more, code=code)


def open_it(capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> tuple[str, str]:
    given = () if "--fingerprint" in more else ("--fingerprint", key_print())
    fixed = ("open", "county.shared", "--recipient", "county.recipient", "--out", "opened.key")
    return run(capsys, *fixed, *given, *more, code=code)


def refused(said: tuple[str, str], words: str) -> None:
    """One line on stderr, with these words, and nothing on stdout."""
    out, err = said
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


# --- rotate ----------------------------------------------------------------------------------------------------------


def test_rotate_says_what_stays_under_the_old_key(capsys: pytest.CaptureFixture[str]) -> None:
    old = key_print()
    out, err = run(capsys, "rotate", "consortium.key")
    ring = load_keyring("consortium.key", GOOD)
    assert [key.fingerprint for key in ring.retired] == [old]
    assert ring.current.fingerprint in out
    assert f"What was hidden under {old} stays under it" in err
    assert "hide it anew" in err


def test_rotate_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    old = key_print()
    out, _ = run(capsys, "rotate", "consortium.key", "--json")
    assert json.loads(out) == {
        "file": "consortium.key",
        "site": "consortium",
        "fingerprint": key_print(),
        "retired": [old],
    }


def test_rotate_takes_a_new_passphrase(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "rotate", "consortium.key", "--new-passphrase-file", "new.txt")
    assert len(load_keyring("consortium.key", NEW).retired) == 1
    refused(run(capsys, "rotate", "consortium.key", code=4), "wrong passphrase")


@pytest.mark.parametrize("file", ["consortium.key", "county.recipient"])
def test_a_passphrase_is_changed_and_nothing_else(capsys: pytest.CaptureFixture[str], file: str) -> None:
    before, (old, _) = json.loads(Path(file).read_text()), run(capsys, "inspect", file, "--json")
    link = Path("link")
    link.symlink_to(file)
    out, err = run(capsys, "passphrase", str(link), "--new-passphrase-file", "new.txt", "--json")
    assert json.loads(out) == {"file": "link", "fingerprint": json.loads(old)["fingerprint"]}
    assert "old file still open with the old passphrase" in err
    assert link.is_symlink()
    assert run(capsys, "inspect", file, "--json")[0] == old
    after = json.loads(Path(file).read_text())
    assert after["ciphertext"] != before["ciphertext"]
    assert after["kdf"]["salt"] != before["kdf"]["salt"]
    assert Path(file).stat().st_mode & 0o777 == 0o600
    refused(run(capsys, "passphrase", file, "--new-passphrase-file", "new.txt", code=4), "wrong passphrase")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(passphrase.VARIABLE, NEW)
        passphrase.forget()
        refused(run(capsys, "passphrase", file, "--new-passphrase-file", "new.txt", code=4), "is the old one")
        assert json.loads(Path(file).read_text()) == after


def test_what_the_key_hid_opens_after_its_passphrase_changed(capsys: pytest.CaptureFixture[str]) -> None:
    first = load_keyring("consortium.key", GOOD)
    run(capsys, "rotate", "consortium.key")
    ring = load_keyring("consortium.key", GOOD)
    run(capsys, "passphrase", "consortium.key", "--new-passphrase-file", "new.txt")
    again = load_keyring("consortium.key", NEW)
    assert [key.secret for key in again] == [key.secret for key in ring]
    assert again.find(first.current.fingerprint).secret == first.current.secret
    assert again.dates == ring.dates


@pytest.mark.parametrize("file", ["county.recipient.pub", "new.txt", "none"])
def test_what_has_no_passphrase_is_refused_before_one_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)
    passphrase.forget()
    assert main(["passphrase", file]) in {2, 3}
    assert "there is no terminal" not in capsys.readouterr().err


def test_a_new_passphrase_is_never_taken_from_where_the_old_one_is(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("consortium.key").read_bytes()
    refused(run(capsys, "passphrase", "consortium.key", code=4), "name a file with --new-passphrase-file")
    assert Path("consortium.key").read_bytes() == before


def test_a_new_passphrase_is_asked_for_twice() -> None:
    session = Session("passphrase", "consortium.key")
    session.until("Passphrase: ")
    session.type(GOOD)
    session.until("New passphrase: ")
    session.type(NEW)
    session.until("New passphrase again: ")
    session.type(NEW)
    assert session.end() == 0
    assert load_keyring("consortium.key", NEW).current.fingerprint


def test_keygen_says_what_is_lost_with_a_key_and_how_to_put_a_copy_away(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run(capsys, "keygen", "--site", "mercy", "--out", "mercy.key")
    with pytest.raises(SystemExit):
        main(["keygen", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for said in (" ".join(err.split()), told):
        assert "nothing hidden under the key can be shown again" in said
        assert "sealed identities included" in said
        assert "'medveil-crypto recipient'" in said
        assert "'medveil-crypto share --key FILE" in said
        assert "after 'rotate', with 'share --with-retired'" in said


def test_rotate_of_what_is_no_key_file_asks_for_no_passphrase(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)
    passphrase.forget()
    refused(run(capsys, "rotate", "county.recipient", code=2), "is not a medveil-key file")
    refused(run(capsys, "rotate", "none.key", code=3), "no such file")
    assert not Path("none.key.lock").exists()


# --- recipient -------------------------------------------------------------------------------------------------------


def test_recipient_writes_both_halves(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "recipient", "--name", "Mercy Hospital", "--out", "mercy.recipient", "--json")
    made = load_recipient("mercy.recipient.pub")
    assert json.loads(out) == {
        "file": "mercy.recipient",
        "public": "mercy.recipient.pub",
        "name": "Mercy Hospital",
        "fingerprint": made.fingerprint,
    }
    assert "over another channel" in err


@pytest.mark.parametrize("taken", ["mercy.recipient", "mercy.recipient.pub"])
def test_recipient_never_overwrites(capsys: pytest.CaptureFixture[str], taken: str) -> None:
    Path(taken).write_text("mine")
    refused(run(capsys, "recipient", "--name", "mercy", "--out", "mercy.recipient", code=3), "is there already")
    assert Path(taken).read_text() == "mine"


def test_recipient_refuses_a_bad_name(capsys: pytest.CaptureFixture[str]) -> None:
    refused(run(capsys, "recipient", "--name", "a/b", "--out", "a", code=4), "cannot name a site")


# --- share and open --------------------------------------------------------------------------------------------------


def test_a_key_goes_from_one_site_to_another(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = share(capsys, "--json")
    assert json.loads(out) == {
        "file": "county.shared",
        "name": "county",
        "recipient": recipient_print(),
        "fingerprint": key_print(),
        "retired": [],
    }
    assert f"Read county the key's fingerprint {key_print()} over another channel" in err
    out, err = open_it(capsys, "--json")
    assert json.loads(out) == {
        "file": "opened.key",
        "site": "county",
        "fingerprint": key_print(),
        "retired": [],
    }
    assert "names county as its site" in err
    opened = load_keyring("opened.key", GOOD)
    assert opened.current.secret == load_keyring("consortium.key", GOOD).current.secret
    assert Path("opened.key").stat().st_mode & 0o777 == 0o600


def test_retired_keys_go_along_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "rotate", "consortium.key")
    _, err = share(capsys)
    assert "The retired keys stay here" in err
    assert "--with-retired" in err
    open_it(capsys)
    assert load_keyring("opened.key", GOOD).retired == ()
    Path("county.shared").unlink()
    Path("opened.key").unlink()
    _, err = share(capsys, "--with-retired")
    assert "stay here" not in err
    open_it(capsys)
    assert [key.secret for key in load_keyring("opened.key", GOOD)] == [
        key.secret for key in load_keyring("consortium.key", GOOD)
    ]


def test_open_can_name_another_site_and_another_passphrase(capsys: pytest.CaptureFixture[str]) -> None:
    share(capsys)
    open_it(capsys, "--site", "County Hospital", "--new-passphrase-file", "new.txt")
    assert load_keyring("opened.key", NEW).current.site == "County Hospital"


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("0" * 32, 4, "has another fingerprint than the one given"),
        ("yes", 2, "is no fingerprint"),
        ("", 2, "is no fingerprint"),
        ("sim-" + "0" * 32, 4, "of a simulated key"),
    ],
)
@pytest.mark.parametrize("command", [share, open_it])
def test_nothing_happens_under_another_fingerprint(
    *, capsys: pytest.CaptureFixture[str], command: Callable[..., Any], given: str, code: int, words: str
) -> None:
    if command is open_it:
        share(capsys)
    before = sorted(os.listdir())
    refused(command(capsys, "--fingerprint", given, code=code), words)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("command", ["share", "open"])
def test_nothing_happens_without_a_fingerprint_and_a_terminal(capsys: pytest.CaptureFixture[str], command: str) -> None:
    share(capsys)
    arguments = {
        "share": ["share", "--key", "consortium.key", "--to", "county.recipient.pub", "--out", "new"],
        "open": ["open", "county.shared", "--recipient", "county.recipient", "--out", "new"],
    }[command]
    refused(run(capsys, *arguments, code=4), "was not confirmed; give --fingerprint")
    assert not Path("new").exists()


def test_a_recipient_put_in_anothers_place_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    right = recipient_print()
    Path("county.recipient.pub").unlink()
    Path("county.recipient").unlink()
    save_recipient("county.recipient", RecipientKey.generate("county"), GOOD)
    refused(share(capsys, "--fingerprint", right, code=4), "somebody may have put another in its place")


def test_a_key_put_in_anothers_place_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    right = key_print()
    Path("consortium.key").unlink()
    save_key("consortium.key", SiteKey.generate("consortium"), GOOD)
    share(capsys)
    refused(open_it(capsys, "--fingerprint", right, code=4), "somebody may have put another in its place")
    assert not Path("opened.key").exists()


@pytest.mark.parametrize("command", [share, open_it])
def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str], command: Callable[..., Any]) -> None:
    share(capsys)
    Path("opened.key").write_text("mine")
    before = Path("county.shared").read_bytes()
    refused(command(capsys, code=3), "is there already")
    assert (Path("county.shared").read_bytes(), Path("opened.key").read_text()) == (before, "mine")


def test_a_site_name_is_checked_before_anything(capsys: pytest.CaptureFixture[str]) -> None:
    share(capsys)
    refused(open_it(capsys, "--site", "../..", code=4), "cannot name a site")


def test_the_wrong_file_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ("--out", "new", "--fingerprint", "0" * 32)
    private = run(capsys, "share", "--key", "consortium.key", "--to", "county.recipient", *wrong, code=2)
    refused(private, "is not a medveil-recipient-public file; name the FILE.pub")
    share(capsys)
    public = run(capsys, "open", "county.shared", "--recipient", "county.recipient.pub", *wrong, code=2)
    refused(public, "is not a medveil-recipient file; name the file that medveil-crypto recipient wrote, not its .pub")
    key = run(capsys, "open", "consortium.key", "--recipient", "county.recipient", *wrong, code=2)
    refused(key, "is not a medveil-shared-key file; name the file that medveil-crypto share wrote")


# --- inspect ---------------------------------------------------------------------------------------------------------


def test_inspect_says_what_each_file_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    share(capsys)
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)
    passphrase.forget()
    expected = {
        "consortium.key": ("the keys of a site, sealed", "medveil-key", 2),
        "county.recipient": ("a recipient's private half, sealed", "medveil-recipient", 1),
        "county.recipient.pub": ("a recipient's public half", "medveil-recipient-public", 1),
        "county.shared": ("a key shared with a recipient", "medveil-shared-key", 1),
    }
    for file, (what, name, version) in expected.items():
        out, err = run(capsys, "inspect", file)
        assert what in out
        assert f"{name} {version}" in out
        out, err = run(capsys, "inspect", file, "--json")
        shown = json.loads(out)
        assert (shown["what"], shown["format"], shown["version"], err) == (what, name, version, "")
        assert re.fullmatch("[0-9a-f]{32}", shown["fingerprint"])


def test_inspect_shows_every_retired_key_on_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "rotate", "consortium.key")
    run(capsys, "rotate", "consortium.key")
    out, _ = run(capsys, "inspect", "consortium.key")
    for key in load_keyring("consortium.key", GOOD).retired:
        assert [line for line in out.splitlines() if line.endswith(key.fingerprint)]


def test_inspect_finds_the_format_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(Path("consortium.key").read_text())
    Path("sorted.key").write_text(json.dumps(document, sort_keys=True))
    out, _ = run(capsys, "inspect", "sorted.key", "--json")
    assert json.loads(out)["fingerprint"] == key_print()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", 3, "is empty"),
        (b"hello", 2, "is no file of keys"),
        (b"[]", 2, "is no file of keys"),
        (b'{"format": ["medveil-key"]}', 2, "is no file of keys"),
        (b'{"format": "medveil-hidden", "version": 1}', 2, "is no file of keys"),
        (b'{"format": "medveil-key", "version": 9}', 2, "is medveil-key version 9; this MedVeil reads up to 2"),
        (b'{"format": "medveil-shared-key", "version": 1', 3, "is cut short or damaged"),
    ],
)
def test_inspect_refuses_in_one_line(capsys: pytest.CaptureFixture[str], content: bytes, code: int, words: str) -> None:
    Path("file").write_bytes(content)
    refused(run(capsys, "inspect", "file", code=code), words)


def test_inspect_of_an_edited_file_does_not_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    share(capsys)
    document = json.loads(Path("county.shared").read_text()) | {"name": "\x1b[2J"}
    Path("county.shared").write_text(json.dumps(document | {"checksum": checksum(document)}))
    refused(run(capsys, "inspect", "county.shared", code=3), "has a header that no medveil-shared-key file has")


def test_a_file_name_that_is_no_utf8_is_printed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9.key")
    out, _ = run(capsys, "keygen", "--site", "mercy", "--out", name, "--json")
    assert json.loads(out)["file"] == name
    run(capsys, "keygen", "--site", "mercy", "--out", "é\n.key")


# --- a person at a real terminal -------------------------------------------------------------------------------------


class Session:
    """The installed command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        script = Path(sys.executable).with_name("medveil-crypto")
        environment = {name: value for name, value in os.environ.items() if name != passphrase.VARIABLE}
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.execve(script, [str(script), *arguments], environment)
        self.screen = ""

    def until(self, words: str, seconds: float = 60) -> str:
        """Read the screen until these words stand on it."""
        end = time.monotonic() + seconds
        while words not in self.screen and time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.2)[0]:
                self.screen += self._read()
        assert words in self.screen, self.screen
        return self.screen

    def type(self, text: str) -> None:
        os.write(self.terminal, f"{text}\n".encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        while text := self._read():
            self.screen += text
        code = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        os.close(self.terminal)
        return code

    def _read(self) -> str:
        try:
            return os.read(self.terminal, 4096).decode()
        except OSError:
            return ""


SHARE = ("share", "--key", "consortium.key", "--to", "county.recipient.pub", "--out", "county.shared")


def test_a_person_confirms_the_fingerprint_and_types_the_passphrase() -> None:
    session = Session(*SHARE)
    shown = re.findall("....", session.until("type the missing digits: ").split("county:")[1].split()[0])
    whole = re.findall("....", recipient_print())
    assert [group for group in shown if group != "____"] == [
        group for group, seen in zip(whole, shown, strict=True) if seen != "____"
    ]
    session.type(" ".join(group for group, seen in zip(whole, shown, strict=True) if seen == "____"))
    session.until("Passphrase: ")
    session.type(GOOD)
    assert session.end() == 0, session.screen
    assert Path("county.shared").exists()
    # getpass does not echo.
    assert GOOD not in session.screen


@pytest.mark.parametrize("typed", ["y", "", "0000 0000 1"])
def test_a_person_who_does_not_compare_shares_nothing(typed: str) -> None:
    session = Session(*SHARE)
    session.until("type the missing digits: ")
    session.type(typed)
    assert session.end() == 4
    assert "was not confirmed: these are not the missing digits" in " ".join(session.screen.split())
    assert "Passphrase" not in session.screen
    assert not Path("county.shared").exists()


# --- the door --------------------------------------------------------------------------------------------------------


def test_the_door_opens_without_cryptography_or_numpy() -> None:
    code = """
import sys
from crypto.cli import make_parser
make_parser()
print(sorted({"cryptography", "numpy", "pydicom", "PIL", "torch", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
