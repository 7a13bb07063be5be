"""What `medveil-site check` says of a site's images is what a run does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from labelled_trees import classes, table

from fl_client.data.config import DataConfig
from fl_client.data.partition import site_parts
from fl_client.data.source import open_source
from fl_client.deployment import check, points
from fl_client.deployment.config import SiteConfig
from fl_client.deployment.limits import check_images
from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.own_files import OwnFiles
from medveil.errors import ConfigError, DataError


def site(root: Path, *, least: int = 4, **data: Any) -> OwnFiles:
    images = DataConfig(**{"source": "images", "path": str(root), "image_size": 16, "min_side": 1, **data})
    config = SiteConfig(name="mercy", server="here:1", data=images, limits=LimitsConfig(least_images=least))
    return OwnFiles(config, root.parent / "site.yaml")


def point(files: OwnFiles) -> check.Point:
    return points.point_of("data", lambda: check._data(files, lambda _: ""))


def test_a_site_of_one_class_is_told_what_it_needs_and_trains(tmp_path: Path) -> None:
    files = site(classes(tmp_path / "images", "mass", images=12))
    found = point(files)
    assert (found.state, found.exit_code) == (points.WARNING, 0)
    assert "12 images, for the run's file: 'data.classes=[mass]'; all of one class" in found.found
    assert "must name the other classes too" in found.cure
    # As a run opens it, which names all classes.
    files.config.data.classes = ["mass", "none"]
    parts = site_parts(open_source(files.data), files.data, sites=1, index=0, seed=3)
    assert (len(parts.train), len(parts.test)) == (8, 2)


def test_one_class_of_folders_is_said_with_what_it_may_mean(tmp_path: Path) -> None:
    root = classes(tmp_path / "images", "mass/a", "mass/b", images=6)
    assert point(site(root)).state == points.WARNING


@pytest.mark.parametrize(("least", "state"), [(14, points.OK), (15, points.FAILED), (20, points.FAILED)])
def test_images_are_counted_as_a_run_counts_them(tmp_path: Path, least: int, state: str) -> None:
    files = site(classes(tmp_path / "images", "a", "b", images=10), least=least)
    found = point(files)
    assert found.state == state
    parts = site_parts(open_source(files.data), files.data, sites=1, index=0, seed=9)
    if state == points.FAILED:
        assert f"{len(parts.train)} of them to train on" in found.found
        assert "fewer training images than its own limit" in found.found
        with pytest.raises(ConfigError):
            check_images(len(parts.train), files.config.limits)
    else:
        check_images(len(parts.train), files.config.limits)


def test_no_test_image_is_a_choice_and_said(tmp_path: Path) -> None:
    found = point(site(classes(tmp_path / "images", "a", "b", images=10), test=0.0))
    assert found.state == points.WARNING
    assert "no test image: nothing is measured here" in found.found


def test_a_group_in_two_official_parts_fails_before_a_run_does(tmp_path: Path) -> None:
    root = classes(tmp_path / "images", "a", "b", images=6)
    rows = [(f"{n}/i{i}.png", n, ("train", "test")[i % 2], f"{n}{i // 2}") for n in "ab" for i in range(6)]
    table(root, [("path", "label", "split", "patient"), *rows])
    found = point(site(root, labels="labels.csv", group_by="patient"))
    assert (found.state, found.exit_code) == (points.FAILED, DataError.exit_code)
    assert "stands in more than one official split" in found.found
