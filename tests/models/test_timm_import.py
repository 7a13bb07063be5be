"""timm comes without torch's compiler, and what needs it still gets it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from models import timm_import
from models.late_compiler import COMPILER, Late, without_compiler

BEGUN = """
import sys
import fl_server.app
import fl_client.optimizers
import torch, timm, torchvision
from timm.models.naflexvit import NaFlexRopeIterator, NaFlexVit
heavy = {"torch._dynamo", "torch._inductor", "torch.distributed.tensor", "sympy"}
assert not heavy & sys.modules.keys(), "the compiler was imported"
assert torch.compiler.disable.__module__ == "torch.compiler"
from models.config import ModelConfig
from models.sizes import shape_of, skeleton
looked_at = skeleton(ModelConfig(name="vit_tiny_patch16_224", classes=2, depth=1))
assert all(each.is_meta for each in looked_at.parameters()) and shape_of(looked_at).width == 192
assert "torch._dynamo" not in sys.modules, "the compiler was imported to look at a model"
model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=12, num_heads=2, img_size=32)
model(torch.zeros(1, 3, 32, 32)).sum().backward()
first = torch.nn.Parameter(torch.eye(4))
from models.late_compiler import without_compiler
with without_compiler():
    for kind in (torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam, torch.optim.Muon):
        first.grad = torch.ones(4, 4)
        steps = kind([first], lr=0.1)
        steps.step()
        steps.zero_grad()
assert not torch.equal(first, torch.eye(4)) and first.grad is None
assert not {"sympy", "torch._dynamo"} & sys.modules.keys(), "the compiler was imported to train"
skeleton(ModelConfig(name="vit_small_patch16_dinov3", classes=2, depth=1))
assert "torch._dynamo" not in sys.modules, "the compiler was imported to look at rotary positions"
supported = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
from torch._dynamo.utils import is_compile_supported
assert sys.modules["torch._dynamo"] is torch._dynamo and torch._dynamo.__file__
assert supported is is_compile_supported("cpu")
from torch.distributed.tensor import DTensor
weight = torch.nn.Parameter(torch.eye(4))
weight.grad = torch.ones(4, 4)
timm.optim.create_optimizer_v2([weight], opt="kron", lr=0.1).step()
timm.optim.create_optimizer_v2([weight], opt="muon", lr=0.1).step()
assert not torch.equal(weight, torch.eye(4))
assert torch.compile(lambda number: number + 1, backend="eager")(torch.ones(2)).tolist() == [2, 2]
# What was made without the compiler goes on with it.
before = first.detach().clone()
first.grad = torch.ones(4, 4)
steps.step()
assert not torch.equal(first, before)
"""


@pytest.mark.slow
def test_a_server_and_a_site_begin_without_the_compiler_and_can_have_it() -> None:
    done = subprocess.run([sys.executable, "-c", BEGUN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_needs_more_of_the_compiler_is_imported_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking, disable = [True, False], torch.compiler.disable
    seen: list[Callable] = []

    def importing(module: str) -> None:
        assert module == "timm"
        seen.append(torch.compiler.disable)
        assert (timm_import._COMPILER in sys.modules) is lacking[0]
        if lacking.pop(0):
            raise ImportError("cannot import name 'graph_break' from 'torch._dynamo'")

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    for name in (timm_import._COMPILER, timm_import._UTILS):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(timm_import, "_import", importing)
    timm_import.import_timm()
    assert not lacking
    assert seen == [timm_import._disable, disable]
    assert torch.compiler.disable is disable


def test_what_is_not_compiled_is_called_as_it_is() -> None:
    disabled = timm_import._disable(lambda number: number + 1, reason="a test")
    assert disabled(1) == 2


def test_what_asks_for_all_modules_imports_nothing() -> None:
    late = Late(COMPILER)
    assert not hasattr(late, "__file__")
    assert not hasattr(late, "__wrapped__")
    late.graph_break()


def test_it_makes_way_when_training_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, COMPILER, raising=False)
    with without_compiler():
        assert isinstance(sys.modules[COMPILER], Late)
        with without_compiler():
            assert isinstance(sys.modules[COMPILER], Late)
        assert COMPILER in sys.modules
        disabled = sys.modules[COMPILER].disable(lambda number: number + 1)
        assert disabled(1) == 2
    assert COMPILER not in sys.modules
    assert disabled(1) == 2
