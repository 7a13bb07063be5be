"""What a coordinator may decide about a run, and what not."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crypto.config import CipherConfig
from fl_client.config import TrainConfig
from fl_server.deployment.consortium import Consortium
from fl_server.deployment.plan import RunFile, make_run
from fl_server.deployment.provision import init
from fl_server.deployment.runs import Submission, find, new_submission, resumed, state_of
from fl_server.terms import RunOutline, RunTerms
from medveil import processes
from medveil.audit_verify import verify
from medveil.cipher_choice import CipherChoice
from medveil.config import commented_yaml, load_config, to_mapping
from medveil.contract import RUN_KEY, SERVER_KEY, RunConfig
from medveil.errors import ConfigError, MedVeilError
from medveil.files import make_folder, write_json
from medveil.recipes import overridden
from models.config import ModelConfig
from models.pretrained import write_pretrained
from models.vit import build_vit
from simulations.config import ExperimentConfig
from simulations.plan import make_plan

RUN = ["data.classes=[none,mass]", "data.image_size=64", "cipher.block=8", "model.width=96", "model.heads=3"]
STRICT = "policy.policies=[per-site + secret + local, shared]"
FLOWER_RUN = 2**64 - 1
"""The largest id that Flower gives a run."""


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return init(tmp_path / "consortium.yaml", ["policy.most_rounds=50", "policy.secagg=false"])


def made(consortium: Consortium, *settings: str, admitted: int = 3) -> RunConfig:
    return make_run(load_config(RunFile, None, [*RUN, *settings]), consortium, admitted=admitted)[0]


def test_a_setting_of_another_strategy_is_told(consortium: Consortium, caplog: pytest.LogCaptureFixture) -> None:
    made(consortium, "server.momentum=0.5", "server.strategy=fedavgm")
    assert not caplog.records
    made(consortium, "server.momentum=0.5")
    (line,) = caplog.records
    assert line.getMessage() == "without effect under fedavg: server.momentum 0.5"


def test_a_run_is_resolved_as_an_experiment_is(consortium: Consortium, tmp_path: Path) -> None:
    ours = made(consortium, "name=demo", "rounds=3", "train.epochs=2")
    settings = ["data.phantoms.images=8", "data.phantoms.classes=2", "sites=1", "cipher.block=8"]
    sizes = ["model.width=96", "model.heads=3", "data.phantoms.sites=1", "data.partition.min_per_site=2"]
    config = load_config(ExperimentConfig, None, ["name=demo", "rounds=3", "train.epochs=2", *settings, *sizes])
    theirs = make_plan(config, tmp_path / "run").run
    assert theirs.classes == ["none", "mass"]
    differ = {
        each.name for each in dataclasses.fields(RunConfig) if getattr(ours, each.name) != getattr(theirs, each.name)
    }
    assert differ == {"run", "least_sites", "packed"}


def said(kind: type) -> dict[str, tuple[object, object]]:
    """Default and help of each field, in their order."""
    return {each.name: (each.default, each.metadata.get("help")) for each in dataclasses.fields(kind)}


@pytest.mark.parametrize("kind", [RunFile, ExperimentConfig])
def test_what_run_and_experiment_share_is_said_once(kind: type) -> None:
    own = set(inspect.get_annotations(kind))
    # A consortium's model is the experiment's but for the words on its weights; it says itself what follows its policy.
    follows = {"kind", "secagg", "server"}
    assert own <= (
        {"data", "model", *follows} if kind is RunFile else {"data", "cipher", "server", "absent", "ray", "compare"}
    )
    assert to_mapping(RunFile().model) == to_mapping(ExperimentConfig().model)
    inherited = said(RunTerms).keys() - own
    assert {"wire", "evaluate_first", "keys", "stem", "train"} <= inherited
    assert {name: said(kind)[name] for name in inherited} == {name: said(RunTerms)[name] for name in inherited}
    # Printed in one order, name first.
    assert list(said(kind))[:4] == list(said(RunOutline))
    assert [name for name in said(kind) if name in said(RunTerms)] == list(said(RunTerms))
    assert all(words for _, words in said(kind).values())


def test_what_differs_is_what_is_meant_to() -> None:
    file, experiment = RunFile(), ExperimentConfig()
    assert (file.name, file.rounds, file.sites) == ("run", 10, 0)
    assert (experiment.name, experiment.rounds, experiment.sites) == ("experiment", 5, 4)
    assert file.server.most_share < experiment.server.most_share == 1.0
    same = {"most_share": file.server.most_share, "min_updates": 0}
    assert to_mapping(dataclasses.replace(experiment.server, **same)) == to_mapping(file.server)
    assert {**to_mapping(experiment.secagg), "on": None} == to_mapping(file.secagg)
    assert file.train == experiment.train == TrainConfig()


def test_the_servers_words_for_a_cipher_are_the_ciphers() -> None:
    # The server may not import crypto: both build on one section of the ground floor.
    assert issubclass(CipherConfig, CipherChoice)
    defaults = [{name: default for name, (default, _) in said(kind).items()} for kind in (CipherChoice, CipherConfig)]
    assert defaults[0] == defaults[1]
    # What the server cannot know, it does not list.
    assert "pixel-wise" in str(said(CipherConfig)["scheme"]) and "pixel-wise" not in str(said(CipherChoice)["scheme"])


def test_no_file_makes_a_simulated_site(consortium: Consortium) -> None:
    for key in ("medveil-sites", "data.path", "data.source", "engine", "device", "threads"):
        with pytest.raises(ConfigError, match="unknown key"):
            load_config(RunFile, None, [f"{key}=x"])
    run, settings = make_run(load_config(RunFile, None, RUN), consortium, admitted=2)
    assert set(new_submission(run, settings, "00").run_config) == {RUN_KEY, SERVER_KEY}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("rounds=51", "consortium policy: 'rounds' is 51; at most 50"),
        ("sites=4", "expects 4 sites, 3 are admitted"),
        ("sites=1", "policy.least_sites asks for 2"),
        ("train.optimizer=muon train.scope=head", "'scope' trains no block"),
        ("train.scope=lora", "mean(B A) is not mean(B) mean(A)"),
        ("train.scope=lora-core train.rank=255", "'rank' is not 1 to "),
        ("predict.views=0", "'views' is out of its range"),
        ("model.init=other", "model.init: is 'other'"),
        ("keys.policy=shared stem.init=adapted stem.train=averaged", "publishes the key"),
        ("data.classes=[one]", "2 to 4096 different names"),
        ("data.classes=[]", "'data.classes': names no classes; 2 to 4096 different names; write all of them"),
        ("data.classes=[]", "for example 'data.classes=[glioma, no_tumor]'"),
        ("data.classes=[]", "the line 'data' of its 'medveil-site check'"),
        ("data.image_size=4", "a block fits into an image"),
        ("data.channels=2", "'data.channels' is 2"),
        ("model.classes=5", "'model.classes' is 5"),
        ("model.pretrained=true", "'model.pretrained' is 'true'; 'false', or the name of a file"),
        ("model.pretrained=/etc/passwd", "'model.pretrained' is '/etc/passwd'"),
        ("model.pretrained=../x.safetensors", "'model.pretrained' is '../x.safetensors'"),
        (
            "model.pretrained=x.pth",
            "is a pickle by its name, and nothing is unpickled; 'medveil-sim convert-checkpoint",
        ),
        ("model.pretrained=vit.safetensors", "there is no such file"),
        ("server.strategy=krum", "needs n >= 2 f + 3"),
        ("train.epochs=0", "'epochs' is below 1"),
        ("name=../up", "'name' is no name"),
    ],
)
def test_a_run_that_cannot_be_had_is_refused_before_it_is_sent(setting: str, says: str, consortium: Consortium) -> None:
    with pytest.raises(MedVeilError) as refused:
        made(consortium, *setting.split())
    assert says in str(refused.value)


def test_weights_are_a_file_that_everyone_has_under_its_name(consortium: Consortium) -> None:
    sizes = {"image_size": 64, "patch": 8, "channels": 1, "classes": 2, "width": 96, "heads": 3, "depth": 1}
    model = build_vit(ModelConfig(**sizes), seed=0)
    write_pretrained(consortium.weights / "vit.safetensors", model, name="vit_tiny_patch16_224", card={})
    run = made(consortium, "model.pretrained=vit.safetensors", "model.depth=1")
    assert run.model["pretrained"] == "vit.safetensors"


def test_only_policies_of_the_consortium_run(tmp_path: Path) -> None:
    strict = init(tmp_path / "strict.yaml", [STRICT, "policy.secagg=false"])
    assert made(strict, "stem.init=secret").stem_init == "secret"
    assert made(strict, "keys.policy=shared").keys == "shared"
    with pytest.raises(ConfigError, match=r"'per-site \+ adapted \+ local' is not allowed"):
        made(strict)


def test_the_consortiums_promise_to_its_sites_is_kept_by_the_server(consortium: Consortium) -> None:
    run, settings = make_run(load_config(RunFile, None, RUN), consortium, admitted=3)
    assert (run.least_sites, settings.server.min_updates, settings.expected) == (2, 2, 3)


# -- submissions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def submission(consortium: Consortium) -> Submission:
    run, settings = make_run(load_config(RunFile, None, [*RUN, "name=demo"]), consortium, admitted=2)
    return new_submission(run, settings, "ab" * 32)


def manifest(submission: Submission, consortium: Consortium, **values: object) -> None:
    make_folder(submission.folder(consortium))
    whole = {
        "format": "medveil-manifest",
        "version": 1,
        "run": submission.run,
        "name": submission.name,
        "status": "running",
        "stage": "",
        "error": None,
        "run_config": {"rounds": 3},
        "server": {},
        "sites": [],
        "left_out": [],
        "resumed": [],
        **values,
    }
    write_json(submission.folder(consortium) / "manifest.json", whole)


def test_where_a_run_is(submission: Submission, consortium: Consortium) -> None:
    assert state_of(submission, consortium)["status"] == "submitted"
    us = {"pid": 1, "began": processes.began(1)}
    manifest(submission, consortium, process=us, stage="round 1 of 3")
    assert state_of(submission, consortium)["status"] == "running"
    manifest(submission, consortium, process={**us, "began": "another time"})
    assert state_of(submission, consortium)["status"] == "lost"
    manifest(submission, consortium, process=us, status="finished")
    assert state_of(submission, consortium)["status"] == "finished"


@pytest.mark.parametrize("status", ["running", "finished"])
def test_a_run_that_is_taken_up_while_it_is_looked_at_is_not_lost(
    submission: Submission, consortium: Consortium, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    us = {"pid": 1, "began": processes.began(1)}
    manifest(submission, consortium, process={**us, "began": "another time"})
    looked = processes.is_still

    def taken_up(document: Mapping[str, Any], *, where: Path) -> int | None:
        found = looked(document, where=where)
        manifest(submission, consortium, process=us, status=status, resumed=["2026-01-01T00:00:00+00:00"])
        return found

    monkeypatch.setattr(processes, "is_still", taken_up)
    assert state_of(submission, consortium)["status"] == status


def test_a_run_is_resumed_unless_it_runs_or_ended(submission: Submission, consortium: Consortium) -> None:
    def resumes(again: Submission) -> bool:
        return bool(json.loads(again.run_config[SERVER_KEY])["resume"])

    assert not resumes(resumed(submission, consortium, "cd")), "a run that never began starts"
    manifest(submission, consortium, process={"pid": 1, "began": "x"})
    again = resumed(submission, consortium, "cd")
    assert resumes(again)
    assert (again.run, again.fab) == (submission.run, "cd")
    assert again.run_config[RUN_KEY] == submission.run_config[RUN_KEY]
    manifest(submission, consortium, process={"pid": 1, "began": processes.began(1)})
    with pytest.raises(ConfigError, match="still runs"):
        resumed(submission, consortium, "cd")
    manifest(submission, consortium, status="finished", process={})
    with pytest.raises(ConfigError, match="has already finished"):
        resumed(submission, consortium, "cd")


class FakeControl:
    def submit(self, run_config: dict[str, str], fab: str) -> int:
        return FLOWER_RUN


def test_runs_are_found_again(submission: Submission, consortium: Consortium) -> None:
    from fl_server.deployment.runs import submissions, submit  # noqa: PLC0415

    with pytest.raises(ConfigError, match="no run was ever submitted"):
        find(consortium, None)
    sent = submit(submission, consortium, FakeControl())  # type: ignore[arg-type]
    assert submissions(consortium) == [sent]
    assert sent.flower_runs == (FLOWER_RUN,)
    submit(sent, consortium, FakeControl())  # type: ignore[arg-type]
    noted = verify(consortium.audit.path).records[1:]
    assert [each["event"] for each in noted] == ["run-submitted", "run-resumed"]
    about = {"run": submission.run, "name": submission.name, "app": submission.fab}
    text = submission.run_config[RUN_KEY].encode()
    assert noted[0]["details"] == {**about, "config": hashlib.sha256(text).hexdigest()}
    sent = submissions(consortium)[0]
    for word in (None, "demo", submission.run[:8], str(sent.folder(consortium))):
        assert find(consortium, word) == sent
    with pytest.raises(ConfigError, match="no such run"):
        find(consortium, "other")


def test_the_template_offers_no_weights_that_are_refused() -> None:
    text = commented_yaml(RunFile)
    (line,) = [each for each in text.splitlines() if "Weights:" in each]
    assert "false (fresh), or the name of a file" in line
    assert "hub" not in line
    assert "path to" not in line
    assert "timm hub" in commented_yaml(ModelConfig)


def test_a_consortium_may_learn_pixels_without_naming_a_class(consortium: Consortium) -> None:
    told = ["task=masked-autoencoding", "data.classes=[]", "stem.train=frozen", "pretrain.mask=0.6"]
    run = made(consortium, *told)
    assert (run.task, run.classes, run.pretrain["mask"], run.model["classes"]) == ("masked-autoencoding", [], 0.6, None)
    assert run.masked is not None
    for setting, says in (
        ("stem.init=secret", "fits no public one"),
        ("pretrain.normalise_pixels=true", "negated pixels"),
        ("train.mixup=0.3", "learns no classes"),
        ("server.monitor=auroc", "has none; loss"),
    ):
        with pytest.raises(MedVeilError, match=says):
            made(consortium, *told, "cipher.negate=true", "server.keep=best", setting)


def test_weights_that_are_not_whole_are_refused_before_a_site_hears_of_them(consortium: Consortium) -> None:
    make_folder(consortium.weights)
    (consortium.weights / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(MedVeilError, match="cannot be read as weights"):
        made(consortium, "model.pretrained=cut.safetensors")


def test_what_a_runs_file_sets_without_a_recipe_gives_way_to_one(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("without_recipe: {train: {lr: 0.5, batch_size: 8}}\ntrain: {epochs: 3}\n")
    plain, adopted = (load_config(RunFile, path, told) for told in ([], ["train.recipe=small-data"]))
    assert (plain.train.lr, plain.train.batch_size, plain.train.epochs) == (0.5, 8, 3)
    assert overridden("small-data", to_mapping(adopted)) == []
    assert adopted.train.epochs == 3
    path.write_text("without_recipe: {server: {strategy: krum}}\n")
    with pytest.raises(ConfigError, match="without_recipe: 'server' is no section that a recipe could take"):
        load_config(RunFile, path)
