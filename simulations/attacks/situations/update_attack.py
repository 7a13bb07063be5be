"""What every attack on updates is: it declares what it needs, and a situation that does not give it is named."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from crypto.base import Geometry, Reading
from medveil.errors import PolicyError
from simulations.attacks.situations.capabilities import Capability, model_of
from simulations.attacks.situations.lacking import lacking_in
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import Situation
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Picture, Scores, mean_scores
from simulations.attacks.study.cases import Case, Pixels, Seen
from simulations.attacks.study.image_attack import EDGES, EITHER, PSNR, SSIM, image_scores
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]
READ = Metric("ssim_read", "structural similarity of recovered and what the model read", "SSIM", chance=Chance.IMAGE)


class UpdateAttack(Attack):
    """An attack on what sites send.

    Attributes
    ----------
    needs : frozenset of Capability
        Without which it does not apply.
    updates : int
        Updates attacked under each key, at most.
    """

    needs: ClassVar[frozenset[Capability]]
    knowledge = frozenset({Knowledge.WEIGHTS})
    in_all = False
    updates: int = 100

    @property
    def threat_model(self) -> str:
        """The letter of the least able attacker of the literature who can do this."""
        return model_of(self.needs)

    def refusal(self, setting: Setting) -> str | None:
        """What it needs and a situation does not give; why MedVeil runs nothing of the kind; or the attack's own."""
        if not isinstance(setting, UpdateSetting):
            return "there are no updates where nothing trains"
        try:
            here = setting.situation
        except PolicyError as error:
            return f"MedVeil refuses such a run: {error}"
        lacking = self.lacking(here)
        if lacking is not None:
            return lacking
        each = here.images * here.sites
        if setting.capped(each) < each:
            return f"an update is made of {each} images, and {setting.at_most} may be had under each key"
        return self.unfit(here, setting.geometry)

    def lacking(self, situation: Situation) -> str | None:
        """Say what the attack needs and a situation does not give, MedVeil's own refusals first; None for nothing."""
        refused = situation.refused()
        if refused is not None:
            return refused
        lacks = lacking_in(situation)
        missing = next((each for each in Capability if each in self.needs and each in lacks), None)
        return None if missing is None else f"needs {missing}: {lacks[missing]}"

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """Say what else keeps the attack from a situation that gives all it needs; None for nothing."""
        return None

    def known_in(self, setting: Setting) -> frozenset[Knowledge]:
        """With the public initial weights or without, as the situation says."""
        assert isinstance(setting, UpdateSetting)
        knows = Knowledge.WEIGHTS if setting.update.knows_weights else Knowledge.UPDATES
        return self.knowledge - {Knowledge.WEIGHTS} | {knows}

    def described(self, setting: Setting) -> dict[str, Any]:
        """The situation beside the cipher; as it was asked for, where there can be none."""
        assert isinstance(setting, UpdateSetting)
        try:
            told = setting.situation.document()
        except PolicyError:
            told = dataclasses.asdict(setting.update)
        return super().described(setting) | {"situation": told}

    def notes(self, setting: Setting) -> list[str]:
        """The situation, and the attacker's letter."""
        assert isinstance(setting, UpdateSetting)
        return [setting.situation.text.capitalize(), f"Threat model {self.threat_model} of Carletti et al. 2025."]

    def control_situation(self, situation: Situation) -> Situation:
        """What the control is in: one plain image, one step of SGD, everything sent and known."""
        return situation.unprotected()

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """As many updates as the images of a key make, or as the attack takes."""
        assert isinstance(setting, UpdateSetting)
        here = self.control_situation(setting.situation) if setting.unprotected else setting.situation
        return update_case(setting, key, here, updates=self.count(setting))

    def among_others(self, setting: Setting, key: int) -> UpdateCase:
        """A case whose candidates are all images attacked, and others of their classes with them."""
        assert isinstance(setting, UpdateSetting)
        case = UpdateAttack.case(self, setting, key)
        case.candidates = np.concatenate([case.targets.pixels, setting.guesses(case.targets, key)[1]])
        return case

    def count(self, setting: UpdateSetting) -> int:
        """Updates under a key; the control attacks as many as the target does, however many images those hold."""
        target = setting.situation
        each = target.images * target.sites
        return min(self.updates, max(1, setting.capped(setting.images) // each))

    @property
    def no_wrong_key(self) -> str | None:
        """Whoever reads updates holds no key."""
        return "the attacker holds updates, and nothing made under a key"


class UpdateImageAttack(UpdateAttack):
    """An attack that ends in images: `invert` gives them for one update, and all the rest is here.

    The order of images in an update is arbitrary, so that recovered images and originals are matched first, and so are
    those of chance. `ssim_read` compares with what the model read: under a shared key that is a ciphertext, which
    attacks on ciphertexts go on from.
    """

    main = SSIM.name

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of images, and the similarity to what the model read."""
        return (SSIM, EITHER, PSNR, EDGES, READ)

    @abstractmethod
    def invert(self, seen: Seen, place: int, rng: np.random.Generator) -> Floats:
        """Images (m, C, H, W) behind update number `place`, as numbers a model reads; at most as many as are in it."""

    def recover(self, seen: Seen, rng: np.random.Generator) -> list[Floats]:
        """Invert each update."""
        return [self.invert(seen, place, rng) for place in range(len(exchange_of(seen)))]

    def score(self, found: Any, case: Case) -> Scores:
        """Match what was recovered from each update with its images, and compare."""
        assert isinstance(case, UpdateCase)
        plain, read = laid_out(found, case)
        largest = 2 ** reading_of(case).bits - 1
        return mean_scores(
            image_scores(plain, case.targets.pixels, largest=case.geometry.largest)
            | {READ.name: scores.ssim(read, case.hidden.images, largest=largest)}
        )

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The mean image, and other images of the classes, matched likewise."""
        assert isinstance(case, UpdateCase)
        for images in case.guessed:
            found, start = [], 0
            for sites in case.hospitals:
                count = sum(len(each.images.labels) for each in sites)
                found.append(as_numbers(images[start : start + count], Reading(case.geometry.bits)))
                start += count
            yield self.score(found, case)

    def pictures(self, found: Any, case: Case) -> list[Picture]:
        """Original, what the model read, recovered."""
        assert isinstance(case, UpdateCase)
        plain, _ = laid_out(found, case)
        read = [] if not case.situation.hides else [Picture("what the model read", case.hidden.images[:4])]
        return [Picture("original", case.targets.pixels[:4]), *read, Picture("recovered", plain[:4])]


def exchange_of(seen: Seen) -> Any:
    """The exchange an attacker sees, with the public initial weights or without."""
    try:
        return seen.weights
    except LookupError:
        return seen.updates


def reading_of(case: UpdateCase) -> Reading:
    """How the models of a case read their images."""
    return case.hospitals[0][0].cipher.reading


def as_numbers(images: Pixels, reading: Reading) -> Floats:
    """Pixels as the numbers a model reads, as `models.vit.normalise`."""
    largest = 2**reading.bits - 1
    made: Floats = reading.gain * (2 * images.astype(np.float64) - largest) / largest
    return made


def as_pixels(numbers: Floats, *, bits: int, gain: float = 1.0) -> Pixels:
    """Undo `as_numbers`: uint8 or uint16 by the bits, rounded and cut to the range."""
    largest = 2**bits - 1
    exact = np.nan_to_num((numbers / gain * largest + largest) / 2)
    made: Pixels = np.clip(np.rint(exact), 0, largest).astype(np.uint8 if bits <= 8 else np.uint16)
    return made


def laid_out(found: list[Floats], case: UpdateCase) -> tuple[Pixels, Pixels]:
    """What was recovered, in the order of the targets: as images, and in the range of what the model read.

    Each original gets a recovered image of its update, by least squared distance over the whole update to either what
    the model read or the plain image, whichever is nearer; where there are fewer, the rest is grey.
    """
    bits, reading = case.geometry.bits, reading_of(case)
    plain = as_numbers(case.targets.pixels, Reading(bits))
    read = as_numbers(case.hidden.images, reading)
    rows, start = [], 0
    for recovered, sites in zip(found, case.hospitals, strict=True):
        count = sum(len(each.images.labels) for each in sites)
        rows.append(_matched(recovered, plain[start : start + count], read[start : start + count]))
        start += count
    laid = np.concatenate(rows)
    return as_pixels(laid, bits=bits), as_pixels(laid, bits=reading.bits, gain=reading.gain)


def _matched(recovered: Floats, plain: Floats, read: Floats) -> Floats:
    grey = np.zeros((max(0, len(plain) - len(recovered)), *plain.shape[1:]))
    given = np.concatenate([np.nan_to_num(recovered), grey])
    ways = []
    for truth in (plain, read):
        cost = ((truth[:, None] - given[None]) ** 2).mean(axis=(2, 3, 4))
        rows, columns = linear_sum_assignment(cost)
        ways.append((float(cost[rows, columns].sum()), columns))
    best: Floats = given[min(ways, key=lambda way: way[0])[1]]
    return best
