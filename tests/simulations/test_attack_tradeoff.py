"""Utility against leakage: every cell is measured, or says why not, and nothing is done twice."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl_client.intervals import Interval
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, DataError
from medveil.files import locked, make_folder
from models.policy import Policy
from simulations.attacks.study.result import Measured, Result, verdict_of
from simulations.attacks.tradeoff import study as studies
from simulations.attacks.tradeoff import words
from simulations.attacks.tradeoff.asked import study_of
from simulations.attacks.tradeoff.leakage import attackers
from simulations.attacks.tradeoff.places import BASELINE, LAYERS, VIEWS, Place, chosen_policies
from simulations.attacks.tradeoff.table import Attacker, Cell, Row, Table, Worth, best_against, findings
from simulations.attacks.tradeoff.utility import Utility
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.estimate import Estimate, Estimates

Tiny = Callable[..., ExperimentConfig]
ASKED = (
    *("--policies", "none.public.averaged,per-site.adapted.local", "--scopes", "full"),
    *("--layers", "plain,epsilon-8", "--views", "diagnostic", "--attacks", "stem-closed-form,span"),
    *("--keys", "2", "--images-per-key", "3"),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def asked(settings: list[str], out: Path, *more: str) -> int:
    path = out.parent / "experiment.yaml"
    path.write_text("name: tiny\n")
    given = [each for each in settings if not each.startswith(("name=", "sites=", "rounds="))]
    more = ("sites=3", "rounds=1", "model.depth=1", *more)
    return main(["matrix", str(path), *given, *more, *ASKED, "--out", str(out)])


@pytest.mark.usefixtures("drawn")
@pytest.mark.usefixtures("fresh_sites")
def test_a_table_is_measured_goes_on_and_shows_its_reasons(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "table"
    # No time at all: what is missing is said, and the page stands.
    assert asked(tiny_settings, out, "--minutes", "0") == EXIT_PARTIAL
    assert "are missing" in capsys.readouterr().err
    assert asked(tiny_settings, out) == EXIT_OK
    with (out / "matrix.csv").open() as stream:
        cells = {(row["keys"], row["layer"], row["attack"]): row for row in csv.DictReader(stream)}
    assert len(cells) == 8
    # The stem gives a plain image away where it travels, and stays home under keys of sites.
    open_ = cells["none", "plain", "stem-closed-form"]
    assert (open_["state"], open_["target"], open_["control"]) == ("succeeds", "1.0", "1.0")
    assert float(open_["chance_high"]) < 0.9 and open_["metric"] == "ssim" and open_["share"] == "1.0"
    home = cells["per-site", "plain", "stem-closed-form"]
    assert (home["state"], "the stem stays at the site" in home["reason"]) == ("not applicable", True)
    assert cells["per-site", "plain", "span"]["state"] == "succeeds"
    # Sums with noise cannot be had with a stem that trains at home, and the run says so as well as the cell.
    refused = cells["per-site", "epsilon-8", "span"]
    assert (refused["utility"], refused["state"]) == ("refused", "not applicable")
    assert "MedVeil refuses such a run" in refused["reason"]
    plain = cells["none", "plain", "span"]
    assert plain["below_plain"] == "0.0" and 0 < float(plain["accuracy_low"]) < float(plain["accuracy_high"]) <= 1
    twin = cells["per-site", "plain", "span"]
    assert float(twin["twin_accuracy"]) == pytest.approx(float(twin["accuracy"]), abs=0.05)
    page = (out / "matrix.html").read_text()
    assert "No place here is at chance for every attacker but the malicious server" in page
    assert "are trials: a finding takes at least 10 keys" in page and 'class="chart"' in page
    assert (out / "matrix.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((out / "matrix.json").read_text())
    assert document["missing"] == 0 and len(document["cells"]) == 8
    # What was cut off is done again, and nothing else.
    (out / "leaks/diagnostic/none.public.averaged.full.plain/span.json").write_text('{"format": "medveil')
    (out / "runs/per-site.adapted.local.full.plain.0.json").unlink()
    done: list[str] = []
    for kind in (studies.RunJob, studies.LeakJob):
        carry_out = kind.carry_out
        monkeypatch.setattr(kind, "carry_out", lambda job, *rest, do=carry_out: done.append(job.text) or do(job, *rest))
    assert asked(tiny_settings, out) == EXIT_OK
    assert done == [
        "run: per-site + adapted + local, full, plain, seed 0",
        "span: none + public + averaged, full, plain, diagnostic",
    ]
    # Another experiment is no part of this table.
    assert asked(tiny_settings, out, "train.lr=0.5") == ConfigError.exit_code
    assert "'train' differs" in capsys.readouterr().err


@pytest.mark.usefixtures("fresh_sites")
def test_a_dry_run_says_what_is_left_and_leaves_nothing(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Estimates, "of", lambda *_: Estimate(training=60, seconds=60))
    out = tmp_path / "table"
    assert asked(tiny_settings, out, "--dry-run") == EXIT_OK
    told = capsys.readouterr()
    # Plain FedAvg and the twin stand beside the lines asked for.
    assert f"would run 4 runs; 0 runs and measurements are kept from {out}" in told.out
    assert "per-site + adapted + local, full, epsilon-8, seed 0: refused: " in told.out
    assert "would measure 4 times, and 4 times why an attack does not apply" in told.out
    assert "  stem-closed-form: 2\n  span: 2\n" in told.out
    assert "time: about 4 min 0 s" in told.out and "nothing is begun after 2 h 30 min" in told.out
    assert "12 min 0 s, and what a last key takes longer" in told.out
    said = [line for line in told.err.splitlines() if "WARNING" in line]
    assert len({line.partition("WARNING")[2] for line in said}) == len(said)
    assert not out.exists()
    # What is done is kept, and another table is refused as the command refuses it.
    assert asked(tiny_settings, out, "--minutes", "0") == EXIT_PARTIAL
    kept = f"runs/{BASELINE.label}.0.json"
    Utility(BASELINE.label, 0, "measured", accuracy=0.9).write(make_folder(out / "runs").parent / kept)
    capsys.readouterr()
    assert asked(tiny_settings, out, "--dry-run", "--json") == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert found["kept"] == ["run: none + public + averaged, full, plain, seed 0"]
    assert (len(found["runs"]), found["not_applicable"]) == (3, 4)
    assert found["measurements"] == {"stem-closed-form": 2, "span": 2}
    assert asked(tiny_settings, out, "train.lr=0.5", "--dry-run") == ConfigError.exit_code


def test_lines_with_a_number_may_train_otherwise_and_nothing_else_may_be_other(tiny: Tiny, tmp_path: Path) -> None:
    named = {"policies": "none.public.averaged", "scopes": "full", "layers": "plain,epsilon-8", "attacks": "span"}
    private = tiny("train.lr=0.5", "rounds=4")
    study = study_of(tiny(), tmp_path, private=private, **named)
    rates = [(study.experiment(job.place).train.lr, study.experiment(job.place).rounds) for job in study.jobs()[:2]]
    assert rates == [(tiny().train.lr, tiny().rounds), (0.5, 4)]
    views = {place.layer.name: study.ground.setting(place, VIEWS["deployment"]).update for place in study.places}
    assert (views["plain"].lr, views["epsilon-8"].lr, views["epsilon-8"].epsilon) == (tiny().train.lr, 0.5, 8.0)
    studies.refuse_other(study, tmp_path)
    with pytest.raises(ConfigError, match="another private: 'rounds' differs"):
        studies.refuse_other(study_of(tiny(), tmp_path, private=tiny("train.lr=0.5"), **named), tmp_path)
    with pytest.raises(ConfigError, match="another private"):
        studies.refuse_other(study_of(tiny(), tmp_path, **named), tmp_path)
    with pytest.raises(ConfigError, match="sites: differs where a number is promised"):
        study_of(tiny(), tmp_path, private=tiny("sites=3"), **named)
    with pytest.raises(ConfigError, match="no layer that was asked for has one"):
        study_of(tiny(), tmp_path, private=private, **{**named, "layers": "plain,secagg"})


def test_what_another_process_is_at_is_left_to_it_and_what_fails_is_told(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(Policy("none", "public", "averaged"), "full", LAYERS["plain"])
    (attack,) = [each for each in attackers() if each.name == "span"]
    made = studies.Study(tiny(), [place], [VIEWS["diagnostic"]], [attack], [0], studies.Effort(keys=2))
    assert [type(job).__name__ for job in made.jobs()] == ["RunJob", "LeakJob"]

    def fail(*_: Any, **__: Any) -> Result:
        raise DataError("3 images to attack can be drawn, and 64 are needed")

    monkeypatch.setattr(studies, "measured_at", fail)
    monkeypatch.setattr(studies.RunJob, "is_done", lambda *_: True)
    said: list[str] = []
    (job,) = [each for each in made.jobs() if isinstance(each, studies.LeakJob)]
    with locked(tmp_path / studies.CLAIMS / job.name):
        studies.work(made, tmp_path, seconds=None, said=said.append)
    assert said == []
    studies.work(made, tmp_path, seconds=None, said=said.append)
    assert len(said) == 1 and "failed: 3 images" in said[0]
    assert studies.missing(made, tmp_path) == [job]
    from simulations.attacks.tradeoff.table import read_table  # noqa: PLC0415

    (cell,) = read_table(made, tmp_path, missing=1).rows[0].cells
    assert (cell.state, "3 images" in cell.reason) == ("failed", True)


# -- what follows of a table -------------------------------------------------------------------------------------------


def cell(state: str, *, attack: str = "span", target: float = 0.9) -> Cell:
    if state in {"not applicable", "not measured"}:
        return Cell("deployment", attack, state, "why")
    main = Measured(
        target=target,
        control=1.0,
        chance=0.5,
        wrong_key=None,
        ci95={"target": [target - 0.01, target + 0.01], "control": [0.99, 1.0], "chance": [0.45, 0.55]},
        unit="AUROC",
        direction="higher",
        chance_rule="guess",
        text="AUROC",
        values={},
    )
    verdict = verdict_of(kind="attack", reason=None, main=main, margin=0.1)
    assert verdict == state
    fields = {each.name: None for each in dataclasses.fields(Result)}
    told = {"attack": attack, "verdict": verdict, "main": "auroc", "metrics": {"auroc": main}, "applicable": True}
    result = Result(**{**fields, **told, "keys": 10, "images_per_key": 100, "n": 1000, "seconds": 1.0})
    return Cell("deployment", attack, state, "", result)


def row(layer: str, below: float, *cells: Cell) -> Row:
    worth = Worth("measured", accuracy=0.9 - below / 100, interval=Interval(0.8, 0.95), n=100, seeds=1, below=below)
    return Row(Place(BASELINE.policy, "full", LAYERS[layer]), worth, cells)


def table(*rows: Row) -> Table:
    known = (Attacker("span", "", False, "A"), Attacker("planted-layer", "", True, "G"))
    return Table("made", rows, known, (VIEWS["deployment"],), rows[0].worth)


def test_the_aim_is_reached_by_intervals_and_points_and_never_by_what_was_not_measured() -> None:
    planted = cell("succeeds", attack="planted-layer")
    leaks, holds = (
        row("plain", 0.0, cell("succeeds"), planted),
        row("secagg", 0.4, cell("at chance", target=0.5), planted),
    )
    dear = row("epsilon-1", 3.2, cell("at chance", target=0.5), planted)
    unknown = row("epsilon-3", 0.1, cell("not measured"), planted)
    found = findings(table(leaks, holds, dear, unknown))
    assert [each.row.place.layer.name for each in found] == ["secagg", "epsilon-1", "epsilon-3", "plain"]
    assert [each.holds for each in found] == [True, False, False, False]
    assert words.missed(found[1]) == "it is 3.2 points below plain"
    assert words.missed(found[2]) == "nothing is known of span"
    assert words.missed(found[3]) == "something is recovered by span"
    assert words.headline(table(leaks, holds)).startswith("1 of 2 places are at chance")
    assert words.headline(table(leaks, dear)).endswith("epsilon-1: it is 3.2 points below plain.")
    best = best_against(table(leaks, holds, dear), Attacker("span", "", False, "A"))
    assert best == holds
    assert dict(words.conclusions(table(leaks, holds)))["nothing here holds against"] == "planted-layer"
    # Of what was not measured one line says so, however many attacks it is of.
    assert words.conclusions(table(unknown)) == [
        ("nothing here holds against", "planted-layer"),
        ("no place where it recovers nothing was found and measured", "span"),
    ]


def test_a_share_is_of_the_way_from_chance_to_the_control_in_either_direction() -> None:
    assert cell("succeeds").share == pytest.approx(0.8)
    assert cell("at chance", target=0.5).share == 0.0
    assert cell("not applicable").share is None


def test_a_place_is_an_experiment_and_is_refused_by_its_name(tiny: Tiny) -> None:
    config = tiny("sites=4")
    at = Place(Policy("per-site", "adapted", "frozen"), "head", LAYERS["epsilon-3"])
    made = at.applied(config)
    assert (made.keys.policy, made.stem.init, made.stem.train, made.train.scope) == (
        "per-site",
        "adapted",
        "frozen",
        "head",
    )
    assert (made.secagg.on, made.kind, made.privacy.unit, made.privacy.epsilon) == (True, "delta", "example", 3.0)
    assert (config.secagg.on, config.keys.policy == "per-site") == (False, config.keys.policy == "per-site")
    here = at.update(config, VIEWS["diagnostic-blind"])
    assert (here.sites, here.epsilon, here.mode, here.knows_weights, here.batch) == (4, 3.0, "diagnostic", False, None)
    assert at.update(config, VIEWS["deployment"]).batch == config.train.batch_size
    twin = Place(Policy("per-site", "adapted", "local"), "full", LAYERS["plain"]).twin
    assert twin is not None and str(twin.policy) == "none + public + local"
    with pytest.raises(ConfigError, match=re.escape("did you mean per-site.adapted.local?")):
        chosen_policies("per-site.adapted.locl")
    assert np.isnan(Worth("refused").accuracy)
