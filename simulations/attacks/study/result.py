"""The result of an attack: ``NAME.json``, and the rule its verdict follows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_client.intervals import Interval
from medveil.errors import IntegrityError, MedVeilError
from medveil.files import check_format, read_json, write_json

FORMAT, VERSION = "medveil-attack", 1
ARMS = ("target", "control", "chance", "wrong_key")
VERDICTS = ("not applicable", "diagnostic", "broken attack", "succeeds", "above chance", "at chance")
FEWEST_KEYS, FEWEST_IMAGES = 10, 100
_DIGITS = 8

Bounds = list[float] | None


@dataclass(frozen=True)
class Measured:
    """One metric: means over keys, and their 95 % cluster-bootstrap intervals with the key as the unit.

    Attributes
    ----------
    target, control, chance, wrong_key : float or None
        None where there is no such arm, or nothing was defined.
    ci95 : dict
        [low, high] by arm; None for fewer than two keys.
    unit, direction, chance_rule, text : str
        As the attack declares them.
    values : dict
        One value for each key, by arm.
    series, at, along : str, float, str; or None
        The curve this metric is a point of, where, and over what.
    """

    target: float | None
    control: float | None
    chance: float | None
    wrong_key: float | None
    ci95: dict[str, Bounds]
    unit: str
    direction: str
    chance_rule: str
    text: str
    values: dict[str, list[float | None]]
    series: str | None = None
    at: float | None = None
    along: str | None = None


@dataclass(frozen=True)
class Result:
    """What one attack gave on one target.

    Attributes
    ----------
    attack, kind, text : str
        Name, ``"attack"`` or ``"diagnostic"``, and the paragraph.
    knowledge, papers : list of str
        What is assumed, and where it is from.
    applicable : bool
    reason : str or None
        Why not.
    verdict : str
        See `verdict_of`.
    target, control : dict
        Scheme, block, negation and shape; the control's scheme, or None.
    data : dict
        Source, path, images, whether groups were known.
    n, images_per_key, keys : int
        Images attacked in all, under each key, and keys.
    seeds : list of int
        Key k is ``SimulatedKey(seeds[k], "attacked")``.
    main, margin : str, float
        The metric the verdict is taken on, and the margin fixed beforehand.
    metrics : dict of str to Measured
    reasons : dict of str to str
        Why an arm is null.
    notes : list of str
        What a reader must know: too few keys or images, a changed size, files left out.
    attack_seconds : float or None
        Mean time of the attacker for one key.
    seconds : float
        Time of the whole measurement.
    figure : str or None
        The figure's file, beside this one.
    environment : dict
        Versions and device.
    """

    attack: str
    kind: str
    text: str
    knowledge: list[str]
    papers: list[str]
    applicable: bool
    reason: str | None
    verdict: str
    target: dict[str, Any]
    control: str | None
    data: dict[str, Any]
    n: int
    images_per_key: int
    keys: int
    seeds: list[int]
    main: str
    margin: float
    metrics: dict[str, Measured] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    attack_seconds: float | None = None
    seconds: float = 0.0
    figure: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """The result as plain data, with format and version."""
        return {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}

    def stem_in(self, folder: Path) -> str:
        """What its files in a folder are called: by the attack, and where another target's lie there by its own too.

        The same measurement again has the same name, and takes the place of the earlier one.
        """
        other = folder / f"{self.attack}.json"
        if not other.is_file() or _attacked_in(other) in (None, self._attacked):
            return self.attack
        return f"{self.attack}.{hashlib.sha256(self._attacked.encode()).hexdigest()[:_DIGITS]}"

    def write(self, folder: Path) -> Path:
        """Write ``folder/NAME.json`` atomically; see `stem_in`.

        Raises
        ------
        StorageError
            The disk refuses it.
        """
        path = folder / f"{self.stem_in(folder)}.json"
        write_json(path, self.to_document())
        return path

    @property
    def _attacked(self) -> str:
        return _attacked(self.target, self.data)


def _attacked(target: Any, data: Any) -> str:
    """What is attacked, as text: the target with its situation, and where its images are from."""
    path = data.get("path") if isinstance(data, dict) else None
    return json.dumps([target, path], sort_keys=True)


def _attacked_in(path: Path) -> str | None:
    """What the result in a file attacked; None where it cannot be read."""
    try:
        document = read_json(path)
    except MedVeilError:
        return None
    return _attacked(document.get("target"), document.get("data")) if isinstance(document, dict) else None


def verdict_of(*, kind: str, reason: str | None, main: Measured | None, margin: float) -> str:
    """What a result comes to, by a rule that does not look at the target first.

    1. ``not applicable``: the attack says why it does not apply to the target. Nothing was shown either way.
    2. ``diagnostic``: a measurement that recovers nothing has no verdict.
    3. ``broken attack``: on the unprotected control the lower bound of the main metric does not clear the upper bound
       of chance by the attack's margin. An attack that fails where nothing protects says nothing elsewhere.
    4. ``succeeds``: the target's lower bound clears chance's upper bound by the margin.
    5. ``at chance``: the target's interval does not lie above chance's. This attack recovered nothing; another may.
    6. ``above chance``: in between. Something is recovered, less than the margin.

    Bounds are those of the 95 % intervals; with one key there are none and the values stand in. "Above" is in the
    metric's own direction.
    """
    if reason is not None:
        return "not applicable"
    if kind == "diagnostic" or main is None:
        return "diagnostic"
    sign = -1.0 if main.direction == "lower" else 1.0
    chance = _bound(main, "chance", upper=True, sign=sign)
    if not _bound(main, "control", upper=False, sign=sign) > chance + margin:
        return "broken attack"
    target = _bound(main, "target", upper=False, sign=sign)
    if target > chance + margin:
        return "succeeds"
    return "above chance" if target > chance else "at chance"


def _bound(measured: Measured, arm: str, *, upper: bool, sign: float) -> float:
    """A bound in the direction of the metric; -inf or inf, whichever speaks against the attack, where undefined."""
    value, bounds = getattr(measured, arm), measured.ci95.get(arm)
    if value is None:
        return math.inf if upper else -math.inf
    if bounds is None:
        return sign * float(value)
    signed = sorted(sign * each for each in bounds)
    return signed[1] if upper else signed[0]


def bounds(interval: Interval) -> Bounds:
    """An interval for JSON, which has no NaN."""
    return None if math.isnan(interval.low) else [interval.low, interval.high]


def read_result(path: Path) -> Result:
    """Read ``NAME.json`` back.

    Raises
    ------
    StorageError
        It cannot be read.
    FormatError
        It is no result of an attack, or one of a newer version.
    IntegrityError
        A field is missing, unknown or of the wrong kind, or the verdict is not the one its figures give.
    """
    document = read_json(path)
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    fields = {name: value for name, value in document.items() if name not in {"format", "version"}}
    _check_fields(Result, fields, path)
    metrics = {}
    for name, each in fields["metrics"].items():
        if not isinstance(each, dict):
            raise IntegrityError(f"metric '{name}' is no mapping", where=path)
        _check_fields(Measured, each, path, inside=f"metrics.{name}.")
        metrics[name] = Measured(**each)
    result = Result(**{**fields, "metrics": metrics})
    _check_verdict(result, path)
    return result


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}


def _check_fields(kind: type, given: dict[str, Any], path: Path, *, inside: str = "") -> None:
    wanted = {each.name: str(each.type) for each in dataclasses.fields(kind)}
    for problem, names in (("lacks", wanted.keys() - given.keys()), ("has an unknown", given.keys() - wanted.keys())):
        if names:
            raise IntegrityError(f"{problem} '{inside}{min(names)}'", where=path)
    for name, declared in wanted.items():
        allowed = _KINDS.get(declared) or ((list,) if declared.startswith("list") else (dict,))
        value = given[name]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise IntegrityError(f"'{inside}{name}' is {value!r}", where=path, cure=f"expected {declared}")


def _check_verdict(result: Result, path: Path) -> None:
    if result.applicable != (result.reason is None):
        raise IntegrityError("'applicable' and 'reason' contradict each other", where=path)
    main = result.metrics.get(result.main)
    if main is None and result.applicable:
        raise IntegrityError(f"lacks its main metric '{result.main}'", where=path)
    made = verdict_of(kind=result.kind, reason=result.reason, main=main, margin=result.margin)
    if made != result.verdict:
        raise IntegrityError(f"says '{result.verdict}', and its figures say '{made}'", where=path)
