"""What happens when a site says or sends what it should not, and when all of them fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from consortium_world import World
from faults import OddSite, manifest

from medveil.errors import FederationError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def odd_world(world: World) -> dict[str, OddSite]:
    """Two sites whose updates are kept; both as they should be until told otherwise.

    What each takes for the key that all sites hold is its own.
    """
    world.set_up("policy.least_sites=1")
    sites = {name: OddSite(world.enroll(name, "limits.least_sites=1")) for name in ("mercy", "st-anna")}
    for odd in sites.values():
        own = yaml.safe_load(odd.site.file.read_text())["key"]
        odd.site.change(shared_key=own, limits__send_stem=True)
    assert world("start") == 0
    for site in sites.values():
        site.start()
    return sites


@pytest.mark.faults
@pytest.mark.fault("a site has another key", "refused at the query, naming site and field: fingerprint")
@pytest.mark.fault("a site has another scheme", "refused at the query, naming site and field: scheme")
@pytest.mark.fault("a site has another initial model", "refused at the query, naming site and field: model-hash")
@pytest.mark.fault("a site has another list of classes", "refused at the query, naming site and field: classes")
def test_a_site_that_disagrees_is_refused_at_the_query(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    sites = odd_world(world)

    def refused(**settings: object) -> str:
        capsys.readouterr()
        assert world("run", world.run_file(rounds=1, **settings)) == FederationError.exit_code
        return capsys.readouterr().err.splitlines()[-1]

    said = refused(keys={"policy": "shared"})
    assert "st-anna: 'fingerprint' is" in said
    assert "as at mercy with keys 'shared'" in said
    for field, value in (("scheme", "etc"), ("model-hash", "0" * 64), ("classes", ["mass", "none"])):
        sites["mercy"].be(say={field: value})
        assert f"mercy: '{field}' is {value!r}; wanted" in refused()
    for site in sites.values():
        assert not list(site.file.parent.glob("*.npz")), "it trained"


@pytest.mark.faults
@pytest.mark.fault("every site fails in a round", "the run fails with the reason of each site, and makes no model")
def test_a_run_without_any_usable_update_fails_with_the_reasons(
    consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for site in consortium.sites.values():
        # The disk refuses the stem of every round; the query needs none.
        folder = site.files.state / "site"
        folder.mkdir(mode=0o700)
        (folder / "stems").write_text("a file where a folder is needed")
    assert consortium("run", consortium.run_file()) == FederationError.exit_code
    said = capsys.readouterr().err
    for name in consortium.sites:
        assert f"{name}: StorageError: see the log of the site" in said
    assert str(Path(consortium.folder)) not in said.splitlines()[-1], "a path left a site"
    assert not list((consortium.run_folder() / "checkpoints").glob("*")), "a model was made"
    assert manifest(consortium)["status"] == "failed"
