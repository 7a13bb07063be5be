"""Bad hospitals among good ones, on the real path: each attack succeeds on the plain mean, and a rule holds it off."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_client.config import SimulatedSites
from fl_server.config import ServerSettings
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from simulations.attacks.poisoning import attacks, craft, export, rules
from simulations.attacks.poisoning.attacks import ATTACKS, Known
from simulations.attacks.poisoning.images import with_trigger
from simulations.attacks.poisoning.page import write_page
from simulations.attacks.poisoning.rules import RULES
from simulations.attacks.poisoning.study import Study, carried_out
from simulations.attacks.poisoning.table import Cell, cells, not_applicable, survived
from simulations.attacks.poisoning.trial import AtSite, Trial, tried
from simulations.cli import main
from simulations.config import ExperimentConfig

Tiny = Callable[..., ExperimentConfig]
FIVE = ("sites=5", "train.epochs=4", "train.lr=1e-2", "model.depth=1", "keys.policy=shared")


def rows(n: int = 6, d: int = 400, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=d) + 0.5 * rng.normal(size=(n, d))


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_turned_mean_turns_the_mean_of_all_where_nothing_looks_and_hides_where_something_does() -> None:
    known = rows()
    far = craft.reversed_mean(known, bad=2, sites=8, reach=10.0)
    mean = known.mean(axis=0)
    np.testing.assert_allclose((6 * mean + 2 * far) / 8, -0.375 * mean)
    near = craft.reversed_mean(known, bad=2, sites=8, reach=None)
    np.testing.assert_allclose(near, -0.5 * mean)


def test_a_little_is_as_many_deviations_as_the_paper_has() -> None:
    """Of 50 sites 24 bad: two supporters of 26 are needed, and z is the normal quantile of 24 / 26."""
    known = rows(26)
    made = craft.within_the_spread(known, bad=24, sites=50, reach=None)
    z = (known.mean(axis=0) - made) / (known.std(axis=0) * np.sign(known.mean(axis=0)))
    np.testing.assert_allclose(z, 1.4260769, rtol=1e-6)


def test_min_max_is_no_further_from_any_than_two_are_from_each_other_and_no_nearer() -> None:
    known = rows()
    made = craft.no_further_than_others(known, reach=None)
    between = np.linalg.norm(known[:, None] - known[None], axis=2).max()
    assert np.linalg.norm(known - made, axis=1).max() == pytest.approx(between, rel=1e-6)


def test_nothing_is_longer_than_goes_through() -> None:
    known = rows()
    median = np.median(np.linalg.norm(known, axis=1))
    for made in (
        craft.reversed_mean(known, bad=1, sites=9, reach=2.0),
        craft.within_the_spread(known, bad=1, sites=7, reach=2.0),
        craft.no_further_than_others(known, reach=2.0),
        craft.within(100 * known[0], known, 2.0),
    ):
        assert np.linalg.norm(made) == pytest.approx(2 * median, rel=1e-6)


def test_a_trigger_is_a_white_corner_of_the_plain_image() -> None:
    images = np.random.default_rng(0).integers(0, 200, (2, 1, 16, 16), dtype=np.uint8)
    made = with_trigger(images)
    assert (made[..., 11:15, 11:15] == 255).all()
    assert (made != images).sum() == 2 * 16


# -- who is bad, and what that takes -----------------------------------------------------------------------------------


def test_no_contract_experiment_or_site_can_ask_for_a_bad_hospital() -> None:
    """It takes a program that makes the ClientApp itself, and `fl_client` cannot import it (import-linter)."""
    fields = {
        each.name
        for kind in (RunConfig, ExperimentConfig, SimulatedSites, ServerSettings)
        for each in dataclasses.fields(kind)
    }
    assert not {name for name in fields if any(word in name for word in ("poison", "bad", "attack", "trigger"))}
    client = Path(__file__).parents[2] / "fl_client"
    assert not [path for path in client.rglob("*.py") if "poison" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    ("attack", "rule", "bad", "why"),
    [
        ("label-flip", "krum", 3, "refused: n >= 2 f + 3 = 9 for f = 3"),
        ("label-flip", "bulyan", 1, "refused: n >= 4 f + 3 = 7 for f = 1"),
        ("label-flip", "trimmed-mean", 3, "refused: cannot trim 3 of 6"),
        (
            "alie",
            "secagg",
            1,
            "not applicable: needs 2 honest updates to begin from, and under masks",
        ),
    ],
)
def test_what_is_not_run_says_why(tiny: Tiny, attack: str, rule: str, bad: int, why: str) -> None:
    found = not_applicable(ATTACKS[attack], RULES[rule], tiny("sites=6"), bad)
    assert found is not None
    assert why.partition(": ")[0] == found[0]
    assert why.partition(": ")[2] in found[1]


def test_under_masks_the_rules_that_look_are_given_up(tiny: Tiny) -> None:
    config = RULES["secagg"].applied(tiny("sites=6", "server.strategy=fedmedian", "server.clip_norm=1"), 1)
    assert (config.secagg.on, config.kind, config.server.strategy) == (True, "delta", "fedavg")
    assert (config.server.clip_norm, config.server.max_norm) == (0, 0)


# -- the real path -----------------------------------------------------------------------------------------------------


@pytest.fixture
def five(tiny: Tiny, tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """Five sites that learn in two rounds to tell where a square is bright."""
    torch.set_num_threads(1)
    rng, labels = np.random.default_rng(0), np.arange(180) % 2
    images = rng.integers(0, 90, (180, 16, 16), dtype=np.uint8)
    images[labels == 1, 4:8, 4:8] += 120
    np.savez(tmp_path / "five.npz", images=images, labels=labels)
    return lambda *more: tiny(*FIVE, f"data.path={tmp_path / 'five.npz'}", *more)


@pytest.mark.usefixtures("fresh_sites")
def test_every_attack_succeeds_on_the_plain_mean_and_multikrum_holds(
    five: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    """Where nothing looks, `backdoor` sends what `replacement` does (below), which is run for both."""
    run = [each for each in ATTACKS.values() if each.name != "backdoor"]
    made = tabled(Study(five(), run, rules.chosen("fedavg"), [1], [0]), tmp_path / "out")
    assert {name: made[name, "fedavg"] for name in (each.name for each in run)} == {
        each.name: "succeeds" for each in run
    }
    chosen = [ATTACKS["alie"], ATTACKS["replacement"]]
    study = Study(five(), chosen, [RULES["fedavg"], RULES["multikrum"]], [1], [0])
    made = tabled(study, tmp_path / "out")
    assert {made[each.name, "multikrum"] for each in chosen} == {"at chance"}
    # What is there is not run again, and another experiment is not put beside it.
    assert carried_out(study, tmp_path / "out", seconds=None, said=pytest.fail)[1] == 0
    other = dataclasses.replace(study, config=five("rounds=3"))
    with pytest.raises(ConfigError, match="holds runs of another experiment: 'rounds' differs"):
        carried_out(other, tmp_path / "out", seconds=None, said=pytest.fail)


def tabled(study: Study, folder: Path) -> dict[tuple[str, str], str]:
    made, missing = carried_out(study, folder, seconds=None, said=lambda line: None)
    assert missing == 0
    return {(cell.attack, cell.rule): cell.state for cell in made}


@pytest.mark.usefixtures("fresh_sites")
def test_a_bad_site_of_a_sum_that_keeps_no_clip_stops_the_run_and_is_not_named(
    five: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    config, rule = five("secagg.clip=0.5", "rounds=1"), RULES["secagg-unclipped"]
    ended = tried(config, ATTACKS["sign-flip"], rule, bad=2, seed=0, folder=tmp_path).ended
    assert "above the clip of 0.5: a site did not keep to it" in ended
    assert "site-4" not in ended and "site-5" not in ended


def test_a_backdoor_goes_as_far_as_replacement_where_nothing_looks_and_no_further_where_something_does() -> None:
    honest = rows(4)
    for reach, length in ((10.0, 5.0), (None, 1.0)):
        known = Known(honest[0], honest, bad=1, sites=5, reach=reach)
        sent = {name: ATTACKS[name].sends(known) for name in ("backdoor", "replacement")}
        np.testing.assert_allclose(sent["backdoor"], length * honest[0])
        np.testing.assert_allclose(sent["replacement"], 5 * honest[0])


# -- the table ---------------------------------------------------------------------------------------------------------


def trial(attack: str, rule: str, bad: int, right: int, *, seed: int = 0, ended: str = "") -> Trial:
    sites = [] if ended else [AtSite(f"site-{i + 1}", 10, right, 8, 0) for i in range(6)]
    return Trial(attack, rule, bad, seed, sites, ended=ended)


def test_cells_compare_a_trial_with_its_honest_twin_and_the_control(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("sites=6")
    found = [trial("honest", rule, 0, 9) for rule in ("fedavg", "median")]
    found += [trial("sign-flip", "fedavg", bad, 1) for bad in (1, 2)]
    found += [trial("sign-flip", "median", 1, 9), trial("sign-flip", "median", 2, 5)]
    found += [
        trial("ipm", "fedavg", 1, 9),
        trial("ipm", "median", 1, 3),
        trial("alie", "fedavg", 1, 0, ended="it stopped"),
    ]
    made = {(cell.attack, cell.rule, cell.bad): cell for cell in cells(config, found, bad=[1, 2])}
    assert made["sign-flip", "fedavg", 1].state == "succeeds"
    assert made["sign-flip", "median", 1].state == "at chance"
    assert made["sign-flip", "median", 2].state == "succeeds"
    assert made["ipm", "median", 1].state == "broken attack", "it fails where nothing protects"
    assert made["alie", "fedavg", 1].state == "stops the run"
    assert made["sign-flip", "krum", 2].state == "refused"
    assert made["backdoor", "fedavg", 1].state == "not measured"
    held = survived(made.values())
    assert held["sign-flip", "median"] == (1, "succeeds")
    assert held["sign-flip", "fedavg"] == (0, "succeeds")
    text = export.as_markdown(list(made.values()))
    assert "**0.50 (0.90)**" in text
    assert "refused" in text
    assert len(export.as_csv(list(made.values())).splitlines()) == 1 + len(made)
    export.write(tmp_path, list(made.values()), missing=3)
    page = write_page(tmp_path, list(made.values()), name="<made>", missing=3).read_text()
    assert "Bad hospitals: &lt;made&gt;" in page and "3 runs are missing" in page
    # Of fedavg's cells one is of an attack that fails on its control, and counts for neither.
    assert "Poisoned or stopped: fedavg in 3 of 3, median in 1 of 2." in page
    assert "honest twin 0.90" in page and 'title="it stopped"' in page and "./poisoning.csv" in page


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bad", "0"], "0 bad sites; at least 1, and fewer than the 4 sites"),
        (["--bad", "x"], "'x' is no whole number"),
        (["--attacks", "alei"], "'alei' poisons no run; did you mean alie"),
        (["--rules", "medain"], "'medain' is no rule; did you mean median"),
        (["--minutes", "-1"], "--minutes: is -1"),
    ],
)
def test_the_command_refuses_in_words(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert main(["poison", "demo", "--out", str(tmp_path / "out"), *options]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_the_command_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["poison", "--list"]) == 0
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert words == [*ATTACKS, *RULES]
    assert [each.name for each in attacks.chosen("all")] == list(ATTACKS)
    assert main(["poison", "--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in (*found["attacks"], *found["rules"])] == words


def test_a_study_goes_on_where_its_time_ran_out(tiny: Tiny, tmp_path: Path) -> None:
    study = Study(tiny(*FIVE), [ATTACKS["ipm"]], rules.chosen("fedavg"), [1], [0])
    made, missing = carried_out(study, tmp_path, seconds=-1.0, said=pytest.fail)
    assert missing == 2
    assert {cell.state for cell in made if isinstance(cell, Cell)} == {"not measured"}
    assert json.loads((tmp_path / "settings.json").read_text())["format"] == "medveil-poisoning"
