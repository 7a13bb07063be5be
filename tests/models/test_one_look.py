"""An architecture's layers and sizes are looked at once a process, whatever many models are built of it."""

from __future__ import annotations

from typing import Any

import pytest

from models import vit
from models.config import ModelConfig
from models.vit import model_hash


def test_an_architecture_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vit._probe.cache_clear()
    made: list[dict[str, Any]] = []
    create = vit.create

    def counted(name: str, **given: Any) -> Any:
        made.append(given)
        return create(name, **given)

    monkeypatch.setattr(vit, "create", counted)
    small = {"image_size": 16, "patch": 8, "channels": 1, "classes": 2, "width": 32, "depth": 1, "heads": 2}
    built = [vit.build_vit(ModelConfig(name="vit_tiny_patch16_224", **small), seed=seed) for seed in (0, 1, 0)]
    # Three models, and one look.
    assert [each for each in made if not each] == [{}]
    assert len(made) == 4
    assert model_hash(built[0]) == model_hash(built[2]) != model_hash(built[1])
