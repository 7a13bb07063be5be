"""What every test may use: a tiny experiment, and a log and site cache as a fresh process has them."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from itertools import zip_longest
from pathlib import Path

import forked
import numpy as np
import pytest
from budget import Budget

TINY = (
    "name=tiny",
    "rounds=2",
    "sites=2",
    "threads=1",
    "device=cpu",
    "data.source=npz",
    "data.partition.min_per_site=4",
    "cipher.block=4",
    "cipher.negate=true",
    "model.width=24",
    "model.depth=2",
    "model.heads=2",
    "train.batch_size=16",
)


_MEMORY_DISK = Path("/dev/shm")
_MEMORY_BYTES = 8 * 2**30


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the number of processes to run the tests in."""
    forked.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Heed Ctrl-C, and keep what tests write in memory where there is plenty of it.

    What a shell starts in the background ignores Ctrl-C and hands that on, to us and to our commands. Our files and
    Flower's are brought to the disk one by one, 5 to 10 ms each, which no test looks at: none of them pulls the plug.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    plenty = physical >= 2 * _MEMORY_BYTES and os.access(_MEMORY_DISK, os.W_OK | os.X_OK)
    if plenty and shutil.disk_usage(_MEMORY_DISK).free >= _MEMORY_BYTES and "TMPDIR" not in os.environ:
        os.environ["TMPDIR"] = str(_MEMORY_DISK)
        tempfile.tempdir = None
    config.pluginmanager.register(Budget(), "budget")
    if config.getoption("forks"):
        config.pluginmanager.register(forked.Forked(config), "forked")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector pass over what imports and collection make, which stays until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        # What a test makes is soon gone again by itself: look for circles seldom.
        gc.set_threshold(20_000, 20, 20)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Do once what every test, or every process that is forked, would do again."""
    _quiet_torch()
    if session.config.getoption("forks"):
        _found_once(session.items)


def _quiet_torch() -> None:
    """Let what torch logs reach the root's handlers.

    Pytest hangs two of its own on each logger that keeps its records to itself, and takes them off again, three times a
    test; torch has forty of these.
    """
    for name, each in logging.root.manager.loggerDict.items():
        if isinstance(each, logging.Logger) and name.partition(".")[0] == "torch":
            each.propagate = True


def _found_once(items: list[pytest.Item]) -> None:
    """Which characters UTF-8 has, which Hypothesis tries out; and that compiled files are those of their sources."""
    if any(item.get_closest_marker("hypothesis") for item in items):
        from hypothesis import strategies  # noqa: PLC0415

        strategies.text().validate()
    if any("fl_client" in item.path.parts for item in items):
        from medveil.installed import installed_hash  # noqa: PLC0415

        installed_hash()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what starts real processes and waits more than it computes, and beside each a long file of the rest."""
    waiting: dict[Path, list[pytest.Item]] = {}
    others: dict[Path, list[pytest.Item]] = {}
    # The simulations' files are the longest: a short one is to be the last.
    for item in sorted(items, key=lambda item: "simulations" not in item.path.parts):
        kind = waiting if item.path.parent.name == "e2e" else others
        kind.setdefault(item.path, []).append(item)
    pairs = zip_longest(waiting.values(), others.values(), fillvalue=[])
    items[:] = [item for pair in pairs for file in pair for item in file]


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """Commands set up MedVeil's log for their process: give it back as it was."""
    root = logging.getLogger("medveil")
    before = root.level, root.propagate, list(root.handlers)
    yield
    root.level, root.propagate, root.handlers = before
    root.setLevel(before[0])


@pytest.fixture(autouse=True)
def fresh_passphrase() -> Iterator[None]:
    """A passphrase in the environment is kept by the process that read it: forget it, as a new process would."""
    from crypto.passphrase import forget  # noqa: PLC0415

    yield
    forget()


@pytest.fixture
def fresh_sites() -> Iterator[None]:
    """Forget the open sites of earlier runs, as a new process would."""
    from fl_client.simulated_host import _simulated_site  # noqa: PLC0415

    _simulated_site.cache_clear()
    yield
    _simulated_site.cache_clear()


def tiny_images(n: int = 96, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, size, size) uint8 with a brighter square where the label is 1."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.integers(0, 90, (n, size, size), dtype=np.uint8)
    images[labels == 1, size // 4 : size // 2, size // 4 : size // 2] += 120
    return images, labels


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz of 96 tiny images in two classes."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.npz"
    images, labels = tiny_images()
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="session")
def tiny_settings(tiny_npz: Path) -> list[str]:
    """The tiny experiment as KEY=VALUE settings."""
    return [*TINY, f"data.path={tiny_npz}"]


@pytest.fixture
def tiny(tiny_settings: list[str]) -> Callable:
    """Make the tiny experiment: two sites, 16 x 16 pixels, a ViT of two blocks; more settings may be given."""
    from medveil.config import load_config  # noqa: PLC0415
    from simulations.config import ExperimentConfig  # noqa: PLC0415

    return lambda *overrides: load_config(ExperimentConfig, None, [*tiny_settings, *overrides])
