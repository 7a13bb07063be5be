"""What a site answers where images are counted: cells, ages, scanners, and the floor below which nothing is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fl_client.counting import age_of, scanner_cell, told
from fl_client.data.named import stated_in
from fl_client.deployment.limits import checked_run
from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.run_words import in_words
from fl_client.leaving import EVERYTHING, Leaving
from medveil.contract import RUN_KEY, RunConfig
from medveil.counting import BINS, MAKERS, StatisticsConfig, age_cell
from medveil.errors import ConfigError, MedVeilError
from medveil.secagg.config import SecAggConfig


class Stated:
    def __init__(self, **said: str) -> None:
        self.said = said

    def stated(self, index: int, keyword: str) -> str:
        return stated_in({name.casefold(): cell for name, cell in self.said.items()}, keyword)


@pytest.mark.parametrize(
    ("said", "years"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"age": "45.5"}, 45.5),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "730D"}, 730 / 365.25),
        ({"PatientBirthDate": "19500101", "StudyDate": "20200101"}, 70),
        ({"PatientBirthDate": "20200101", "StudyDate": "19500101"}, None),
        ({"PatientAge": "999Y"}, None),
        ({"PatientAge": "old"}, None),
        ({}, None),
    ],
)
def test_an_age_is_read_as_it_is_stated(said: dict[str, str], years: float | None) -> None:
    found = age_of(Stated(**said), 0)  # type: ignore[arg-type]
    assert found == (None if years is None else pytest.approx(years, abs=0.01))


def test_old_ages_are_one_cell() -> None:
    assert [age_cell(each) for each in (0, 9.9, 10, 89.9, 90, 104, None)] == [
        "0-9",
        "0-9",
        "10-19",
        "80-89",
        "90+",
        "90+",
        "not stated",
    ]


@pytest.mark.parametrize(
    ("maker", "model", "cell"),
    [
        ("SIEMENS", "Skyra", "Siemens/Skyra"),
        ("Siemens Healthineers", "SKYRA fit", "Siemens/Skyra"),
        ("SIEMENS", "Vida", "Siemens"),
        ("TOSHIBA_MEC", "", "Toshiba"),
        ("Gendex", "GXDP", "other"),
        ("GE MEDICAL SYSTEMS", "Optima", "GE"),
        ("", "Skyra", "not stated"),
    ],
)
def test_a_scanner_is_the_one_that_says_most_of_it(maker: str, model: str, cell: str) -> None:
    assert scanner_cell(maker, model, ["Siemens/Skyra", *MAKERS]) == cell


def test_nothing_is_told_of_few_patients_however_many_images_they_have() -> None:
    shares = np.zeros((40, 3))
    shares[:23, 0] = shares[23:36, 1] = shares[36:, 2] = 1
    patients = np.arange(40)
    assert told(shares, patients, Leaving(5)) == [20, 10, 0]
    patients[:23] = np.arange(23) % 4
    assert told(shares, patients, Leaving(5)) == [0, 10, 0], "23 images of four patients"
    assert told(shares, patients, Leaving(EVERYTHING)) == [23, 13, 4]


@pytest.mark.parametrize("few", range(5))
def test_an_answer_is_the_same_for_none_and_for_too_few(few: int) -> None:
    shares = np.zeros((30, 2))
    shares[:, 0] = 1
    shares[:few] = [0, 1]
    assert told(shares, np.arange(30), Leaving(5))[1] == 0


def test_parts_of_images_are_worth_their_sum() -> None:
    assert told(np.full((100, 10), 0.1), np.arange(100), Leaving(5)) == [10] * 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"histograms": ["names"]},
        {"histograms": []},
        {"histograms": ["ages", "ages"]},
        {"bins": 128},
        {"bins": 12},
        {"scanners": [f"maker {i}" for i in range(65)]},
        {"scanners": ["a" * 65]},
        {"scanners": ["Siemens", "SIEMENS"]},
        {"scanners": ["other"]},
        {"scanners": ["/Skyra"]},
    ],
)
def test_what_a_server_may_ask_is_bounded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        StatisticsConfig(**wrong).check()
    assert f"'{next(iter(wrong))}' is out of its range" in str(error.value)


def test_cells_of_fewer_bins_are_those_of_more_taken_together() -> None:
    fine = StatisticsConfig(bins=BINS[-1]).cells(["a", "b"])["intensities"]
    for bins in BINS:
        cells = StatisticsConfig(bins=bins).cells(["a", "b"])["intensities"]
        assert (len(cells), cells[0].split("-")[0], cells[-1].split("-")[1]) == (bins, "0", "255")
        assert {each.split("-")[0] for each in cells} <= {each.split("-")[0] for each in fine}


def run(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {"run": "r-1", "task": "statistics", "classes": ["none", "mass"], "least_sites": 2}
    return RunConfig(**{**values, **changes})


SUMMED = {"secagg": SecAggConfig(on=True), "kind": "delta"}


def asked(made: RunConfig, **limits: Any) -> RunConfig:
    limits_ = LimitsConfig(**{"tasks": ["statistics"], **limits})
    return checked_run({RUN_KEY: made.to_json()}, limits_, weights=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "limits", "says"),
    [
        (SUMMED, {"tasks": ["single-label", "evaluate"]}, "limits.tasks: this site takes no part in 'statistics'"),
        ({}, {}, "limits.own_statistics: this site's histograms leave as sums under masks alone"),
        ({}, {"own_statistics": True, "secagg": True}, "limits.secagg"),
        (SUMMED, {"histograms": ["classes"]}, "does not count ages, scanners, intensities; it counts classes"),
        ({**SUMMED, "least_sites": 1}, {}, "limits.least_sites"),
        (SUMMED, {"epsilon": 3.0}, "limits.epsilon"),
        ({**SUMMED, "rounds": 2}, {}, "'rounds' is not 1"),
        ({**SUMMED, "model": {"width": 24}}, {}, "'model' is set, and nothing trains"),
        ({**SUMMED, "keys": "per-site"}, {}, "'keys' is set"),
        ({**SUMMED, "privacy": {"unit": "example"}}, {}, "'privacy' is on"),
        ({**SUMMED, "classes": []}, {}, "'classes' is no list of classes"),
        ({**SUMMED, "statistics": {"histograms": ["ages"]}}, {}, "names classes, and none are counted"),
        ({**SUMMED, "statistics": {"bin": 8}}, {}, "bin"),
    ],
)
def test_a_site_refuses_by_name(changes: dict[str, Any], limits: dict[str, Any], says: str) -> None:
    with pytest.raises(MedVeilError) as error:
        asked(run(**changes), **limits)
    assert says in str(error.value)


def test_a_site_takes_what_its_limits_allow_and_says_it_in_words() -> None:
    summed = in_words(asked(run(**SUMMED)))
    assert "nothing trains, and no model goes round" in summed["what it does"]
    assert "intensities (32 bins)" in summed["what it does"]
    assert "limits.smallest_count" in summed["what leaves"]
    assert "sums over sites alone" in summed["who reads it"]
    assert summed["classes"] == "none, mass"
    own = in_words(asked(run(), own_statistics=True))
    assert own["who reads it"] == "the server reads this site's own histograms"
    assert StatisticsConfig(**asked(run(), own_statistics=True).statistics) == StatisticsConfig()
