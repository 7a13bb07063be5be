"""What a model is beside its name."""

from __future__ import annotations

import pytest

from medveil.errors import ConfigError
from models.config import ModelConfig
from models.described import described, in_words, millions, refuse_foreign_sizes
from models.vit import build_vit


def test_sizes_and_parameters_are_those_of_the_model_that_was_built() -> None:
    config = ModelConfig(
        name="vit_base_patch16_224", image_size=32, patch=8, channels=1, classes=2, width=48, depth=2, heads=3
    )
    model = build_vit(config, seed=0)
    found = described(model, config)
    assert found == {
        "name": "vit_base_patch16_224",
        "width": 48,
        "depth": 2,
        "heads": 3,
        "patch": 8,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "named": {"width": 768, "depth": 12, "heads": 12},
    }
    words = in_words(found)
    assert words.startswith(
        "vit_base_patch16_224 with width 48 (timm: 768), depth 2 (timm: 12), 3 heads (timm: 12); patch"
    )


def test_a_model_as_its_name_has_it_says_so_without_a_remark() -> None:
    config = ModelConfig(name="vit_tiny_patch16_224", image_size=32, classes=2)
    words = in_words(described(build_vit(config, seed=0), config))
    assert words == "vit_tiny_patch16_224 with width 192, depth 12, 3 heads; patch 16, 5.49 M parameters"


def test_numbers_of_parameters_as_people_say_them() -> None:
    assert [millions(n) for n in (15_386, 830_000, 85_800_000)] == ["15,386", "0.83 M", "85.8 M"]


def model(**changes: object) -> ModelConfig:
    return ModelConfig(**{"name": "vit_tiny_patch16_224", "width": 128, "depth": 4, "heads": 4, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "overrides"),
    [
        ({}, []),
        ({"width": 64}, ["model.width=64"]),
        ({"name": "vit_tiny_patch16_224"}, ["model.name=vit_tiny_patch16_224"]),
        (
            {"name": "vit_base_patch16_224", "width": 96, "depth": 2, "heads": 3},
            ["model.name=vit_base_patch16_224", "model.width=96", "model.depth=2", "model.heads=3"],
        ),
        (
            {"name": "vit_base_patch16_224", "width": None, "depth": None, "heads": None},
            ["model.name=vit_base_patch16_224", "model.width=null", "model.depth=null", "model.heads=null"],
        ),
    ],
)
def test_sizes_that_were_meant_for_the_name_stand(changes: dict[str, object], overrides: list[str]) -> None:
    refuse_foreign_sizes(model(), model(**changes), overrides, file="run.yaml")


def test_sizes_of_another_name_do_not() -> None:
    after = model(name="vit_base_patch16_224", width=None)
    with pytest.raises(
        ConfigError, match=r"cut to depth 4, heads 4, which run.yaml .*add model.depth=null model.heads="
    ):
        refuse_foreign_sizes(model(), after, ["model.name=vit_base_patch16_224", "model.width=null"], file="run.yaml")
