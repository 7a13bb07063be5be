"""Confirming a fingerprint: what a file says of itself, against what its owner said over another channel."""

from __future__ import annotations

import random
import re
import sys

from crypto.keys import SIMULATED_PREFIX
from medveil.errors import ConfigError, KeyMaterialError
from medveil.plain import tell

_DIGITS = 32
_GROUP = 4
_ASKED = 2
_BETWEEN = re.compile(r"[\s:-]+")


def confirm_fingerprint(found: str, given: str | None, *, whose: str, source: str) -> str:
    """Return a fingerprint if it is the one its owner gave.

    At a terminal the fingerprint is shown as everywhere, but two of its eight groups of four digits are left out, drawn
    at random, and these must be typed. They cannot be read off the screen; and a forger, who could make a key whose
    *first* eight digits are right (some 2**32 trials), does not know which eight will be asked for.

    Parameters
    ----------
    found
        The file's fingerprint, computed by us: 32 hex digits.
    given
        What the user gave on the command line (blanks, colons and upper case are allowed), or None to ask.
    whose
        Of whom, for example ``"the recipient County Hospital"``.
    source
        Who knows the right one, for example ``"County Hospital"``.

    Returns
    -------
    str
        `found`, confirmed.

    Raises
    ------
    ConfigError
        What was given is no fingerprint.
    KeyMaterialError
        It is another one, or there is nobody to ask.
    """
    if given is not None:
        _check_given(found, given, whose, source)
    else:
        _ask(found, whose, source)
    return found


def tidied(given: str) -> str:
    """A fingerprint as people write it, as we do: 32 hex digits in lower case.

    Raises
    ------
    KeyMaterialError
        It is that of a simulated key.
    ConfigError
        It is none.
    """
    plain = given.strip().lower()
    if plain.startswith(SIMULATED_PREFIX):
        problem = "this is the fingerprint of a simulated key, which protects nothing"
        raise KeyMaterialError(problem, where="--fingerprint", cure="give that of a real key")
    digits = _BETWEEN.sub("", plain)
    if re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", digits) is None:
        raise ConfigError(f"{given[:80]!a} is no fingerprint", where="--fingerprint", cure="it has 32 hex digits")
    return digits


def _check_given(found: str, given: str, whose: str, source: str) -> None:
    # The right one is not said here: it would only be copied from here into the next attempt.
    if tidied(given) != found:
        problem = f"{whose} has another fingerprint than the one given"
        cure = f"ask {source} again; somebody may have put another in its place"
        raise KeyMaterialError(problem, where="--fingerprint", cure=cure)


def _ask(found: str, whose: str, source: str) -> None:
    if not sys.stdin.isatty():
        cure = f"give --fingerprint, as you have it from {source} over another channel"
        raise KeyMaterialError(f"the fingerprint of {whose} was not confirmed", cure=cure)
    groups = [found[start : start + _GROUP] for start in range(0, _DIGITS, _GROUP)]
    asked = sorted(random.SystemRandom().sample(range(len(groups)), _ASKED))
    shown = "".join("____" if index in asked else group for index, group in enumerate(groups))
    # On stderr, so that --json leaves stdout to the result.
    tell(f"Fingerprint of {whose}:", error=True)
    tell(f"    {shown}", error=True)
    tell(
        f"Compare it with what {source} told you over another channel, and type the missing digits: ",
        end="",
        error=True,
    )
    typed = _BETWEEN.sub("", sys.stdin.readline()).lower()
    if typed != "".join(groups[index] for index in asked):
        raise KeyMaterialError(
            f"the fingerprint of {whose} was not confirmed: these are not the missing digits",
            cure=f"ask {source} again; somebody may have put another in its place",
        )
