from __future__ import annotations

import contextlib
import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.fingerprints import confirm_fingerprint, tidied
from medveil.errors import ConfigError, KeyMaterialError

FOUND = "4afe90568c169867276000a58b0307d2"

prints = st.text("0123456789abcdef", min_size=32, max_size=32)


def confirm(given: str | None, found: str = FOUND) -> str:
    return confirm_fingerprint(found, given, whose="the recipient county", source="county")


class Terminal(io.StringIO):
    """A person who types one line."""

    def isatty(self) -> bool:
        return True


class Person(Terminal):
    """A person who sees the question and types the groups that are left out, as another channel said them."""

    def __init__(self, capsys: pytest.CaptureFixture[str], heard: str, written: str = "{} {}") -> None:
        super().__init__()
        self.capsys, self.heard, self.written, self.seen = capsys, heard, written, ""

    def readline(self, size: int | None = -1, /) -> str:
        self.seen = self.capsys.readouterr().err
        groups = [self.heard[start : start + 4] for start in range(0, 32, 4)]
        line = self.seen.splitlines()[1].strip()
        shown = [line[start : start + 4] for start in range(0, 32, 4)]
        return self.written.format(*(groups[i] for i, group in enumerate(shown) if group == "____")) + "\n"


@pytest.mark.parametrize(
    "given", [FOUND, FOUND.upper(), "4afe 9056 8c16 9867 2760 00a5 8b03 07d2", ":".join(re.findall("..", FOUND))]
)
def test_the_right_one_is_taken_as_people_write_it(given: str) -> None:
    assert confirm(given) == FOUND


@given(prints, prints)
def test_any_other_one_is_refused(found: str, given: str) -> None:
    if found == given:
        assert confirm(given, found) == found
        return
    with pytest.raises(KeyMaterialError, match="the recipient county has another fingerprint") as caught:
        confirm(given, found)
    # Said in the error, the file's own would only be pasted into the next attempt.
    assert found not in str(caught.value)


@given(prints, st.integers(0, 31), st.sampled_from("0123456789abcdef"))
def test_one_other_digit_is_enough(found: str, position: int, digit: str) -> None:
    near = found[:position] + digit + found[position + 1 :]
    if near != found:
        with pytest.raises(KeyMaterialError, match="another fingerprint"):
            confirm(near, found)


@pytest.mark.parametrize("given", ["", "y", "yes", FOUND[:8], FOUND[:-1], FOUND + "0", "g" * 32, "\x1b[2J", "٠" * 32])
def test_what_is_no_fingerprint_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="is no fingerprint") as caught:
        confirm(given)
    assert str(caught.value).isprintable()


@given(st.text())
def test_nothing_but_a_fingerprint_is_tidied(given: str) -> None:
    with contextlib.suppress(ConfigError, KeyMaterialError):
        assert re.fullmatch("[0-9a-f]{32}", tidied(given))


def test_the_fingerprint_of_a_simulated_key_is_refused() -> None:
    with pytest.raises(KeyMaterialError, match="of a simulated key"):
        confirm("sim-" + FOUND)


def test_without_a_terminal_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(FOUND + "\n"))
    with pytest.raises(KeyMaterialError, match="was not confirmed; give --fingerprint"):
        confirm(None)


@pytest.mark.parametrize("written", ["{}{}", "{} {}", "  {}-{}  "])
def test_at_a_terminal_the_missing_digits_are_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], written: str
) -> None:
    person = Person(capsys, FOUND.upper(), written)
    monkeypatch.setattr(sys, "stdin", person)
    assert confirm(None) == FOUND
    assert "the recipient county" in person.seen
    assert person.seen.splitlines()[1].count("____") == 2
    assert len(re.findall("[0-9a-f]", person.seen.splitlines()[1])) == 24


def test_whoever_heard_another_fingerprint_confirms_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Person(capsys, "00112233445566778899aabbccddeeff"))
    with pytest.raises(KeyMaterialError, match="these are not the missing digits"):
        confirm(None)


@pytest.mark.parametrize("typed", ["", "\n", "y\n", "yes\n", FOUND[:8] + "\n", FOUND + "\n"])
def test_neither_yes_nor_the_first_digits_nor_silence_confirms(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    # The groups asked for are drawn at random; the first two are, once in 28.
    monkeypatch.setattr("random.SystemRandom.sample", lambda *_: [6, 3])
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    with pytest.raises(KeyMaterialError, match="was not confirmed"):
        confirm(None)


def test_the_groups_asked_for_cannot_be_foreseen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = set()
    for _ in range(200):
        person = Person(capsys, FOUND)
        monkeypatch.setattr(sys, "stdin", person)
        confirm(None)
        asked.add(person.seen.splitlines()[1])
    # 28 pairs: that fewer than 20 of them turn up in 200 draws is less likely than 1 in 10**12.
    assert len(asked) >= 20


def test_the_question_leaves_stdout_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("random.SystemRandom.sample", lambda *_: [0, 1])
    monkeypatch.setattr(sys, "stdin", Terminal(FOUND[:8] + "\n"))
    assert confirm(None) == FOUND
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "    ________8c169867276000a58b0307d2\n" in shown.err
