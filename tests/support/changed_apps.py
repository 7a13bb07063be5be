"""What becomes of a server's app that is not the installed MedVeil: at sites that did not approve it, and that did."""

from __future__ import annotations

import json
from typing import Any

import pytest
from consortium_world import PASSPHRASE, Hospital, World, wait
from other_server import run_in_database

from fl_server.deployment.control import Control
from fl_server.deployment.plan import RunFile, make_run
from medveil import fab
from medveil.audit import Record
from medveil.audit_verify import verify
from medveil.config import load_config
from medveil.contract import RUN_KEY, SERVER_KEY
from medveil.errors import FederationError
from medveil.fab import hash_of
from medveil.flower_build import build_fab

EVIL = '''
"""A server that asks sites for what they do not know, and keeps what they say."""
import json, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    kinds, sent = {}, []
    for kind in ("train.evil", "query.x", "reconnect", "query"):
        for content in (RecordDict({"config": ConfigRecord({"server-round": 1})}), RecordDict()):
            sent += [Message(content, message_type=kind, dst_node_id=node) for node in nodes]
    # All at once: Flower looks for replies every 3 s.
    for message, sent_as in zip(sent, grid.push_messages(sent), strict=True):
        kinds[sent_as] = message.metadata.message_type
    said, end = {}, time.monotonic() + 60
    while kinds and time.monotonic() < end:
        for reply in grid.pull_messages(list(kinds)):
            kind = kinds.pop(reply.metadata.reply_to_message_id)
            said.setdefault(kind, []).append(reply.error.reason if reply.has_error() else "SERVED")
        time.sleep(0.2)
    Path(SAID).write_text(json.dumps(said))
'''


def changed_app(world: World, name: str, changes: dict[str, str], *, added: bool) -> bytes:
    """The installed app with the text of files replaced, or added to them."""
    app = fab.stage(world.folder / name)
    for file, text in changes.items():
        path = app / file
        path.write_text((path.read_text() if added and path.exists() else "") + text)
    return build_fab(app)


def submit(world: World, content: bytes, **changes: object) -> None:
    """Run an app as a coordinator could whose server is not ours, fields of its run replaced; to its end."""
    run, settings = make_run(load_config(RunFile, world.run_file()), world.consortium, admitted=len(world.sites))
    settings.server.wait_for_sites = 5
    document: dict[str, Any] = json.loads(run.to_json()) | changes
    config = {RUN_KEY: json.dumps(document), SERVER_KEY: settings.to_json()}
    control = Control(world.consortium)
    # This server's own door takes no other app.
    with pytest.raises(FederationError, match="this server runs the installed MedVeil, and no other app"):
        control.commands().begin(content, hash_of(content), config)
    number = run_in_database(world.consortium.database, content, config)
    wait("the changed app ends", lambda: control.run(number).finished, seconds=240, every=1.0)


def refusals(site: Hospital) -> list[Record]:
    own = verify(site.files.audit.path)
    assert own.whole, own.problems
    return [each["details"] for each in own.records if each["event"] == "refused"]


def unapproved_code_runs_nowhere(world: World) -> None:
    mark = world.folder / "executed"
    # Code that would give itself away, in a file every process of the app imports first.
    spy = f"\n# one comment more\nfrom pathlib import Path as _P\n_P({str(mark)!r}).touch()\n"
    content = changed_app(world, "changed", {"fl_client/host.py": spy}, added=True)
    submit(world, content)
    for site in world.sites.values():
        assert f"the app {hash_of(content)} is not approved here" in site.log, site.name
        assert "it differs from the MedVeil installed here in fl_client/host.py" in site.log
        assert not (site.files.state / "site").exists(), "the site's images were opened"
    assert not mark.exists(), "the server's code ran at a site"


def what_no_site_knows_is_refused(world: World) -> None:
    """Sites approved the very app that asks for what they do not know, and for words of their environment."""
    said = world.folder / "said.json"
    content = changed_app(world, "evil", {"fl_server/app.py": EVIL.replace("SAID", repr(str(said)))}, added=False)
    before = {name: len(refusals(site)) for name, site in world.sites.items()}
    for site in world.sites.values():
        assert site("approve", hash_of(content)) == 0
    submit(world, content, task="${oc.env:MEDVEIL_HOME}", name="${oc.env:PATH}")
    told = json.loads(said.read_text())
    assert set(told) == {"train.evil", "query.x", "reconnect", "query"}
    replies = [reason for each in told.values() for reason in each]
    assert len(replies) == 8 * len(world.sites), "a message was never answered"
    assert "SERVED" not in replies
    for name, site in world.sites.items():
        for secret in (str(world.folder), PASSPHRASE, "oc.env"):
            assert secret not in str(replies)
            assert secret not in site.files.audit.path.read_text()
        refused = refusals(site)[before[name] :]
        assert len(refused) == 8
        assert {each["kind"] for each in refused} == set(told)
