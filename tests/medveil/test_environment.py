"""What processes of ours and of Flower's are told by their environment: a list, and nothing of the person's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medveil.environment import OFFLINE, flower_environment, needed_environment
from simulations.engines.flower import _environment

CANARY = "canary-7c1e"
SECRET = (
    *(
        "MEDVEIL_PASSPHRASE",
        "AWS_SECRET_ACCESS_KEY",
        "SSH_AUTH_SOCK",
        "CREDENTIALS_DIRECTORY",
        "HF_TOKEN",
        "SSLKEYLOGFILE",
    ),
    "SSLKEYLOGFILE",
    *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONOPTIMIZE", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV"),
    *("FLWR_HOME_OTHER", "FLWR_TELEMETRY_URL", "MEDVEIL_SITE", "MEDVEIL_AUDIT", "OMEGACONF_X"),
)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRET:
        monkeypatch.setenv(name, CANARY)


@pytest.mark.usefixtures("crowded")
def test_only_what_is_needed_by_name_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", ".hospital.example")
    for made in (flower_environment(tmp_path, MEDVEIL_HOME="/x"), needed_environment(), _environment(tmp_path)):
        assert CANARY not in str(made)
        assert not set(SECRET) & set(made)
        assert (made["OMP_NUM_THREADS"], made["LC_ALL"], made["HTTPS_PROXY"]) == ("3", "C.UTF-8", "http://proxy:3128")
        assert OFFLINE.items() <= made.items()
    made = flower_environment(tmp_path, MEDVEIL_HOME="/x")
    assert made["MEDVEIL_HOME"] == "/x"
    assert made["NO_PROXY"] == ".hospital.example,127.0.0.1,localhost,::1"
    assert made["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


@pytest.mark.usefixtures("crowded")
def test_programs_start_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import medveil.flower, os; print(dict(os.environ))"]
    done = subprocess.run(
        command, env=flower_environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "FLWR_HOME" in done.stdout
    assert CANARY not in done.stdout


def test_what_starts_flowers_processes_imports_nothing_of_flower_and_what_enrols_no_torch() -> None:
    """A command's refusal comes at once, and what watches a site's processes takes a quarter less of its memory."""
    code = """
import sys
import fl_client.cli, fl_client.deployment.supervisor, fl_server.cli, fl_server.deployment.consortium
print(sorted({"flwr", "grpc", "torch", "timm", "scipy"} & set(sys.modules)))
import fl_client.data.source, fl_client.deployment.check, fl_client.deployment.enroll
print(sorted({"torch", "timm", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
