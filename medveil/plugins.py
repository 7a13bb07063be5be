"""What other installed packages add, by entry point: image ciphers, attacks, sources of images, strategies.

Such a package says in its own metadata, under one of `GROUPS`, which name stands for which of its objects. Nothing of
it is imported before a run, a site or a command asks for that name.

A package's code may do whatever the process may do. So

- it is never installed by MedVeil: it was put there by whoever owns the machine, and no run, server or file does that;
- a name of MedVeil's own always means MedVeil's own;
- a process takes none unless it was told to: a simulation, whose sites and server are one person's, takes any that is
  installed (`simulating`), a real site those that its own configuration names (`restrict`), for good. A server of a
  consortium, `medveil-crypto` and the reading of files take none.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from inspect import isabstract
from typing import Any, NamedTuple, TypeVar

from medveil.errors import ConfigError
from medveil.plain import shown

SCHEMES, ATTACKS, SOURCES, STRATEGIES = "medveil.schemes", "medveil.attacks", "medveil.sources", "medveil.strategies"
GROUPS = (SCHEMES, ATTACKS, SOURCES, STRATEGIES)
MOST = 64
"""Entry points of a group that are looked at; what offers more is a mistake."""
_LONGEST_NAME = 40
_LONGEST_WHY = 200
_NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{_LONGEST_NAME - 1}}}")
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
T = TypeVar("T")


class Plugin(NamedTuple):
    """An entry point of another package.

    Attributes
    ----------
    group, name, package, version : str
        Under which name of which group it is, and whose.
    entry : importlib.metadata.EntryPoint
        What loads it.
    """

    group: str
    name: str
    package: str
    version: str
    entry: metadata.EntryPoint

    @property
    def where(self) -> str:
        """It in words, for errors."""
        return f"package {self.package}, {self.group} '{self.name}'"


class _Trust:
    """Whose code this process takes; None stands for everybody's that is installed."""

    def __init__(self) -> None:
        self.packages: frozenset[str] | None = frozenset()
        self.is_final = False


_trust = _Trust()
_used: dict[str, str] = {}


def simulating() -> None:
    """Take what any installed package adds: this process simulates. At a real site nothing changes."""
    if not _trust.is_final:
        _trust.packages = None


def restrict(packages: Iterable[str]) -> None:
    """Take what these packages add and nobody else's, from now on and for good: this process is a real site's.

    Raises
    ------
    ConfigError
        A name is no name of a package.
    """
    named = list(packages)
    wrong = next((each for each in named if not _PACKAGE.fullmatch(each)), None)
    if wrong is not None or len(named) > MOST:
        problem = "names too many packages" if wrong is None else f"{wrong[:_LONGEST_NAME]!a} is no name of a package"
        raise ConfigError(problem, where="plugins", cure="names as 'pip list' prints them")
    _trust.packages, _trust.is_final = frozenset(map(_canonical, named)), True


def used() -> dict[str, str]:
    """Version by package of what this process has loaded, for what a run is written down with."""
    return dict(_used)


def installed() -> list[Plugin]:
    """All that is offered on this machine, taken here or not; nothing of it is imported."""
    return [each for group in GROUPS for each in _offered(group, tuple(sys.path))]


def takes(package: str) -> bool:
    """Whether this process takes what a package adds."""
    return _trust.packages is None or _canonical(package) in _trust.packages


def find(group: str, name: str) -> Plugin | None:
    """What other packages offer under a name; None where none does.

    Raises
    ------
    ConfigError
        Two packages do, one offers more than can be, or this process may not take what it is.
    """
    if not _NAME.fullmatch(name):
        return None
    found = [each for each in _offered(group, tuple(sys.path)) if each.name == name]
    if not found:
        return None
    packages = sorted({each.package for each in found})
    if len(found) > 1:
        problem = f"is offered by {' and by '.join(packages)}" if len(packages) > 1 else "is offered twice"
        raise ConfigError(problem, where=found[0].where, cure="uninstall all but one")
    if not takes(found[0].package):
        raise ConfigError("is not taken here", where=found[0].where, cure=_how_to_take(found[0].package))
    return found[0]


def load(group: str, name: str) -> tuple[Plugin, Any]:
    """Import what another package offers under a name, for `Registry` to check; also gives whose it is.

    Raises
    ------
    KeyError
        No package offers it.
    ConfigError
        As `find`; or importing it failed.
    """
    plugin = find(group, name)
    if plugin is None:
        raise KeyError(name)
    try:
        made = plugin.entry.load()
    except (Exception, SystemExit) as error:  # of another's code: any
        why = shown(f"{type(error).__name__}: {error}", most=_LONGEST_WHY)
        raise ConfigError(f"cannot be loaded ({why})", where=plugin.where, cure="ask whose package it is") from error
    _used[plugin.package] = plugin.version
    return plugin, made


class Registry(dict[str, T]):
    """Things of MedVeil's own by name; a name that is none of them is looked for in other packages.

    As a mapping it is MedVeil's own alone: ``in``, ``len`` and iteration know no other, and nothing is ever put in the
    place of one.

    Parameters
    ----------
    group
        Entry points that add to it.
    own
        MedVeil's own.
    base
        What an added one has to be: an instance of it, or where MedVeil's own are classes a subclass.
    named
        The attribute of a class in which its name stands; None where the name need not.
    """

    def __init__(self, group: str, own: Mapping[str, T], base: type, *, named: str | None = None) -> None:
        super().__init__(own)
        self._group, self._base, self._named = group, base, named
        self._classes = all(isinstance(each, type) for each in own.values())

    def __missing__(self, name: str) -> T:
        """What another package adds under a name (KeyError where none does; errors as `load`)."""
        plugin, made = load(self._group, name)
        problem = self._wrong(name, made)
        if problem is not None:
            raise ConfigError(problem, where=plugin.where, cure="ask whose package it is")
        found: T = made
        return found

    def offers(self, name: str) -> bool:
        """Whether there is such a one, MedVeil's own or another's; nothing is imported. Errors as `find`."""
        return name in self or find(self._group, name) is not None

    def names(self) -> list[str]:
        """All names that this process may ask for, MedVeil's own first."""
        return [*self, *self.others()]

    def usable(self) -> tuple[dict[str, T], list[str]]:
        """All that this process may ask for, imported; and in a line each, what is wrong with those that cannot be."""
        found, wrong = dict(self), []
        for name in self.others():
            try:
                found[name] = self[name]
            except ConfigError as error:
                wrong.append(str(error))
        return found, wrong

    def others(self) -> Iterator[str]:
        """The names that other packages add and this process takes."""
        for each in dict.fromkeys(plugin.name for plugin in _offered(self._group, tuple(sys.path))):
            with contextlib.suppress(ConfigError):
                if each not in self and find(self._group, each) is not None:
                    yield each

    def _wrong(self, name: str, made: Any) -> str | None:
        base = self._base.__name__
        if not self._classes:
            return None if isinstance(made, self._base) else f"is no {base} but a {type(made).__name__}"
        if not (isinstance(made, type) and issubclass(made, self._base)):
            return f"is no subclass of {base}"
        if isabstract(made):
            abstract: frozenset[str] = vars(made)["__abstractmethods__"]
            return f"lacks {', '.join(sorted(abstract))} of {base}"
        said = name if self._named is None else getattr(made, self._named, None)
        return None if said == name else f"calls itself {str(said)[:_LONGEST_NAME]!a} in '{self._named}'"


def _how_to_take(package: str) -> str:
    if _trust.is_final:
        return f"where its code is trusted with images and key, this site's file says so: plugins: [{package}]"
    return "simulations take what other packages add, and real sites what their own file names"


@functools.lru_cache(maxsize=len(GROUPS))
def _offered(group: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """The entry points of a group, as the folders of a search path have them; MedVeil's own has none."""
    found: list[Plugin] = []
    for entry in metadata.entry_points(group=group):
        if entry.dist is None or not _NAME.fullmatch(entry.name):
            continue
        name = _canonical(entry.dist.name)
        found.append(Plugin(group, entry.name, name, shown(entry.dist.version, most=_LONGEST_NAME), entry))
        if len(found) > MOST:
            cure = "uninstall what is not needed"
            raise ConfigError(f"more than {MOST} are installed", where=group, cure=cure)
    return tuple(dict.fromkeys(found))


def _canonical(package: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", package).lower()
