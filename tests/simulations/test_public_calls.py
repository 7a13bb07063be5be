"""The door from Python: what is wrong is refused by the name of the argument, and leaves nothing."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import public_api
import pytest
import torch

from crypto import api as crypto_api
from medveil.errors import ConfigError
from models import api as models_api
from simulations import api, folders

LISTED = Path(__file__).parents[2] / "docs" / "reference" / "public-api.txt"


def _nothing(kind: str) -> Any:
    return None if "None" in kind else {} if "Mapping" in kind else []


def test_every_public_call_refuses_an_argument_of_no_type_it_takes() -> None:
    keys = crypto_api.Keyring(crypto_api.SiteKey.generate("mercy"))
    fitting = {"str | Path": "x", "str": "x", "int": 1, "float": 1.0, "bool": True, "Keyring": keys}
    fitting |= {
        "ModelConfig": models_api.ModelConfig(),
        "VisionTransformer": None,
        "Any": None,
        "Tensor": torch.zeros(1),
    }
    fitting |= {
        "torch.dtype": torch.float32,
        "ExperimentConfig": api.ExperimentConfig(),
        "CipherConfig": crypto_api.CipherConfig(),
    }
    seen = 0
    for name in public_api.names(LISTED.read_text()):
        module, _, own = name.rpartition(".")
        call = getattr(sys.modules[module], own)
        if isinstance(call, type):
            continue
        taken = [each for each in inspect.signature(call).parameters.values() if each.kind is not each.VAR_KEYWORD]
        for at, each in enumerate(taken):
            if each.annotation in {"VisionTransformer", "Any"}:
                # Arrays in all their forms, and what takes seconds to import, are theirs to look at.
                continue
            # Those before it are as they should be, and it is the first that is not.
            before = {one.name: fitting.get(kind := str(one.annotation), _nothing(kind)) for one in taken[:at]}
            given = {**before, **{one.name: object() for one in taken[at:]}}
            positional = [given.pop(one.name) for one in taken if one.kind is one.POSITIONAL_ONLY]
            with pytest.raises(ConfigError) as caught:
                call(*positional, **given)
            assert str(caught.value).startswith(f"{own}({each.name}=...): is of type 'object'; "), (name, caught.value)
            seen += 1
    assert seen > 100


def test_a_call_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    experiment, out = api.experiment("demo"), tmp_path / "above" / "out"
    with pytest.raises(ConfigError, match=r"did you mean 'train\.lr'"):
        api.sweep(experiment, out, over={"train.lrr": [1e-3, 3e-3]})
    for call in (api.compare, api.ablate):
        with pytest.raises(ConfigError, match="jobs: is 0; 1 or more"):
            call(experiment, out, jobs=0)
    with pytest.raises(ConfigError, match=r"compare\.seeds: names no seed"):
        api.search(experiment, out, over={"train.lr": [1e-3, 3e-3]}, seeds=[])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ran", [False, True])
def test_of_many_runs_a_folder_is_left_once_one_began(ran: bool, tmp_path: Path) -> None:
    out = tmp_path / "above" / "out"
    with pytest.raises(ConfigError), folders.many(out, ".sweep", jobs=1) as folder:
        (folder / "phantoms").mkdir()
        if ran:
            (folder / "point").mkdir()
        raise ConfigError("refused")
    assert [each.name for each in tmp_path.iterdir()] == (["above"] if ran else [])
    assert (out / "phantoms").is_dir() is ran
