"""A command that is given something else than its file says what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_client.deployment.own_files import load_site
from medveil.errors import ConfigError


def test_a_folder_in_the_place_of_a_file_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; name the site's file in it"):
        load_site(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        load_site(tmp_path / "none.yaml")


def test_a_file_that_names_no_site_is_named(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"site\.yaml: '' cannot name a site"):
        load_site(file)
