"""A coordinator and its sites, each with processes, keys and folders of its own, over TLS on this machine."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from changed_apps import unapproved_code_runs_nowhere, what_no_site_knows_is_refused
from consortium_world import CLASSES, PASSPHRASE, Hospital, World, app_hash, wait, with_mark
from safetensors.numpy import load_file
from sweep import files_below, image_forms, key_forms, leaks

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from fl_client.data.source import open_source, read_many
from fl_client.deployment import running
from fl_client.deployment.own_keys import open_keys
from medveil import processes
from medveil.audit import Record
from medveil.audit_verify import verify
from medveil.certificates import make_authority
from medveil.environment import flower_environment
from medveil.errors import ConfigError, FederationError, IntegrityError, KeyMaterialError
from medveil.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.fault(
    "a server sends messages of unknown actions, and settings that read a site's environment",
    "each refused and recorded; the worker lives and no word of its environment comes back",
    kind="adversary",
)
@pytest.mark.slow
def test_hospitals_refuse_what_they_did_not_approve_and_train_a_model_together(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.set_up()
    sites = [world.enroll("st-anna", approve=False), world.enroll("mercy")]
    check_names_what_is_wrong_and_its_cure(world, sites[0], tmp_path, capsys)
    check_outside(world)
    for site in sites:
        site.start()
        site.wait_ready()
    unapproved_code_runs_nowhere(world)
    check_what_was_withdrawn(world, sites[1], capsys)
    workers = [site.pid("worker") for site in sites]
    what_no_site_knows_is_refused(world)
    before = [answered(site) for site in sites]
    capsys.readouterr()
    assert world("run", world.run_file()) == 0
    said = capsys.readouterr()
    assert [site.pid("worker") for site in sites] == workers, "a worker was ended by a message"
    assert "trial: finished after 2 rounds" in said.out
    assert f"app {app_hash()}" in said.err
    assert "round 2 of 2: at mercy, st-anna" in said.err
    manifest = json.loads((world.run_folder() / "manifest.json").read_text())
    assert [row["site"] for row in manifest["sites"]] == ["mercy", "st-anna"]
    prints = {row["site"]: row["fingerprint"] for row in manifest["sites"]}
    for site in sites:
        keys = open_keys(site.files, lambda named: PASSPHRASE)
        assert prints[site.name] == keys.own.current.fingerprint
        # One process served the query, both rounds and the evaluation, and opened the store once.
        assert answered(site) == before.pop(0) + 4
        assert json.loads(site.files.served.read_text())["last"]["kind"] == "evaluate"
        stems = site.files.state / "site" / "stems" / manifest["run"]
        assert sorted(path.name for path in stems.iterdir()) == [f"round-000{r}.sealed" for r in range(3)]
    tensors = load_file(world.run_folder() / "checkpoints" / "round-0002.safetensors")
    assert tensors
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert not [name for name in tensors if "patch_embed" in name or "pos_embed" in name], "a stem travelled"
    server = {path for path in world.consortium.state.rglob("*") if path.is_file()}
    assert not [path for path in server if path.suffix in {".sealed", ".npy"}], "private state came to the server"
    assert world("status") == 0
    shown = capsys.readouterr().out
    assert shown.count("online") == 2
    assert "finished after 2 of 2 rounds" in shown
    check_audit(world, sites, capsys)
    for number, site in enumerate(sites, start=1):
        check_folder(site, world.images / str(number))
    # Every site keeps the model, and uses it without the server.
    first, out = sites[0], world.folder / "out"
    assert first("export", out / "model") == 0
    exported = load_file(out / "model" / "model.safetensors")
    assert all(
        np.array_equal(exported[name], tensors[f"model/{name}"]) for name in exported if name.startswith("block")
    )
    assert "| Rounds | 2 of 2 |" in (out / "model" / "MODEL_CARD.md").read_text()
    assert first("predict", world.images / "1" / "hospital-1", "--out", out / "predictions.csv") == 0
    assert len((out / "predictions.csv").read_text().splitlines()) == 41
    capsys.readouterr()
    # What they leave behind is ended by its own commands.
    for site in sites:
        assert site("stop") == 0
    assert world("stop") == 0
    # Flower's SuperExec looks for its parent once in a while, and goes when that is gone.
    wait("nothing is left running", lambda: not with_mark(f"MEDVEIL_HOME={world.folder}"), seconds=20)
    assert world("status") == 0
    assert "not running" in capsys.readouterr().out


def answered(site: Hospital) -> int:
    """How many messages its worker has answered."""
    return int(json.loads(site.files.served.read_text())["answered"])


def check_what_was_withdrawn(world: World, site: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    """The very app that is installed, but a site withdrew it: the coordinator is told which, and why."""
    assert site("approve", app_hash(), "--withdraw") == 0
    capsys.readouterr()
    assert world("run", world.run_file()) == FederationError.exit_code
    said = capsys.readouterr().err
    assert f"{site.name}: no answer: its node says that the app is not approved at this site" in said
    assert "its files are those of the MedVeil installed here" in site.log
    # Its approval counts at once, without a restart.
    assert site("approve", app_hash()) == 0


def check_names_what_is_wrong_and_its_cure(
    world: World, site: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A site that approved nothing looks, before its server begins and after; afterwards all is well."""

    def checked() -> tuple[int, dict[str, dict[str, str]]]:
        capsys.readouterr()
        code = site("check", "--json")
        return code, {point["what"]: point for point in json.loads(capsys.readouterr().out)}

    code, points = checked()
    assert code == FederationError.exit_code
    assert points["TLS"]["state"] == "FAILED"
    assert "does not answer" in points["TLS"]["found"]
    assert world("start") == 0
    code, points = checked()
    assert code == ConfigError.exit_code
    states = {what: point["state"] for what, point in points.items()}
    assert states.pop("approvals") == "FAILED"
    assert f"medveil-site approve {app_hash()}" in points["approvals"]["cure"]
    # What is installed is not approved: it is not even started.
    assert site("start") == ConfigError.exit_code
    assert f"({app_hash()}) is not approved at this site" in capsys.readouterr().err
    assert set(states.values()) == {"ok"}, points
    assert site("approve", app_hash()) == 0
    code, points = checked()
    assert (code, points["approvals"]["state"]) == (0, "ok")
    (tmp_path / "other").mkdir()
    make_authority("another").save(tmp_path / "other/ca.key", tmp_path / "other/ca.crt")
    right, node_key = site.file.read_bytes(), site.file.with_name("st-anna.node")
    site.change(ca=str(tmp_path / "other/ca.crt"), data__path=str(tmp_path / "none"), key=str(tmp_path / "none.key"))
    node_key.chmod(0o644)
    code, points = checked()
    assert code == 3
    wrong = {what for what, point in points.items() if point["state"] == "FAILED"}
    assert wrong == {"data", "key", "node key", "TLS"}
    assert "does not count" in points["TLS"]["found"]
    assert all(points[what]["cure"] for what in wrong)
    site.file.write_bytes(right)
    node_key.chmod(0o600)


def passed(records: list[Record], event: str, run: str, site: str | None = None) -> list[tuple[object, ...]]:
    """What was sent or came in a run, as one side's audit log has it."""
    found = [each["details"] for each in records if _is(each, event, run)]
    fields = ("run", "kind", "round", "digest", "bytes", "layout")
    return [tuple(each.get(name) for name in fields) for each in found if not site or each["site"] == site]


def _is(record: Record, event: str, run: str) -> bool:
    return bool(record["event"] == event and record["details"].get("run") == run)


def check_audit(world: World, sites: list[Hospital], capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides wrote down the same, hold each other's heads, and nothing that is nobody else's business."""
    server, run = verify(world.consortium.audit.path), world.newest()
    assert server.whole, server.problems
    of_run = [each for each in server.records if each["details"].get("run", run.run) == run.run]
    events = [each["event"] for each in of_run]
    assert events.index("site-admitted") < events.index("run-submitted") < events.index("run-began")
    (submitted,) = (each["details"] for each in server.records if _is(each, "run-submitted", run.run))
    assert submitted["app"] == app_hash()
    by_server = world.folder / "by-server.json"
    assert world("audit", "heads", "--out", by_server) == 0
    order = [("query", None), ("train", 1), ("train", 2), ("evaluate", 2)]
    for site in sites:
        own = verify(site.files.audit.path)
        assert own.whole, own.problems
        assert [each[1:3] for each in passed(own.records, "asked", run.run)] == order
        for event in ("asked", "answered"):
            ours = passed(own.records, event, run.run)
            assert ours == passed(server.records, event, run.run, site.name), f"{site.name}: {event}"
            assert all(each[3] for each in ours if each[1] == "train"), "tensors without a digest"
        submitted_as = {each["details"].get("config") for each in own.records if _is(each, "asked", run.run)}
        assert submitted_as == {submitted["config"]}
        by_site = world.folder / f"by-{site.name}.json"
        assert site("audit", "heads", "--out", by_site) == 0
        assert world("audit", "verify", "--heads", by_site) == 0
        assert site("audit", "verify", "--countersigned", by_server) == 0
    # A tail that was cut is a whole chain still: only the server's heads show it.
    path = sites[0].files.audit.path
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert sites[0]("audit", "verify") == 0
    capsys.readouterr()
    assert sites[0]("audit", "verify", "--countersigned", by_server) == IntegrityError.exit_code
    last = len(whole.splitlines())
    assert f"line {last}: is missing: server veil knows record {last}" in capsys.readouterr().err
    path.write_bytes(whole)
    logs = "".join(each.audit.path.read_text() for each in (world.consortium, *(site.files for site in sites)))
    for canary in canaries(world, sites):
        assert canary not in logs, canary
    assert app_hash() in logs, "the canaries were looked for in nothing"


def canaries(world: World, sites: list[Hospital]) -> list[str]:
    """Texts that no audit log may hold: patients, labels, paths, keys."""
    found = [*CLASSES, PASSPHRASE, str(world.folder), str(world.images), "hospital-", ".dcm"]
    for number, site in enumerate(sites, start=1):
        read = [pydicom.dcmread(path) for path in (world.images / str(number)).rglob("*.dcm")]
        found += {str(value) for image in read for value in (image.PatientName, image.PatientID, image.SOPInstanceUID)}
        key = open_keys(site.files, lambda named: PASSPHRASE).own.current
        for secret in (key._secret, key.subkey("state"), site.file.with_name(f"{site.name}.key").read_bytes()[-64:]):
            found += [secret.hex(), base64.b64encode(secret).decode().rstrip("=")]
        found += site.file.with_name(f"{site.name}.node").read_text().splitlines()[1:-1]
    assert min(map(len, found)) > 3
    return found


def check_folder(site: Hospital, images: Path) -> None:
    """What a site that served a run leaves: nothing that shows an image, a patient, a file's name or a key."""
    key = open_keys(site.files, lambda named: PASSPHRASE).own.current
    source = open_source(replace(site.files.data, image_size=32, channels=1))
    cipher = make_cipher(CipherConfig(block=8, negate=True), key, channels=1, height=32, width=32)
    plain = read_many(source, range(len(source)))
    wanted = image_forms(plain) | image_forms(cipher.encrypt(plain)) | key_forms(key, cipher)
    assert len(wanted) > 2 * len(source)
    wanted |= {b"hospital-", b".dcm", PASSPHRASE.encode()}
    for path in images.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        wanted |= {str(value).encode() for value in (image.PatientName, image.PatientID, image.SOPInstanceUID)}
    left = files_below(site.files.state)
    assert {"audit.jsonl", "logs/site.log", "logs/supernode.log"} <= set(left)
    assert leaks(left, wanted) == []
    assert any(name.startswith("site/stores/") and name.endswith("train.sealed") for name in left)


@pytest.mark.faults
def test_a_request_beyond_a_sites_limits_is_refused_with_the_reason(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.set_up()
    first, strict = world.enroll("st-anna"), world.enroll("mercy", "limits.most_rounds=2")
    assert world("start") == 0
    for site in (first, strict):
        site.start()
        site.wait_ready()
    assert world("run", world.run_file(rounds=3)) == 2
    said = capsys.readouterr().err
    reason = "limits.most_rounds: this site agrees to at most 2 rounds, and the run has more"
    assert f"mercy: ConfigError: {reason}" in said
    assert reason in strict.log


# -- who is let in -----------------------------------------------------------------------------------------------------


def answers(world: World, path: str, *, port: int, authority: Path | None = None) -> int:
    """HTTP status of a request to the server, as anyone on the network could make it."""
    context = ssl.create_default_context(cafile=str(authority or world.consortium.authority[1]))
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", data=b"", method="POST")
    request.add_header("content-type", "application/protobuf")
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def check_outside(world: World) -> None:
    """From outside only the sites' interface is there."""
    fleet, control = world.consortium.config.fleet.port, world.consortium.config.control.port
    for path in ("/v1/control/list-runs", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/health"):
        assert answers(world, path, port=fleet) == 404, path
    assert answers(world, "/v1/control/list-runs", port=control) != 404, "the inner door shows nothing either"
    assert answers(world, "/v1/fleet/pull-messages", port=fleet) == 401, "a stranger was let in, or the door is shut"
    inner = subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=False).stdout
    if inner:
        listening = [line.split()[3] for line in inner.splitlines()[1:]]
        assert f"127.0.0.1:{control}" in listening
        assert f"0.0.0.0:{control}" not in listening


def node(world: World, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A plain SuperNode of Flower's, which says why it was refused."""
    program = str(Path(sys.executable).parent / "flower-supernode")
    server = f"127.0.0.1:{world.consortium.config.fleet.port}"
    port = str(free_port())
    command = [program, "--superlink", server, "--isolation", "process", "--max-retries", "1", "--port", port, *words]
    return subprocess.run(
        command,
        cwd=world.folder,
        env=flower_environment(world.folder / name / "plain"),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.faults
@pytest.mark.fault("an unregistered node connects", "refused, told nothing of the run; let in once it is admitted")
@pytest.mark.fault("a node trusts another authority (wrong CA)", "the node itself refuses the server")
@pytest.mark.fault("plain HTTP to the TLS port", "no answer")
@pytest.mark.fault("a second node with the same key", "refused; the first is not disturbed")
def test_strangers_are_refused_and_learn_nothing(world: World, tmp_path: Path) -> None:
    world.set_up()
    known, stranger = world.enroll("st-anna"), world.enroll("mercy", admit=False)
    assert world("start") == 0
    known.start()
    make_authority("another").save(tmp_path / "other.key", tmp_path / "other.crt")
    ca = str(world.consortium.authority[1])

    def key(site: str) -> list[str]:
        return ["--auth-supernode-private-key", str(world.sites[site].file.with_name(f"{site}.node"))]

    cases = {
        "Failed to activate SuperNode": ["--root-certificates", ca, *key("mercy")],
        "authentication is enabled": ["--root-certificates", ca],
        "CERTIFICATE_VERIFY_FAILED": ["--root-certificates", str(tmp_path / "other.crt"), *key("st-anna")],
        "without sending a response": ["--insecure"],
        # A second node with the key of one that is connected; that one is not disturbed.
        "Failed to activate": ["--root-certificates", ca, *key("st-anna")],
    }
    for says, words in cases.items():
        refused = node(world, "mercy", *words)
        assert refused.returncode != 0, says
        told = refused.stdout + refused.stderr
        assert says in told
        assert "st-anna" not in told
        assert "Received" not in told
    assert running.is_connected(known.files)
    # The site's own way: it is refused, says why, and comes in by itself once it is admitted.
    assert stranger("start") == 0
    wait(
        "the stranger is refused",
        lambda: "was refused" in refusal(stranger) or "refuses this site's key" in refusal(stranger),
    )
    assert world("admit", stranger.file.with_name("mercy.pub")) == 0
    wait("the admitted site comes in", lambda: running.is_connected(stranger.files))


def refusal(site: Hospital) -> str:
    """What the site's own log says of its node."""
    log = site.files.log.with_name("supervisor.log")
    return log.read_text() if log.exists() else ""


@pytest.mark.faults
@pytest.mark.fault("a site is revoked", "cut off and refused; its key never comes back, a new one does")
def test_a_revoked_site_is_cut_off_for_good(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    site = world.enroll("st-anna")
    assert world("start") == 0
    site.start()
    assert world("revoke", "st-anna") == 0
    wait("the revoked node ends", lambda: not running.is_connected(site.files))
    wait("it is refused", lambda: "refuses this site's key" in refusal(site))
    assert world("list") == 0
    assert "revoked" in capsys.readouterr().out
    assert world("admit", site.file.with_name("st-anna.pub")) == 2
    assert "a revoked key never comes back" in capsys.readouterr().err
    assert site("stop") == 0
    # A new key, made at the site, brings it back under its old name.
    old = site.folder.rename(world.folder / "before")
    again = world.enroll("st-anna")
    again.start()
    assert old.exists()


@pytest.mark.faults
def test_a_second_start_and_a_taken_port_are_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    site = world.enroll("st-anna")
    assert world("start") == 0
    site.start()
    assert world("start") == 2
    assert site("start") == 2
    assert capsys.readouterr().err.count("runs already") == 2
    assert world("stop") == 0
    # Another consortium on the same ports says so, and leaves nothing running.
    with socket.create_server(("127.0.0.1", world.consortium.config.fleet.port)):
        assert world("start") == FederationError.exit_code
    assert "cannot listen there" in capsys.readouterr().err
    assert processes.running(world.consortium.record) is None
    assert not with_mark(f"MEDVEIL_HOME={world.consortium.state}")


@pytest.mark.faults
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_stock_nodes_serve_the_site_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up("policy.least_sites=1")
    site = world.enroll("st-anna", "limits.least_sites=1")
    assert world("start") == 0
    # Flower's processes read the passphrase themselves, and it is in no environment.
    assert site("start", "--stock") == KeyMaterialError.exit_code
    assert "name its file as 'passphrase_file'" in capsys.readouterr().err
    (site.folder / "word").write_text(PASSPHRASE)
    (site.folder / "word").chmod(0o600)
    site.change(passphrase_file="word")
    assert site("start", "--stock") == 0
    assert "runs the app the server sends" in capsys.readouterr().err
    wait("the stock node connects", lambda: running.is_connected(site.files))
    assert world("run", world.run_file(rounds=1)) == 0
    assert site("status") == 0
    shown = capsys.readouterr().out
    assert "running the SERVER's code (--stock)" in shown
    assert (site.files.state / "site" / "stems").exists(), "it served no real site"
