"""Which pre-trained weights a run may begin from at a site: named by digest there, whatever a server asks for."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enrolled_site import WORD, enrolled
from flwr.app import Array, ArrayRecord, Message, RecordDict
from safetensors.torch import save_file

from crypto import sealed_file
from fl_client.asked import incoming_in
from fl_client.deployment.check_terms import _weights
from fl_client.deployment.hardening import WEAK, _limits
from fl_client.deployment.limits import checked_run
from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.own_site import OwnHost
from fl_client.deployment.own_weights import makers_unknown, weights_in_words
from fl_client.deployment.points import point_of
from fl_client.deployment.run_data import data_for
from fl_client.deployment.told import ToldError
from fl_client.disclosure.make import Effort, _request
from fl_client.disclosure.subject import settings_digest
from fl_client.site import Site
from fl_client.start import check_start
from medveil.config import to_mapping
from medveil.contract import ARRAYS, RUN_KEY, RunConfig
from medveil.errors import ConfigError, FederationError, PolicyError
from medveil.evaluating import EVALUATE
from medveil.flower import be_task
from medveil.training import TrainConfig
from medveil.wire import Tensors, encode
from models.config import ModelConfig
from models.pretrained import write_pretrained
from models.vit import build_vit
from simulations.attacks.updates.peft_leak import PeftLeak
from simulations.disclosure.measured import Request, _prepared

SIZES = ModelConfig(image_size=16, patch=4, channels=1, classes=2, width=24, depth=2, heads=2)
NAME = "trunk.safetensors"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)
    be_task(run_id=1, node_id=2)


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    made = enrolled(tmp_path)
    made.weights.mkdir(parents=True)
    return limited(made)


def limited(files: OwnFiles, *weights: str) -> OwnFiles:
    limits = replace(files.config.limits, least_images=8, smallest_count=2, weights=list(weights))
    return replace(files, config=replace(files.config, device="cpu", limits=limits))


def run(pretrained: str = NAME, **changed: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run": "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab",
        "name": "trial",
        "classes": ["0", "1"],
        "image_size": 16,
        "model": {**to_mapping(SIZES), "pretrained": pretrained},
        "train": to_mapping(TrainConfig(batch_size=8, scope="bias")),
        "cipher": {"scheme": "block-pixel", "block": 4, "negate": True},
        "keys": "per-site",
        "stem_init": "adapted",
        "stem_train": "frozen",
        "least_sites": 2,
    }
    return RunConfig(**{**values, **changed})


def trunk(seed: int) -> dict[str, torch.Tensor]:
    """Of a model that was trained: its biases are not those of a fresh one."""
    state = build_vit(SIZES, seed=seed).state_dict()
    return {name: each + 0.1 if name.endswith(".bias") else each for name, each in state.items()}


def placed(files: OwnFiles, seed: int = 7) -> str:
    """A file of weights in the site's folder; returns its SHA-256."""
    path = files.weights / NAME
    save_file({name: each.contiguous() for name, each in trunk(seed).items()}, path)
    return sha256(path.read_bytes()).hexdigest()


def judged(files: OwnFiles, asked: RunConfig | None = None) -> RunConfig:
    return checked_run({RUN_KEY: (asked or run()).to_json()}, files.config.limits, files.weights)


# -- the limit ---------------------------------------------------------------------------------------------------------


def test_a_run_begins_from_no_file_that_nobody_named_here_and_from_one_that_is(files: OwnFiles) -> None:
    digest = placed(files)
    assert judged(files, run("false")).model["pretrained"] == "false", "fresh weights need no name"
    with pytest.raises(PolicyError, match="do not name the weights that the run begins from; a person at") as refused:
        judged(files)
    assert refused.value.where == "limits.weights"
    # It goes to the server: of the file nothing is told.
    assert digest not in str(refused.value) and str(files.weights) not in str(refused.value)
    with pytest.raises(PolicyError):
        judged(limited(files, "0" * 64))
    for named in ([digest], ["0" * 64, digest.upper()], ["any"]):
        assert judged(limited(files, *named)).model["pretrained"] == str(files.weights / NAME)
    placed(files, seed=8)
    with pytest.raises(PolicyError):
        judged(limited(files, digest))  # Another file under the same name.


def test_a_file_that_cannot_be_read_is_refused_without_its_path(
    files: OwnFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed(files)

    def broken(*_: object) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr("hashlib.file_digest", broken)
    with pytest.raises(ConfigError, match=r"model\.pretrained: this site cannot read its weights") as refused:
        judged(files)
    assert str(files.weights) not in str(refused.value)


@pytest.mark.parametrize("bad", [["0" * 63], ["g" * 64], ["none"], [NAME], [""], ["any", "0" * 64]])
def test_what_names_no_file_is_refused(bad: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"'limits\.weights' is .*(64 hex digits|digests), or any"):
        LimitsConfig(weights=bad).check(where="site.yaml")
    LimitsConfig(weights=["aB" * 32]).check(where="site.yaml")


# -- what a server sends -----------------------------------------------------------------------------------------------


def test_a_server_sends_no_frozen_tensor_and_no_first_model_but_that_of_the_named_file(files: OwnFiles) -> None:
    host = OwnHost(limited(files, placed(files)), open_keys(files, lambda named: WORD))
    site = host.site_for({RUN_KEY: run().to_json()})
    assert isinstance(site, Site)
    file, seed = trunk(7), build_vit(SIZES, seed=site.run.seed).state_dict()
    of_file, of_seed = ({name: each[name].numpy().copy() for name in site.travelling} for each in (file, seed))
    # A head is drawn anew from the seed, whatever the file has.
    drawn = {name: site.bench.public[name].numpy() for name in site.travelling if name.startswith("head.")}
    check_start(site, 0, {**of_file, **drawn})
    crafted = {name: array + np.float32(name == "blocks.0.mlp.fc1.bias") for name, array in of_file.items()}
    for other in (crafted, of_seed):
        with pytest.raises(FederationError, match="is not the model of the run's settings: 'blocks"):
            check_start(site, 0, {**other, **drawn})
    frozen = "blocks.0.mlp.fc1.weight"
    assert frozen not in site.travelling
    assert incoming_in(message({**of_file, **drawn}), site).keys() == set(site.travelling)
    with pytest.raises(FederationError):
        incoming_in(message({**of_file, **drawn, frozen: file[frozen].numpy()}), site)
    with pytest.raises(ToldError, match=r"limits\.weights: this site's limits do not name"):
        OwnHost(limited(files), open_keys(files, lambda named: WORD)).site_for({RUN_KEY: run().to_json()})


def message(given: Tensors) -> Message:
    arrays = ArrayRecord({name: Array(array) for name, array in encode(given, "fp32").items()})
    return Message(RecordDict({ARRAYS: arrays}), dst_node_id=1, message_type="train")


# -- what a person is told ---------------------------------------------------------------------------------------------


def test_approving_tells_digest_card_and_what_whoever_made_the_weights_may_do(files: OwnFiles) -> None:
    card = {
        "run": "mri (1f)",
        "data": "plain images",
        "licence of the data": "CC BY\x1b[31m 4.0",
        "recipe": {"lr": 0.1},
    }
    write_pretrained(files.weights / NAME, build_vit(SIZES, seed=7), name="vit_tiny_patch16_224", card=card)
    digest = sha256((files.weights / NAME).read_bytes()).hexdigest()
    named, loose = limited(files, digest), limited(files, "any")
    said = weights_in_words(judged(named), named.config.limits)
    for words in (
        f"this site's file {NAME}, SHA-256 {digest}, named in 'limits.weights'; they say of themselves: run mri (1f)",
        "data plain images; licence of the data CC BY",
        "recipe lr 0.1; whoever made these weights may have planted in them what prints this site's images",
    ):
        assert words in said
    assert "\x1b" not in said
    assert "not named in 'limits.weights', which takes any" in weights_in_words(judged(loose), loose.config.limits)
    placed(files)
    assert "they do not say of themselves what they are" in weights_in_words(judged(loose), loose.config.limits)
    measures = replace(judged(loose), task=EVALUATE)
    assert "ask of images what they like" in weights_in_words(measures, loose.config.limits)
    fresh = weights_in_words(judged(loose, run("false")), loose.config.limits)
    assert fresh == "fresh, built at this site from the run's seed; no file"


def test_check_and_hardening_list_the_limit_and_the_files_it_does_not_name(files: OwnFiles) -> None:
    def points(of: OwnFiles) -> tuple[str, str, str]:
        (hard,) = [each for each in _limits(of) if each.what == "weights"]
        soft = point_of("weights", lambda: _weights(of))
        return soft.state, f"{soft.found}; {soft.cure}", hard.state

    assert points(files) == ("ok", "fresh alone: 'limits.weights' names none; ", "ok")
    digest = placed(files)
    state, said, hard = points(files)
    assert (state, hard) == ("warning", "ok")
    assert f"begins from {NAME} (SHA-256 {digest}) is refused" in said and "into 'limits.weights'" in said
    assert points(limited(files, digest)) == ("ok", "1 named in 'limits.weights'; ", "ok")
    assert "2 named in 'limits.weights', 1 of them not in" in points(limited(files, digest, "0" * 64))[1]
    state, said, hard = points(limited(files, "any"))
    assert (state, hard) == ("warning", WEAK)
    assert digest in said and "whoever made one may have planted" in said


def request(files: OwnFiles, asked: RunConfig, *, server_weights: bool) -> Request:
    rest: dict[str, Any] = {"minutes": 1.0, "keys": 1, "short": True, "device": "cpu", "threads": 1, "plugins": []}
    data = data_for(asked, files.data)
    return Request(run=asked, data=data, missing="", server_weights=server_weights, **rest)


# -- what is disclosed -------------------------------------------------------------------------------------------------


def test_a_disclosure_takes_weights_for_the_servers_where_no_limit_names_them(files: OwnFiles) -> None:
    digest = placed(files)
    loose, named = limited(files, "any"), limited(files, digest)
    asked = judged(loose)
    assert _request(loose, asked, Effort())["server_weights"] is True
    assert _request(named, asked, Effort())["server_weights"] is False
    assert not makers_unknown(judged(loose, run("false")), loose.config.limits)
    for server_weights in (True, False):
        setting = _prepared(request(loose, asked, server_weights=server_weights)).setting
        refused = str(PeftLeak().refusal(setting))
        assert ("frozen weights are taken to be built from the settings" in refused) is not server_weights
    before = settings_digest(asked)
    placed(files, seed=8)
    assert settings_digest(asked) != before, "of other weights under that name nothing was disclosed"
