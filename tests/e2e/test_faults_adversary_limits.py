"""What a server, or changed code, gets of a site that runs: real processes, over TLS on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from consortium_world import PASSPHRASE, World, with_mark

from crypto.passphrase import VARIABLE
from medveil import fab
from medveil.environment import needed_environment
from medveil.errors import ConfigError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CANARY = "canary-7c1e4f"


@pytest.mark.faults
@pytest.mark.fault(
    "the code of a site is changed after its hash was approved",
    "'start' and the worker refuse it by its hash, before a key is opened",
)
def test_changed_code_is_not_started(world: World) -> None:
    world.set_up()
    site = world.enroll("st-anna")
    # As its supervisor leaves it.
    site.files.log.parent.mkdir()
    copy = world.folder / "changed"
    for package in fab.PACKAGES:
        shutil.copytree(Path(fab.__file__).parents[1] / package, copy / package)
    environment = {**needed_environment(), "PYTHONPATH": str(copy), VARIABLE: PASSPHRASE, "MEDVEIL_HOME": "none"}

    def ends(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-P", *words]
        done = subprocess.run(
            command, env=environment, cwd=copy, input="{}", capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    worker = ["-m", "fl_client.worker", str(site.file), "--address", "127.0.0.1:1"]
    start = ["-c", "import sys; from fl_client.cli import main; sys.exit(main(sys.argv[1:]))", "start", "--site"]
    # Untouched, it comes as far as the key, whose passphrase nobody gave.
    code, said = ends(*worker)
    assert code == 4, said
    with (copy / "fl_client" / "stems.py").open("a") as stream:
        stream.write("# one comment more\n")
    for words in (worker, [*start, str(site.file)]):
        code, said = ends(*words)
        assert code == ConfigError.exit_code, said
        assert "is not approved at this site" in said
        assert "medveil-site approve " in said
        assert fab.hash_of(fab.installed_fab()) not in said
    assert site.pid("supervisor") is None
    assert not site.files.log.exists() or "is ready" not in site.log


@pytest.mark.faults
@pytest.mark.fault(
    "the coordinator's and the site's shells hold secrets in their environment",
    "none of their processes is given one; the passphrase goes by a pipe",
)
def test_no_process_is_given_what_it_does_not_need(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "SSLKEYLOGFILE", "PYTHONSTARTUP", "FLWR_ANY"):
        monkeypatch.setenv(name, CANARY)
    world.set_up()
    site = world.enroll("st-anna")
    assert world("start") == 0
    site.start()
    site.wait_ready()
    found = with_mark(f"MEDVEIL_HOME={world.folder}")
    assert {site.pid(name) for name in ("supervisor", "supernode", "worker")} <= set(found)
    assert len(found) > 3, "the server's processes were not found"
    for pid in found:
        told = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert CANARY.encode() not in told
        assert PASSPHRASE.encode() not in told
