from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from omegaconf import OmegaConf

from fl_client.data.config import DataConfig, PartitionConfig, PhantomConfig, check_data_config
from medveil.config import commented_yaml, load_config
from medveil.errors import ConfigError


def test_every_field_carries_its_help() -> None:
    for schema in (DataConfig, PartitionConfig, PhantomConfig):
        for field in dataclasses.fields(schema):
            assert len(field.metadata.get("help", "")) > 5, f"{schema.__name__}.{field.name}"


def test_defaults_are_valid_once_a_path_is_given() -> None:
    check_data_config(DataConfig(path="somewhere"))
    OmegaConf.structured(DataConfig)
    assert "# " in commented_yaml(DataConfig)


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("source=dicoms", "data.source"),
        ("augment=strong", "data.augment"),
        ("partition.kind=random", "data.partition.kind"),
        ("partition.test=shared", "data.partition.test"),
        ("partition.alpha=0", "data.partition.alpha"),
        ("partition.min_per_site=0", "min_per_site"),
        ("channels=2", "data.channels"),
        ("image_size=0", "data.image_size"),
        ("limit=0", "data.limit"),
        ("window=[1]", "data.window"),
        ("window=[1, 0]", "data.window"),
        ("classes=[a, a]", "data.classes"),
        ("validation=-0.1", "data.validation"),
        ("validation=0.9", "data.test"),
        ("views=-1", "data.views"),
        ("views=3", "data.views"),
        ("augment=light", "data.views"),
        ("flip=true", "data.views"),
        ("phantoms.classes=5", "data.phantoms.classes"),
        ("phantoms.size=8", "data.phantoms.size"),
        ("path=null", "data.path"),
    ],
)
def test_bad_settings_are_refused_by_name(override: str, names: str) -> None:
    config: DataConfig = load_config(DataConfig, overrides=["path=x", override])
    with pytest.raises(ConfigError, match=names.replace(".", r"\.")):
        check_data_config(config)


@pytest.mark.parametrize("good", [{"views": 0}, {"views": 0, "augment": "light"}, {"views": 3, "flip": True}])
def test_views_that_make_sense_are_taken(good: dict[str, Any]) -> None:
    check_data_config(DataConfig(path="x", **good))
