"""What other packages add: found without being imported, refused by the package's name, taken where it may be."""

from __future__ import annotations

import string
import sys
from pathlib import Path

import other_package
import pytest

from medveil import plugins
from medveil.errors import ConfigError
from medveil.plugins import Registry
from medveil.versions import environment


class Own(string.Formatter):
    """One of our own; added ones have to be a subclass of its base."""

    name = "own"


UNFINISHED = "class A(Formatter, abc.ABC):\n    @abc.abstractmethod\n    def f(self): 0"
Added = Registry[type[string.Formatter]]


@pytest.fixture
def registry() -> Added:
    return Registry(plugins.SCHEMES, {"own": Own}, string.Formatter, named="name")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_package.forget(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)


def added(folder: Path, code: str = "", *, name: str = "added", package: str = "other-package") -> str:
    made = code or f"class A(Formatter): name = {name!r}"
    entries = {f"{plugins.SCHEMES} {name}": "A"}
    return other_package.install(folder, entries, code=f"from string import Formatter\n{made}\n", name=package)


def test_a_process_takes_nothing_unless_it_was_told(tmp_path: Path, registry: Added) -> None:
    module = added(tmp_path / "at")
    sys.path.insert(0, str(tmp_path / "at"))
    with pytest.raises(ConfigError, match=r"package other-package, medveil.schemes 'added': is not taken here; simula"):
        registry["added"]
    assert registry.names() == ["own"]
    assert [each.package for each in plugins.installed()] == ["other-package"]
    assert module not in sys.modules
    assert environment().keys().isdisjoint({"plugin other-package"})


def test_a_simulation_takes_what_is_installed_and_imports_it_when_asked(tmp_path: Path, registry: Added) -> None:
    module = added(tmp_path)
    plugins.simulating()
    assert registry.offers("added")
    assert registry.names() == ["own", "added"]
    assert "added" not in registry
    assert module not in sys.modules
    assert registry["added"] is not None
    assert environment()["plugin other-package"] == "1.2"
    with pytest.raises(KeyError):
        registry["nobody's"]
    assert not registry.offers("../added")


def test_a_name_of_our_own_means_ours(tmp_path: Path, registry: Added) -> None:
    module = added(tmp_path, name="own")
    plugins.simulating()
    assert registry["own"] is Own
    assert registry.names() == ["own"]
    assert registry.usable() == ({"own": Own}, [])
    assert module not in sys.modules


def test_a_real_site_takes_what_its_file_names_and_nothing_else_for_good(tmp_path: Path, registry: Added) -> None:
    added(tmp_path, package="Other_Package")
    plugins.restrict([])
    plugins.simulating()
    cure = r"this site's file says so: plugins: \[other-package\]"
    with pytest.raises(ConfigError, match=f"is not taken here; where its code is trusted .* {cure}"):
        registry.offers("added")
    plugins.restrict(["other.package"])
    assert registry["added"] is not None
    for wrong in (["../evil"], ["a"] * 65):
        with pytest.raises(ConfigError, match="plugins: "):
            plugins.restrict(wrong)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('boom\\x1b[31m' * 99)", r"cannot be loaded \(RuntimeError: boom\\x1b\[31m"),
        ("raise SystemExit(0)", r"cannot be loaded \(SystemExit: 0\)"),
        ("import nothing_of_this_name", "cannot be loaded .ModuleNotFoundError"),
        ("pass", "cannot be loaded .AttributeError"),
        ("A = 7", "is no subclass of Formatter"),
        ("class A: pass", "is no subclass of Formatter"),
        ("class A(Formatter):\n    name = 'else'", "calls itself 'else' in 'name'"),
        (f"import abc\n{UNFINISHED}", "lacks f of Formatter"),
    ],
)
def test_what_is_wrong_is_said_with_the_package(code: str, said: str, tmp_path: Path, registry: Added) -> None:
    name = f"broken-{abs(hash(code))}"
    added(tmp_path, code, package=name)
    plugins.simulating()
    with pytest.raises(ConfigError, match=rf"package {name}, medveil.schemes 'added': {said}") as refused:
        registry["added"]
    assert len(str(refused.value)) < 500
    found, wrong = registry.usable()
    assert list(found) == ["own"]
    assert len(wrong) == 1


def test_two_of_one_name_and_too_many_are_refused(tmp_path: Path, registry: Added) -> None:
    added(tmp_path)
    added(tmp_path, package="second-package")
    plugins.simulating()
    with pytest.raises(ConfigError, match="is offered by other-package and by second-package; uninstall all but one"):
        registry.offers("added")
    assert registry.names() == ["own"]
    many = {f"{plugins.SCHEMES} n{each}": "A" for each in range(plugins.MOST + 1)}
    other_package.install(tmp_path / "many", many, name="many")
    sys.path.insert(0, str(tmp_path / "many"))
    with pytest.raises(ConfigError, match="more than 64 are installed"):
        registry.offers("n1")
