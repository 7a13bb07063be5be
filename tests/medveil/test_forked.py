"""Tests run in forked processes: what the parent says of them is what happened in the children."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pytest-xdist runs the tests")

CONFTEST = """
import forked
import pytest

def pytest_addoption(parser):
    forked.add_option(parser)

def pytest_configure(config):
    if config.getoption("forks"):
        config.pluginmanager.register(forked.Forked(config), "forked")

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    yield folder
    (LEFT / folder.parent.name).touch()
"""

FIRST = """
import os, time, warnings
import pytest

def test_passes(shared):
    warnings.warn("oh", UserWarning)

def test_fails(shared, tmp_path):
    os.write(1, b"to the terminal")
    assert tmp_path.name == "other"

def test_dies():
    os.kill(os.getpid(), 9)

@pytest.mark.parametrize("number", range(3))
def test_after(number):
    assert number != 1

def test_skipped():
    pytest.skip("no such thing")

@pytest.mark.timeout(0.5)
def test_hangs():
    time.sleep(60)
"""

SECOND = "def test_passes_too(shared): assert shared.is_dir()\n"


@pytest.fixture
def outcome(tmp_path: Path) -> tuple[int, str, Path]:
    """What three children make of two files."""
    left = tmp_path / "left"
    left.mkdir()
    (tmp_path / "conftest.py").write_text(f"import pathlib\nLEFT = pathlib.Path({str(left)!r})\n{CONFTEST}")
    (tmp_path / "test_first.py").write_text(FIRST)
    (tmp_path / "test_second.py").write_text(SECOND)
    support = Path(__file__).parents[1] / "support"
    ours = {"PYTHONPATH": str(support), "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-ra",
        "--forks",
        "3",
        "--junitxml=report.xml",
        "-p",
        "no:cacheprovider",
        "-p",
        "pytest_timeout",
    ]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", f"--basetemp={tmp_path / 'base'}"],
        cwd=tmp_path,
        env={**os.environ, **ours},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, tmp_path


def test_the_parent_tells_all_that_happened(outcome: tuple[int, str, Path]) -> None:
    code, told, folder = outcome
    assert code == 1
    assert re.search(r"4 failed, 4 passed, 1 skipped, 1 warning ", told)
    assert "to the terminal" in told and "assert 'test_fails0' == 'other'" in told
    assert "FAILED test_first.py::test_dies - the process ended with -9 while this test ran" in told
    assert "FAILED test_first.py::test_after[1]" in told
    assert "FAILED test_first.py::test_hangs - Failed: Timeout" in told
    assert (folder / "report.xml").read_text().count("<testcase") == 9
    # The child that was killed tidies nothing up.
    assert len(list((folder / "left").iterdir())) == 1
