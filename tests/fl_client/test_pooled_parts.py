"""All images in one place, in the parts that the sites of a federation have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fl_client.data.config import DataConfig, PartitionConfig, check_data_config
from fl_client.data.partition import Parts, site_parts
from fl_client.data.source import open_source
from fl_client.data.standing import settings_of
from medveil.errors import ConfigError

SITES = 3


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    path = tmp_path_factory.mktemp("pooled") / "d.npz"
    made = np.random.default_rng(0).integers(0, 256, (120, 16, 16), dtype=np.uint8)
    made[60:64] = made[0]
    np.savez(path, images=made, labels=np.arange(120) % 3)
    return DataConfig(source="npz", path=str(path))


def parts(config: DataConfig, *, pooled: int = 0, sites: int = 1, **partition: object) -> list[Parts]:
    config = replace(config, partition=PartitionConfig(pooled=pooled, **partition))  # type: ignore[arg-type]
    source = open_source(config)
    return [site_parts(source, config, sites=sites, index=index, seed=5) for index in range(sites)]


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
@pytest.mark.parametrize("test", ["partitioned", "common"])
def test_one_place_has_what_the_sites_have_part_by_part(config: DataConfig, kind: str, test: str) -> None:
    each = parts(config, sites=SITES, kind=kind, test=test)
    (one,) = parts(config, pooled=SITES, kind=kind, test=test)
    for name in ("train", "validation", "test"):
        assert set(getattr(one, name).tolist()) == {i for site in each for i in getattr(site, name).tolist()}
        assert (np.diff(getattr(one, name)) > 0).all()
    assert not set(one.train.tolist()) & set(one.test.tolist())
    # Dealt to one site, the images are split otherwise: it is this that the answers of two arms could not be paired by.
    (alone,) = parts(config, kind="iid", test=test)
    assert set(alone.train.tolist()) != set(one.train.tolist())


def test_it_is_one_place(config: DataConfig) -> None:
    with pytest.raises(ConfigError, match=r"data\.partition\.pooled: puts all images in one place"):
        parts(config, pooled=SITES, sites=2)
    with pytest.raises(ConfigError, match="pooled"):
        check_data_config(replace(config, partition=PartitionConfig(pooled=-1)))


def test_what_decides_a_split_names_it_where_it_is_asked_for(config: DataConfig) -> None:
    source = open_source(config)
    told = [settings_of(source, replace(config, partition=PartitionConfig(pooled=n)), seed=0) for n in (0, 2)]
    assert "data.partition.pooled" not in told[0]
    assert told[1]["data.partition.pooled"] == 2
