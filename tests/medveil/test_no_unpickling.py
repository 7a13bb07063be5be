"""Nothing is unpickled: a promise of SECURITY.md. One command is the exception, with PyTorch's reader of weights."""

from __future__ import annotations

import ast
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_client.export.folder import open_folder
from fl_client.export.ready import no_keys
from medveil.errors import ConfigError, MedVeilError
from medveil.npz import shapes
from models.config import ModelConfig
from models.published import source_of
from models.unpickled import PICKLED
from models.vit import build_vit
from simulations.cli import main

ROOT = Path(__file__).parents[2]
PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")
THE_ONE = "simulations/convert.py"
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "torch.hub"}
CALLS = {"load_state_dict_from_url", "load_state_dict_from_path", "load_checkpoint", "_torch_load", "read_pickle"}
"""Readers of timm, torch and pandas that end in a pickle."""
SUSPECT = re.compile(
    "pickle|weights_only|dill|joblib|shelve|torch.load|torch import|torch.jit|hub|load_state_dict|" + "|".join(CALLS)
)


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names if each.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{each.name}" for each in node.names} | {str(node.module)}
            yield from (f"from {each}" for each in named & MODULES)
            taken = {each.name for each in node.names}
            yield from (f"from {node.module} import {each}" for each in taken & CALLS)
            if str(node.module).startswith("timm") and "load_state_dict" in taken:
                yield "from timm import load_state_dict"
            if node.module == "torch" and "load" in taken:
                yield "from torch import load"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if (
                name in {"torch.load", "torch.jit.load", "torch.package.PackageImporter"}
                or name.split(".")[-1] in CALLS
            ):
                yield name
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if (keyword.arg, value) in {("allow_pickle", True), ("weights_only", False)}:
                    yield f"{name}({keyword.arg}={value})"


def test_no_code_of_ours_unpickles() -> None:
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            text = file.read_text()
            if SUSPECT.search(text) and (found_here := list(offences(ast.parse(text)))):
                found[name] = found_here
    assert found == {THE_ONE: ["torch.load"]}
    assert "weights_only=True" in (ROOT / THE_ONE).read_text()


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "import joblib", "from torch import load", "from torch import hub", "torch.load(f)"),
        *(
            "np.load(f, allow_pickle=True)",
            "torch.load(f, weights_only=False)",
            "from timm.models import load_state_dict",
        ),
        *("timm.models.load_checkpoint(m, f)", "pandas.read_pickle(f)"),
    ],
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert SUSPECT.search(code)
    assert list(offences(ast.parse(code)))


class Exploit:
    """What a stranger sends: it makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("never-made",)


def disguised(kind: str, folder: Path) -> Path:
    path = folder / kind
    if kind.startswith("array"):
        np.savez(path, **{"embedding/kernel": np.array([Exploit()], dtype=object)})
    elif kind.startswith("bare"):
        path.write_bytes(pickle.dumps({"head.weight": Exploit()}))
    else:
        torch.save({"head.weight": Exploit()}, path)
    return path


KINDS = [*(f"saved{suffix}" for suffix in (*PICKLED, ".safetensors")), "bare.pth", "bare.safetensors", "array.npz"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_door_runs_what_a_stranger_sent(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = disguised(kind, tmp_path)
    with pytest.raises(MedVeilError) as caught:
        build_vit(ModelConfig(pretrained=str(path)), seed=0)
    assert "\n" not in str(caught.value)
    if not kind.startswith("array"):
        renamed = "" if path.suffix in PICKLED else f"call it {path.stem}.pth: "
        assert f"nothing is unpickled; {renamed}'medveil-sim convert-checkpoint" in str(caught.value)
    assert main(["run", "demo", "--out", "run", "--set", f"model.pretrained={path}"]) in (2, 3)
    assert main(["convert-checkpoint", str(path), "--out", "made.safetensors"]) == 2
    with pytest.raises(MedVeilError):
        open_folder(tmp_path, no_keys)
    if kind.startswith("array"):
        with pytest.raises(MedVeilError):
            shapes(path)
    assert not (tmp_path / "never-made").exists()
    assert not (tmp_path / "made.safetensors").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("vit_tiny_patch16_224", {"url": "", "hf_hub_filename": "model.safetensors"}),
        ("vit_small_patch16_dinov3.lvd1689m", {"url": "", "hf_hub_filename": "model.safetensors"}),
        ("vit_base_patch16_clip_224.openai", {"url": "", "hf_hub_filename": "model.safetensors"}),
    ],
)
def test_published_weights_are_asked_for_as_safetensors(name: str, wanted: dict[str, str]) -> None:
    assert source_of(name) == wanted


def test_weights_published_as_a_pickle_alone_are_refused() -> None:
    import timm  # noqa: PLC0415 - models.published declares what its torchvision lacks, and must come first

    sources = {}
    for name in timm.list_models(pretrained=True):
        found = timm.models.get_pretrained_cfg(name)
        try:
            sources[name] = source_of(name)
        except ConfigError as error:
            assert "published as a pickle" in str(error)
            assert not found.hf_hub_id
            continue
        named = sources[name].get("hf_hub_filename") or (
            found.url if "url" not in sources[name] else found.hf_hub_filename
        )
        assert str(named).endswith((".safetensors", ".npz")), name
    assert len(sources) > 500
