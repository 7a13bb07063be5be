"""Cases, knowledge, the measurement's arms, verdicts and result files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medveil.errors import ConfigError, DataError, FormatError, IntegrityError
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Scores, Target
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import VERDICTS, Measured, Result, read_result, verdict_of

Make = Callable[..., Any]


class Reader(Attack):
    """What the owner does: decrypt with the key. Under another key it must fail."""

    name = "reader"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.KEY})
    text = "Decrypts."
    main = "ssim"
    margin = 0.1
    metrics = (Metric("ssim", "decrypted", "SSIM", chance=Chance.IMAGE),)

    def recover(self, seen: Seen, rng: np.random.Generator) -> np.ndarray:
        return seen.cipher.decrypt(seen.ciphertexts.images, seen.ciphertexts.nonces)

    def score(self, found: np.ndarray, case: Case) -> Scores:
        return {"ssim": float(scores.ssim(found, case.targets.pixels).mean())}

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        for images in case.guessed:
            yield {"ssim": float(scores.ssim(images, case.targets.pixels).mean())}


class Idle(Reader):
    """Looks at nothing: an attack that is broken."""

    name = "idle"
    knowledge = frozenset({Knowledge.CIPHERTEXTS})

    def recover(self, seen: Seen, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 256, seen.ciphertexts.images.shape, dtype=np.uint8)


def test_the_owner_succeeds_and_another_key_does_not(attack_setting: Make) -> None:
    result = measure(Reader(), attack_setting(keys=3)).result
    ssim = result.metrics["ssim"]
    assert result.verdict == "succeeds"
    assert ssim.target == ssim.control == 1.0
    assert ssim.wrong_key is not None and ssim.wrong_key < 0.1
    assert ssim.chance is not None and 0 < ssim.chance < 0.9
    assert result.seeds == [0, 1, 2]
    assert result.n == 12


def test_an_attack_that_fails_on_its_control_is_broken(attack_setting: Make) -> None:
    result = measure(Idle(), attack_setting(keys=3)).result
    assert result.verdict == "broken attack"
    assert result.metrics["ssim"].wrong_key is None
    assert "nothing made under a key" in result.reasons["wrong_key"]


def test_few_keys_and_images_are_said(attack_setting: Make) -> None:
    notes = " ".join(measure(Reader(), attack_setting(keys=3)).result.notes)
    assert "3 keys" in notes
    assert "4 images" in notes


def test_an_attack_that_does_not_apply_says_why_and_has_no_figures(attack_setting: Make) -> None:
    class Picky(Reader):
        def applies_to(self, target: Target) -> str | None:
            return f"{target.scheme} is not for it"

    result = measure(Picky(), attack_setting()).result
    assert (result.verdict, result.reason, result.metrics) == ("not applicable", "block-pixel is not for it", {})


@pytest.mark.parametrize("known", list(Knowledge))
def test_an_attack_sees_what_it_names_and_nothing_else(attack_setting: Make, known: Knowledge) -> None:
    case = attack_setting().case(0, known=2, linkable=2, decoys=3, labelled=4)
    case.extra = {Knowledge.UPDATES: "updates", Knowledge.WEIGHTS: "weights"}
    seen = case.seen({known})
    ways = {
        Knowledge.CIPHERTEXTS: "ciphertexts",
        Knowledge.PUBLIC: "public",
        Knowledge.CANDIDATES: "candidates",
        Knowledge.PAIRS: "pairs",
        Knowledge.CHOSEN: "oracle",
        Knowledge.LABELLED: "labelled",
        Knowledge.UPDATES: "updates",
        Knowledge.WEIGHTS: "weights",
        Knowledge.KEY: "cipher",
    }
    assert set(ways) == set(Knowledge)
    for each, name in ways.items():
        if each is known:
            assert getattr(seen, name) is not None
        else:
            with pytest.raises(LookupError, match="does not declare"):
                getattr(seen, name)
    # No array of the truth hangs on what the attacker holds.
    held = [value for value in vars(seen).values() if isinstance(value, np.ndarray | Case)]
    assert held == []


def test_what_an_attacker_sees_cannot_be_written_to(attack_setting: Make) -> None:
    seen = attack_setting().case(0, known=1).seen({Knowledge.CIPHERTEXTS, Knowledge.PAIRS, Knowledge.PUBLIC})
    for array in (seen.ciphertexts.images, seen.pairs.plain, seen.pairs.hidden.images, seen.public.pixels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_pairs_targets_and_public_images_are_of_other_patients(attack_setting: Make) -> None:
    setting = attack_setting(keys=2, images=20)
    material = setting.material
    groups = material.groups_of
    assert not groups(material.attacked) & groups(material.public)
    assert len(material.attacked) + len(material.public) == len(material.items)
    for key in range(2):
        case = setting.case(key, known=6)
        place = {pixels.tobytes(): i for i, pixels in enumerate(material.images(range(len(material.items))).pixels)}
        targets = [place[each.tobytes()] for each in case.targets.pixels]
        known = [place[each.tobytes()] for each in case.known.pixels]
        assert set(targets) | set(known) <= set(material.attacked.tolist())
        assert not groups(targets) & groups(known)


def test_control_and_target_are_the_same_images_and_each_key_draws_its_own(attack_setting: Make) -> None:
    setting = attack_setting(images=8)
    control = setting.under("none")
    assert np.array_equal(setting.case(1).targets.pixels, control.case(1).targets.pixels)
    assert np.array_equal(control.case(1).hidden.images, control.case(1).targets.pixels)
    assert not np.array_equal(setting.case(0).targets.pixels, setting.case(1).targets.pixels)
    assert (
        setting.cipher(0).fingerprint != setting.cipher(1).fingerprint != setting.cipher(1, site="another").fingerprint
    )


def test_candidates_hold_the_first_targets_and_say_where(attack_setting: Make) -> None:
    case = attack_setting(images=6).case(0, linkable=4, decoys=5)
    assert len(case.candidates) == 9
    assert case.linked[4:].tolist() == [-1, -1]
    assert np.array_equal(case.candidates[case.linked[:4]], case.targets.pixels[:4])
    assert sorted(case.linked[:4].tolist()) != case.linked[:4].tolist() or case.linked[0] != 0


def test_nonces_of_a_key_never_repeat(attack_setting: Make) -> None:
    case = attack_setting("aes-ctr").case(0, known=3)
    seen = case.seen({Knowledge.CIPHERTEXTS, Knowledge.PAIRS, Knowledge.CHOSEN})
    asked = [seen.oracle(case.known.pixels[:1]).nonces for _ in range(3)]
    nonces = np.concatenate([seen.ciphertexts.nonces, seen.pairs.hidden.nonces, *asked])
    assert len(np.unique(nonces, axis=0)) == len(nonces) == 4 + 3 + 3


def test_too_few_images_are_refused_with_the_numbers(attack_setting: Make) -> None:
    with pytest.raises(DataError, match=r"\d+ images to attack can be drawn, and 100 are needed"):
        attack_setting(images=100).case(0)
    with pytest.raises(ConfigError, match="not whole blocks of 5"):
        attack_setting(block=5)


def _measured(
    target: float, control: float, chance: float, *, direction: str = "higher", half: float = 0.02
) -> Measured:
    arms = {"target": target, "control": control, "chance": chance}
    return Measured(
        **arms,
        wrong_key=None,
        ci95={arm: [value - 0.02, value + 0.02] for arm, value in arms.items()},
        unit="share",
        direction=direction,
        chance_rule="",
        text="",
        values={},
    )


@pytest.mark.parametrize(
    ("target", "control", "chance", "verdict"),
    [
        (0.9, 1.0, 0.1, "succeeds"),
        (0.20, 1.0, 0.1, "above chance"),
        (0.13, 1.0, 0.1, "at chance"),
        (0.01, 1.0, 0.1, "at chance"),
        # The control's lower bound, 0.23, does not clear 0.12 by 0.15, whatever the target gave.
        (0.9, 0.25, 0.1, "broken attack"),
        (0.9, 0.30, 0.1, "succeeds"),
    ],
)
def test_verdicts_follow_the_rule_in_both_directions(
    target: float, control: float, chance: float, verdict: str
) -> None:
    for direction, sign in (("higher", 1), ("lower", -1)):
        main = _measured(sign * target, sign * control, sign * chance, direction=direction)
        assert verdict_of(kind="attack", reason=None, main=main, margin=0.15) == verdict
        assert verdict_of(kind="diagnostic", reason=None, main=main, margin=0.15) == "diagnostic"
        assert verdict_of(kind="attack", reason="why", main=main, margin=0.15) == "not applicable"


def test_nothing_is_ever_called_secure() -> None:
    assert not {"secure", "safe", "resists"} & {word for verdict in VERDICTS for word in verdict.split()}


def test_an_undefined_arm_never_helps_the_attack() -> None:
    main = _measured(0.9, 1.0, 0.1)
    without = Measured(**{**vars(main), "chance": None})
    assert verdict_of(kind="attack", reason=None, main=without, margin=0.1) == "broken attack"


@pytest.fixture
def written(attack_setting: Make, tmp_path: Path) -> tuple[Result, Path]:
    result = measure(Reader(), attack_setting(keys=2)).result
    return result, result.write(tmp_path)


def test_a_result_reads_back_as_it_was_written(written: tuple[Result, Path]) -> None:
    result, path = written
    assert read_result(path) == result
    document = json.loads(path.read_text())
    assert (document["format"], document["version"]) == ("medveil-attack", 1)
    wanted = {"attack", "knowledge", "applicable", "reason", "n", "keys", "seeds", "metrics", "seconds"}
    assert wanted <= document.keys()
    assert {"target", "control", "chance", "wrong_key", "ci95"} <= document["metrics"]["ssim"].keys()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"version": 2}, FormatError, "reads up to 1"),
        ({"format": "medveil-key"}, FormatError, "not a medveil-attack"),
        ({"keys": "ten"}, IntegrityError, "'keys' is 'ten'"),
        ({"keys": True}, IntegrityError, "'keys' is True"),
        ({"verdict": "at chance"}, IntegrityError, "its figures say 'succeeds'"),
        ({"applicable": False}, IntegrityError, "contradict"),
        ({"metrics": {}}, IntegrityError, "lacks its main metric"),
        ({"metrics": {"ssim": 1}}, IntegrityError, "no mapping"),
        ({"metrics": {"ssim": {"target": 1.0}}}, IntegrityError, "lacks 'metrics.ssim."),
        ({"extra": 1}, IntegrityError, "unknown 'extra'"),
        ({"seeds": None}, IntegrityError, "'seeds' is None"),
    ],
)
def test_a_changed_result_is_refused_by_name(
    written: tuple[Result, Path], change: dict[str, Any], error: type[Exception], words: str
) -> None:
    path = written[1]
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(error, match=words):
        read_result(path)


def test_a_result_that_lacks_a_field_or_is_cut_is_refused(written: tuple[Result, Path]) -> None:
    path = written[1]
    document = json.loads(path.read_text())
    del document["seconds"]
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="lacks 'seconds'"):
        read_result(path)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(IntegrityError, match="not a whole JSON"):
        read_result(path)
