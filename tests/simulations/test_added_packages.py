"""The package of the page, installed as pip would, and one of each kind that it adds, used; and where none is taken."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import other_package
import pytest
import torch

from crypto import api as crypto_api
from fl_client.data.config import DataConfig
from fl_client.data.source import open_source
from fl_client.deployment.added import added
from fl_client.deployment.config import SiteConfig
from fl_client.deployment.limits import _cipher
from fl_client.deployment.limits_config import LimitsConfig
from fl_client.simulated_host import _simulated_site
from fl_server.config import ServerConfig
from medveil import plugins
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from simulations import api, statistics
from simulations.attacks.registry import chosen
from simulations.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "extend.md").read_text()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's package, installed; the name of its module."""
    torch.set_num_threads(1)
    other_package.forget(monkeypatch)
    (metadata,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    groups = tomllib.loads(metadata)["project"]["entry-points"]
    assert tuple(groups) == plugins.GROUPS
    named = [(group, name, what) for group, own in groups.items() for name, what in own.items()]
    entries = {f"{group} {name}": what.removeprefix("my_package:") for group, name, what in named}
    monkeypatch.syspath_prepend(tmp_path / "installed")
    return other_package.install(tmp_path / "installed", entries, code=code, name="my-package")


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, low in (("bright", 128), ("dark", 0)):
        (tmp_path / "arrays" / label).mkdir(parents=True)
        for each in range(28):
            image = np.kron(rng.integers(low, low + 128, (4, 4)), np.ones((4, 4)))
            np.save(tmp_path / "arrays" / label / f"{each}.npy", image.astype(np.uint8))
    return tmp_path / "arrays"


def test_one_of_each_kind_is_used(
    module: str, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    monkeypatch.setattr(api, "report_of", lambda run: run / "report.html")
    _simulated_site.cache_clear()
    plugins.simulating()
    assert [each["name"] for each in api.others()] == ["mirror", "unmirror", "arrays", "boldyogi"]
    assert {(each["package"], each["version"]) for each in api.others()} == {("my-package", "1.2")}
    assert module not in sys.modules
    experiment = api.experiment(
        None,
        rounds=1,
        sites=2,
        threads=1,
        data={"source": "arrays", "path": arrays, "image_size": 16},
        cipher={"scheme": "mirror", "block": 8},
        keys={"policy": "per-site"},
        stem={"init": "public", "train": "local"},
        model={"width": 16, "depth": 1, "heads": 2},
        server={"strategy": "boldyogi"},
    )
    run = api.run(experiment, tmp_path / "RUN")
    assert run.status == "finished"
    assert run.manifest["environment"]["plugin my-package"] == "1.2"
    assert {site["scheme"] for site in run.manifest["sites"] if "scheme" in site} <= {"mirror"}
    moments = run.checkpoint().state
    assert {name.partition("/")[0] for name in moments} == {"m", "v"}
    assert sum(map(len, run.predictions().values())) > 0
    found = api.attack("unmirror", run=run.folder, keys=1, images_per_key=8)
    assert found.results[0].metrics["ssim"].target == pytest.approx(1)
    assert found.results[0].verdict in {"succeeds", "above chance"}
    assert main(["attacks"]) == 0
    assert "unmirror" in capsys.readouterr().out
    assert "Turns images round" in api.attacks()["unmirror"]


def test_nothing_of_it_is_taken_where_nobody_simulates(module: str, arrays: Path, tmp_path: Path) -> None:
    refused = r"package my-package, medveil.{} '{}': is not taken here; simulations take"
    key = crypto_api.SimulatedKey(0, "site-1")
    with pytest.raises(ConfigError, match=refused.format("schemes", "mirror")):
        crypto_api.make_cipher(crypto_api.CipherConfig(scheme="mirror"), key, channels=1, height=16, width=16)
    with pytest.raises(ConfigError, match=refused.format("sources", "arrays")):
        open_source(DataConfig(source="arrays", path=str(arrays)))
    with pytest.raises(ConfigError, match=refused.format("strategies", "boldyogi")):
        ServerConfig(strategy="boldyogi").check()
    with pytest.raises(ConfigError, match=refused.format("attacks", "unmirror")):
        chosen("unmirror")
    plugins.simulating()
    keys = crypto_api.Keyring(crypto_api.SiteKey.generate("mercy"))
    with pytest.raises(ConfigError, match="'mirror' is another package's, and files outlive packages"):
        cipher = crypto_api.CipherConfig(scheme="mirror")
        crypto_api.hide(arrays, tmp_path / "hidden", keys=keys, purpose="archive", cipher=cipher)
    assert module not in sys.modules


def site(arrays: Path, *, taken: list[str], schemes: list[str]) -> SiteConfig:
    data = DataConfig(source="arrays", path=str(arrays), image_size=16)
    named = {"name": "mercy", "server": "here:1", "ca": "ca", "node_key": "node", "key": "key", "port": 1}
    return SiteConfig(**named, data=data, limits=LimitsConfig(schemes=schemes), plugins=taken)


def test_a_real_site_takes_it_by_its_own_file_alone(module: str, arrays: Path, tmp_path: Path) -> None:
    plugins.simulating()
    cure = r"this site's file says so: plugins: \[my-package\]"
    with pytest.raises(ConfigError, match=f"medveil.schemes 'mirror': is not taken here; .*{cure}"):
        site(arrays, taken=[], schemes=["mirror"]).check(where="site.yaml")
    own = site(arrays, taken=[], schemes=["block-pixel"])
    own.check(where="site.yaml")
    with pytest.raises(ConfigError, match=f"medveil.sources 'arrays': is not taken here; .*{cure}"):
        open_source(own.data)
    # Whatever a server asks for.
    with pytest.raises(ConfigError, match=r"'cipher\.scheme' is no cipher"):
        _cipher(RunConfig(cipher={"scheme": "mirror", "block": 8}))
    assert module not in sys.modules
    own = site(arrays, taken=["my_package"], schemes=["block-pixel", "mirror"])
    own.check(where="site.yaml")
    told = added(own)
    assert told.found.startswith("runs the code of others: medveil.schemes 'mirror' of my-package 1.2; ")
    source = open_source(own.data)
    assert source.classes == ("bright", "dark")
    assert source.read(0).shape == (1, 16, 16)
    key = crypto_api.SiteKey.generate("mercy")
    cipher = crypto_api.make_cipher(crypto_api.CipherConfig("mirror", block=8), key, channels=1, height=16, width=16)
    assert np.array_equal(cipher.decrypt(cipher.encrypt(source.read(0))), source.read(0))
