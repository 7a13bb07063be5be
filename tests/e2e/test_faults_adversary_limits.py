"""What a server, or changed code, gets of a site that runs: real processes, over TLS on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from consortium_world import PASSPHRASE, World, wait, with_mark
from other_server import run_in_database

from crypto.passphrase import VARIABLE
from fl_server.deployment.control import Control
from fl_server.deployment.plan import RunFile, make_run
from medveil import fab
from medveil.audit_verify import verify
from medveil.config import load_config
from medveil.contract import RUN_KEY, SERVER_KEY
from medveil.environment import needed_environment
from medveil.errors import ConfigError
from medveil.flower_build import build_fab

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CANARY = "canary-7c1e4f"
EVIL = '''
"""A server that asks sites for what they do not know, and keeps what they say."""
import json
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    said = {}
    while not (nodes := list(grid.get_node_ids())):
        pass
    for kind in ("train.evil", "query.x", "reconnect", "query"):
        for content in (RecordDict({"config": ConfigRecord({"server-round": 1})}), RecordDict()):
            sent = [Message(content, message_type=kind, dst_node_id=node) for node in nodes]
            replies = list(grid.send_and_receive(sent, timeout=60))
            told = [each.error.reason if each.has_error() else "SERVED" for each in replies]
            said.setdefault(kind, []).append(told)
    Path(SAID).write_text(json.dumps(said))
'''


def submit(world: World, *, changes: dict[str, str], run: dict[str, object]) -> None:
    """Run an app with files replaced and a run with fields replaced, as a server that is not ours would; to its end."""
    app = fab.stage(world.folder / "evil")
    for name, text in changes.items():
        (app / name).write_text(text)
    content = build_fab(app)
    for site in world.sites.values():
        assert site("approve", fab.hash_of(content)) == 0
    made, settings = make_run(load_config(RunFile, world.run_file()), world.consortium, admitted=len(world.sites))
    settings.server.wait_for_sites = 5
    document = json.loads(made.to_json()) | run
    config = {RUN_KEY: json.dumps(document), SERVER_KEY: settings.to_json()}
    number = run_in_database(world.consortium.database, content, config)
    control = Control(world.consortium)
    wait("the app ends", lambda: control.run(number).finished, seconds=240)


@pytest.mark.fault(
    "a server sends messages of unknown actions, and settings that read a site's environment",
    "each refused and recorded; the worker lives and no word of its environment comes back",
)
def test_unknown_messages_and_interpolated_settings_are_refused_and_the_worker_lives(world: World) -> None:
    world.set_up("policy.least_sites=1")
    site = world.enroll("st-anna", "limits.least_sites=1")
    assert world("start") == 0
    site.start()
    site.wait_ready()
    worker, said = site.pid("worker"), world.folder / "said.json"
    evil = {"fl_server/app.py": EVIL.replace("SAID", repr(str(said)))}
    submit(world, changes=evil, run={"task": "${oc.env:MEDVEIL_HOME}", "name": "${oc.env:PATH}"})
    told = json.loads(said.read_text())
    assert set(told) == {"train.evil", "query.x", "reconnect", "query"}
    replies = [reason for each in told.values() for answers in each for reason in answers]
    assert len(replies) == 8, "a message was never answered"
    assert "SERVED" not in replies
    for secret in (str(world.folder), PASSPHRASE, "oc.env"):
        assert secret not in str(replies)
        assert secret not in site.files.audit.path.read_text()
    assert site.pid("worker") == worker, "the worker was ended by a message"
    own = verify(site.files.audit.path)
    assert own.whole, own.problems
    refused = [each["details"] for each in own.records if each["event"] == "refused"]
    assert len(refused) == 8
    assert {each["kind"] for each in refused} == set(told)
    # And the site serves its consortium as before.
    assert world("run", world.run_file(rounds=1)) == 0
    assert site.pid("worker") == worker


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
