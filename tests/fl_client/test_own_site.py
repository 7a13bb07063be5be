"""A real site: enrolled, with keys of its own, serving runs within its limits; and what it tells of its errors."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import yaml
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from signed_messages_made import SERVER, next_head, through_signatures

from crypto import sealed_file
from crypto.keyfile import load_keyring, save_key
from crypto.keyring import Keyring
from crypto.keys import SimulatedKey, SiteKey
from fl_client import app as client_app
from fl_client import work
from fl_client.app import app
from fl_client.cli import main
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment import own_keys, own_site, running
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.check import check
from fl_client.deployment.code import approved_code, load_approved
from fl_client.deployment.draining import drain
from fl_client.deployment.own_files import SITE_VARIABLE, OwnFiles, load_site
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.own_site import OwnHost
from fl_client.deployment.points import Point
from fl_client.deployment.roster import ApprovedRoster, own_identity
from fl_client.deployment.served_runs import ServedRun
from fl_client.deployment.told import ToldError
from fl_client.site_setup import SiteSetup
from fl_client.worker import Worker
from medveil import fab
from medveil.audit import AuditLog, digest_of
from medveil.audit_messages import carried, digest_of_config, head_in, put_head
from medveil.audit_verify import verify
from medveil.certificates import make_authority
from medveil.config import to_mapping
from medveil.contract import ARRAYS, BASIS, CONFIG, METRICS, PACKED, RUN_KEY, SITE, SITES_KEY, RunConfig
from medveil.errors import AggregationError, ConfigError, DataError, IntegrityError, KeyMaterialError, StorageError
from medveil.flower import FLOWERS_ENDS, ErrorCode, Task, be_task
from medveil.invitation import Invitation
from medveil.node_keys import load_private, load_public
from medveil.pretraining import MASKED, MaskedConfig
from medveil.secagg import records as secagg_records
from medveil.secagg.config import SecAggConfig
from medveil.secagg.members import MEMBER, MEMBERS, Join, check_join, join, join_in, members_record
from medveil.secagg.roster import Roster
from medveil.secagg.rounds import Task as Task_
from medveil.signing import SigningKey, fingerprint
from medveil.summed_messages import content_of
from medveil.training import TrainConfig
from medveil.wire import pack
from models.config import ModelConfig

WORD = "seven horses correct the battery"
Read = Callable[[Path | None], str]


def read(named: Path | None) -> str:
    return WORD


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw_phantoms(folder / "drawn", PhantomConfig(sites=1, images=40, classes=2, size=32))
    with (folder / "drawn" / "labels.csv").open() as stream:
        rows = [(row["path"], row["label"]) for row in csv.DictReader(stream)]
    with (folder / "drawn" / "own.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return folder / "drawn"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)
    torch.set_num_threads(1)
    be_task(run_id=1, node_id=2)


def enrolled(tmp_path: Path, images: Path, *settings: str) -> OwnFiles:
    invitation = tmp_path / "veil.invitation"
    authority = make_authority("veil").certificate
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    certificate = authority.public_bytes(Encoding.PEM).decode()
    Invitation("veil", "127.0.0.1:9092", certificate, SERVER.public).save(invitation)
    words = ["data.source=dicom", f"data.path={images}", "data.labels=own.csv", "limits.least_images=16", "device=cpu"]
    given = ["enroll", "--name", "st-anna", "--invitation", str(invitation), "--out", str(tmp_path / "enrol")]
    assert main([*given, *words, "threads=1", *settings]) == 0
    # The command set up the log for a process of its own.
    logging.getLogger("medveil").propagate = True
    return load_site(tmp_path / "enrol" / "site.yaml")


@pytest.fixture
def files(tmp_path: Path, images: Path) -> OwnFiles:
    return enrolled(tmp_path, images)


def make_app(host: OwnHost) -> Callable[[Message, Context], Message]:
    """The site's app, as it is asked by its server: every message signed, and a signed refusal read."""
    return signing(client_app.make_app(host), host._files)


def signing(asked: Callable[..., Message], files: OwnFiles) -> Callable[[Message, Context], Message]:
    identity = load_public(files.file.with_name("st-anna.pub")).identity
    return through_signatures(asked, site="st-anna", identity=fingerprint(identity))


@pytest.fixture
def host(files: OwnFiles) -> OwnHost:
    return OwnHost(files, open_keys(files, read))


def run(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run": "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab",
        "rounds": 3,
        "classes": ["none", "mass"],
        "image_size": 32,
        "model": to_mapping(ModelConfig(image_size=32, patch=8, channels=1, classes=2, width=24, depth=2, heads=2)),
        "train": to_mapping(TrainConfig(batch_size=8)),
        "cipher": {"scheme": "block-pixel", "block": 8, "negate": True},
        "keys": "per-site",
        "stem_init": "adapted",
        "stem_train": "local",
        "least_sites": 2,
        "packed": True,
    }
    return RunConfig(**{**values, **changes})


def context(config: RunConfig, **more: str) -> Context:
    sent = {RUN_KEY: config.to_json(), **more}
    return Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config=dict(sent))


def message(kind: str, content: RecordDict) -> Message:
    made = Message(content, message_type=kind, dst_node_id=2, group_id="1")
    made.metadata.__dict__.update(_message_id="id", _src_node_id=1)
    return made


def query() -> Message:
    return message(MessageType.QUERY, RecordDict({CONFIG: ConfigRecord()}))


def train(host: OwnHost, config: RunConfig, round_: float = 1) -> Message:
    site = host.site_for({RUN_KEY: config.to_json()})
    sent = {PACKED: Array(pack({name: site.bench.public[name].numpy() for name in site.travelling}))}
    record = ConfigRecord({"server-round": round_})
    return message(MessageType.TRAIN, RecordDict({ARRAYS: ArrayRecord(sent), CONFIG: record}))


def test_flowers_own_processes_are_given_no_passphrase(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = enrolled(tmp_path, images)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert WORD not in str(bare.environment())
    with pytest.raises(KeyMaterialError, match="name its file as 'passphrase_file'"):
        bare.stock_environment()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/site")
    assert bare.stock_environment() == {
        SITE_VARIABLE: str(bare.file),
        "CREDENTIALS_DIRECTORY": "/run/credentials/site",
    }
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    named = replace(bare, config=replace(bare.config, passphrase_file="word"))
    assert named.stock_environment() == {SITE_VARIABLE: str(bare.file)}


# -- enrolling ---------------------------------------------------------------------------------------------------------


def test_only_the_public_half_can_leave(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = enrolled(tmp_path, images)
    folder = files.file.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secret = {
        name: stat.S_IMODE((folder / name).stat().st_mode)
        for name in ("st-anna.node", "st-anna.key", "st-anna.identity", "site.yaml")
    }
    assert set(secret.values()) == {0o600}
    public = load_public(folder / "st-anna.pub")
    assert public.name == "st-anna"
    assert load_private(folder / "st-anna.node").public_key() is not None
    assert isinstance(load_keyring(folder / "st-anna.key", WORD).current, SiteKey)
    assert WORD not in files.file.read_text()
    assert public.fingerprint in capsys.readouterr().out


def test_no_key_is_ever_overwritten(files: OwnFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in files.file.parent.iterdir() if path.is_file()}
    assert main(["enroll", "--name", "st-anna", "--out", str(files.file.parent)]) == StorageError.exit_code
    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_an_invitation_is_compared_with_what_was_read_out(
    files: OwnFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["enroll", "--name", "b", "--out", str(tmp_path / "b"), "--invitation", str(tmp_path / "veil.invitation")]
    assert main([*given, "--fingerprint", "00" * 32]) == 2
    assert "do not use it" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_key_the_site_has_already_is_named_and_left(tmp_path: Path) -> None:
    save_key(tmp_path / "own.key", SiteKey.generate("st-anna"), WORD)
    assert main(["enroll", "--name", "st-anna", "--out", str(tmp_path / "e"), "--key", str(tmp_path / "own.key")]) == 0
    values = yaml.safe_load((tmp_path / "e" / "site.yaml").read_text())
    assert values["key"] == str(tmp_path / "own.key")
    assert not list((tmp_path / "e").glob("*.key"))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("server=https://x:1", "host:port, without https://"),
        ("server=nowhere", "'server' is 'nowhere'"),
        ("data.source=phantoms", "a site brings its own images"),
        ("limits.policies=[anything]", "'limits.policies' is 'anything'"),
        ("limits.least_images=0", "at least 1"),
        ("limits.most_megabytes=0", "above 0"),
        ("poll=0", "0.01 to 60"),
        ("sites=4", "unknown key 'sites'"),
        ("seed=1", "unknown key 'seed'"),
    ],
)
def test_settings_that_could_not_be_run(files: OwnFiles, setting: str, says: str) -> None:
    name, _, value = setting.partition("=")
    values = yaml.safe_load(files.file.read_text())
    *sections, last = name.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    inner[last] = yaml.safe_load(value)
    files.file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as error:
        load_site(files.file)
    assert says in str(error.value)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_simulated_key_is_refused(files: OwnFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_keys, "load_keyring", lambda path, word: Keyring(SimulatedKey(0, "site-1")))  # type: ignore[arg-type]
    with pytest.raises(KeyMaterialError, match="a SimulatedKey cannot be used by a real site"):
        open_keys(files, read)


def test_a_wrong_passphrase_is_a_key_error(files: OwnFiles) -> None:
    with pytest.raises(KeyMaterialError):
        open_keys(files, lambda named: "another one")


def test_a_shared_run_needs_the_shared_key(files: OwnFiles, tmp_path: Path) -> None:
    shared = run(keys="shared")
    bare = OwnHost(files, open_keys(files, read))
    with pytest.raises(ToldError, match="this site holds no shared key"):
        bare.site_for({RUN_KEY: shared.to_json()})
    key = SiteKey.generate("consortium")
    keys = replace(open_keys(files, read), shared=Keyring(key))
    site = OwnHost(files, keys).site_for({RUN_KEY: shared.to_json()})
    assert work.describe(site)["fingerprint"] == key.fingerprint
    # What is private stays under the site's own key, which no other site holds.
    assert site.setup.key.fingerprint == keys.own.current.fingerprint != key.fingerprint


# -- serving -----------------------------------------------------------------------------------------------------------


def test_it_serves_a_run_with_its_own_key_name_and_images(host: OwnHost, files: OwnFiles) -> None:
    serving = make_app(host)
    reply = serving(query(), context(run()))
    row = reply.content.config_records[SITE]
    assert row["site"] == "st-anna"
    assert row["fingerprint"] == open_keys(files, read).own.current.fingerprint
    assert not str(row["fingerprint"]).startswith("sim-")
    assert row["classes"] == ["none", "mass"]
    reply = serving(train(host, run()), context(run()))
    assert reply.content.metric_records[METRICS]["num-examples"] > 0
    site = host.site_for({RUN_KEY: run().to_json()})
    assert not [name for name in site.travelling if "patch_embed" in name or "pos_embed" in name]
    (name, array), *more = reply.content.array_records[ARRAYS].items()
    assert (name, more) == (PACKED, [])
    assert array.shape == (sum(site.bench.public[name].numel() for name in site.travelling),)
    assert list((files.state / "site" / "stems" / run().run).glob("round-0001.sealed"))


def test_no_update_leaves_that_is_longer_than_the_sites_own_clip(tmp_path: Path, images: Path) -> None:
    files = enrolled(tmp_path, images, "limits.clip=0.05")
    host = OwnHost(files, open_keys(files, read))
    sent = train(host, run())
    before = sent.content.array_records[ARRAYS][PACKED].numpy()
    after = make_app(host)(sent, context(run())).content.array_records[ARRAYS][PACKED].numpy()
    assert np.linalg.norm((after - before).astype(np.float64)) == pytest.approx(0.05, rel=1e-3)
    loose = replace(files, config=replace(files.config, limits=replace(files.config.limits, clip=None)))
    host = OwnHost(loose, open_keys(loose, read))
    far = make_app(host)(train(host, run()), context(run())).content.array_records[ARRAYS][PACKED].numpy()
    assert np.linalg.norm((far - before).astype(np.float64)) > 0.1


def test_a_site_begins_no_work_outside_its_hours(files: OwnFiles) -> None:
    now = datetime.now()
    hours = [f"{now + timedelta(hours=ahead):%H:%M}" for ahead in (10, 12, 22)]

    def asked(begin: str, end: str) -> Message:
        limits = replace(files.config.limits, hours=f"{begin}-{end}")
        at_night = replace(files, config=replace(files.config, limits=limits))
        return make_app(OwnHost(at_night, open_keys(at_night, read)))(query(), context(run()))

    refused = asked(hours[0], hours[1])
    assert (refused.error.reason or "").startswith("PolicyError: limits.hours: this site begins work from")
    assert [each["limit"] for each in records(files, "refused")] == ["limits.hours"]
    assert not asked(hours[2], hours[0]).has_error()


def test_a_site_that_is_drained_begins_nothing_and_says_when_nothing_is_in_hand(files: OwnFiles, host: OwnHost) -> None:
    working, serving = worker(files, host), make_app(host)
    working._say_empty()
    assert not files.drained.exists(), "nobody asked"
    files.state.mkdir(exist_ok=True)
    files.drain.write_text("{}")
    refused = serving(query(), context(run())).error.reason or ""
    assert refused.startswith("FederationError: drain: this site finishes what it has in hand and stops")
    host.in_hand.answered("train", "a", summed=True)
    working._say_empty()
    assert not files.drained.exists(), "a sum still needs it"
    host.in_hand.answered("train.mask", "a", summed=True)
    working._say_empty()
    assert not files.drained.exists(), "masked, and not yet opened"
    host.in_hand.answered("query.unmask", "a", summed=True)
    host.in_hand.answered("train", "b", summed=False)
    working._say_empty()
    assert files.drained.exists()
    files.drain.unlink()
    assert not serving(query(), context(run())).has_error()


def test_draining_stops_a_site_once_it_is_empty_or_its_time_is_up(files: OwnFiles) -> None:
    stopped: list[bool] = []

    def stop(which: OwnFiles) -> bool:
        stopped.append(which.drained.exists())
        return True

    def emptied() -> None:
        end = time.monotonic() + 20
        while not files.drain.exists() and time.monotonic() < end:
            time.sleep(0.01)
        files.drained.write_text("{}")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(emptied)
        assert drain(files, stop, seconds=30)
    assert not drain(files, stop, seconds=0.01)
    assert stopped == [True, False]
    assert not files.drain.exists() and not files.drained.exists()


def test_model_key_and_store_stay_open_between_messages(host: OwnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    first = host.site_for({RUN_KEY: run().to_json()})

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened anew")

    monkeypatch.setattr("fl_client.site_images.open_store", refuse)
    monkeypatch.setattr("fl_client.deployment.own_site.open_site", refuse)
    assert host.site_for({RUN_KEY: run().to_json()}) is first


def test_a_server_can_never_make_it_a_simulated_site(host: OwnHost, files: OwnFiles) -> None:
    sites = json.dumps({"data": {"path": "/etc"}, "out": "/tmp/elsewhere", "sites": 1})
    reply = make_app(host)(query(), context(run(), **{SITES_KEY: sites}))
    assert reply.content.config_records[SITE]["site"] == "st-anna"
    assert reply.content.config_records[SITE]["n-train"] > 0


def test_flowers_own_process_serves_the_site_its_environment_names(
    files: OwnFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SITE_VARIABLE, str(files.file))
    asked = signing(app, files)
    reply = asked(query(), context(run(), **{SITES_KEY: "{}"}))
    assert reply.content.config_records[SITE]["site"] == "st-anna"
    monkeypatch.setenv(SITE_VARIABLE, str(files.file.with_name("none.yaml")))
    reply = app(query(), context(run(), **{SITES_KEY: "{}"}))
    assert reply.error.reason == "ConfigError: see the log of the site"


def refusal(host: OwnHost, config: RunConfig, asked: Message | None = None) -> str:
    reply = make_app(host)(asked or query(), context(config))
    assert reply.has_error()
    return str(reply.error.reason)


def test_a_refusal_names_the_limit(tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = {"least_images": "35", "most_megabytes": "0.01", "most_rounds": "2", "least_sites": "3"}
    says = {
        "least_images": "this site has fewer training images than its own limit of 35",
        "most_megabytes": "a round moves 0.1 MB of tensors",
        "most_rounds": "this site agrees to at most 2 rounds",
        "least_sites": "this site wants 3 sites",
    }
    for number, (name, value) in enumerate(limits.items()):
        (tmp_path / str(number)).mkdir()
        files = enrolled(tmp_path / str(number), images, f"limits.{name}={value}")
        told = refusal(OwnHost(files, open_keys(files, read)), run())
        assert told.startswith(f"ConfigError: limits.{name}: {says[name]}")
        assert told.removeprefix("ConfigError: ") in caplog.text


def test_other_errors_say_their_kind_and_the_field_alone(
    files: OwnFiles, host: OwnHost, caplog: pytest.LogCaptureFixture
) -> None:
    assert refusal(host, run(classes=["none", "lump"])) == "DataError: see the log of the site"
    assert "unknown label 'mass'" in caplog.text
    values = yaml.safe_load(files.file.read_text())
    values["data"]["path"] = "/no/such/patient"
    files.file.write_text(yaml.safe_dump(values))
    moved = OwnHost(load_site(files.file), open_keys(files, read))
    told = refusal(moved, run(run="another"))
    assert told == "DataError: see the log of the site"
    assert "patient" in caplog.text


def test_a_setting_the_site_insists_on_is_named(tmp_path: Path, images: Path) -> None:
    files = enrolled(tmp_path, images, "data.image_size=64")
    told = refusal(OwnHost(files, open_keys(files, read)), run())
    assert told == "ConfigError: image_size: this site's own setting differs from the run's"


def test_rounds_are_counted_across_restarts(files: OwnFiles, images: Path) -> None:
    values = yaml.safe_load(files.file.read_text())
    values["limits"]["most_rounds"] = 3
    files.file.write_text(yaml.safe_dump(values))
    keys = open_keys(files, read)
    for _ in range(3):
        # A new host, as after a restart of the worker.
        host = OwnHost(load_site(files.file), keys)
        reply = make_app(host)(train(host, run()), context(run()))
        assert not reply.has_error()
    host = OwnHost(load_site(files.file), keys)
    told = refusal(host, run(), train(host, run()))
    assert told.startswith("ConfigError: limits.most_rounds: this site has answered 3 times")


def test_a_run_that_began_keeps_its_settings(files: OwnFiles) -> None:
    """Runs are counted by their identity, and a store is measured for one: settings could be tried without end."""
    keys = open_keys(files, read)
    assert not make_app(OwnHost(files, keys))(query(), context(run())).has_error()
    stores = sorted(each.name for each in (files.own / "stores").iterdir())
    larger = to_mapping(ModelConfig(image_size=40, patch=8, channels=1, classes=2, width=24, depth=2, heads=2))
    for other in (run(image_size=40, model=larger), run(rounds=4), run(seed=1)):
        # A new host, as after a restart of the worker.
        told = refusal(OwnHost(files, keys), other)
        assert told.startswith("ConfigError: run: the run of this identity began with other settings")
    assert sorted(each.name for each in (files.own / "stores").iterdir()) == stores
    assert not make_app(OwnHost(files, keys))(query(), context(run())).has_error()


def test_tensors_of_another_model_are_refused(host: OwnHost) -> None:
    for sent in ({PACKED: np.zeros(5, np.float32)}, {"head.weight": np.zeros((2, 24), np.float32)}):
        arrays = ArrayRecord({name: Array(array) for name, array in sent.items()})
        content = RecordDict({ARRAYS: arrays, CONFIG: ConfigRecord({"server-round": 1})})
        told = refusal(host, run(), message(MessageType.TRAIN, content))
        assert told == "FederationError: see the log of the site"


@pytest.mark.parametrize("round_", [4, -1, 1.5, float("nan"), float("inf"), 1e300])
def test_a_round_that_is_none(host: OwnHost, round_: float) -> None:
    told = refusal(host, run(), train(host, run(), round_))
    assert told.startswith(("ConfigError: server-round", "FederationError: see the log"))


# -- the worker --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return fab.installed_fab()


def task(bundle: bytes, asked: Message | None = None) -> tuple[Task, list[Message]]:
    sent: list[Message] = []
    return Task(asked or query(), context(run()), bundle, sent.append), sent


def worker(files: OwnFiles, host: OwnHost) -> Worker:
    made = Worker(files, host, None)  # type: ignore[arg-type]
    made._app = signing(made._app, files)  # type: ignore[assignment]
    return made


def test_an_app_that_was_not_approved_never_reaches_the_site(
    files: OwnFiles, host: OwnHost, bundle: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(host, "site", lambda _: pytest.fail("the site was opened"))
    made, sent = task(bundle)
    worker(files, host)._serve(made)
    assert sent[0].error.code == ErrorCode.INVALID_FAB
    digest = fab.hash_of(bundle)
    assert sent[0].error.reason == f"the app {digest} is not approved at this site"
    assert f"the app {digest} is not approved here (its files are those of the MedVeil installed here)" in caplog.text


def test_an_approval_counts_at_once_and_so_does_its_withdrawal(files: OwnFiles, host: OwnHost, bundle: bytes) -> None:
    serving, approvals = worker(files, host), Approvals(files.approvals)
    approvals.approve(fab.hash_of(bundle))
    made, sent = task(bundle)
    serving._serve(made)
    assert sent[0].content.config_records[SITE]["site"] == "st-anna"
    approvals.withdraw(fab.hash_of(bundle))
    made, sent = task(bundle)
    serving._serve(made)
    assert sent[0].error.code == ErrorCode.INVALID_FAB


def refusals(files: OwnFiles) -> list[tuple[str, str]]:
    return [(each["error"], each["kind"]) for each in records(files, "refused")]


@pytest.mark.parametrize(
    "kind", ["train.evil", "query.x", "evaluate.x", "train.default", "reconnect", "get_parameters"]
)
def test_a_message_of_another_kind_is_refused_recorded_and_the_worker_lives(
    files: OwnFiles, host: OwnHost, bundle: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    serving = worker(files, host)
    asked = query()
    asked.metadata.__dict__["_message_type"] = kind
    made, sent = task(bundle, asked)
    serving._serve(made)
    assert "a site knows query, train, evaluate, train.mask, query.agree, query.unmask" in sent[0].error.reason
    assert refusals(files) == [("UnknownMessage", kind)]
    assert verify(files.audit.path).whole
    assert f"refused a '{kind}' message" in caplog.text
    made, sent = task(bundle)
    serving._serve(made)
    assert sent[0].content.config_records[SITE]["site"] == "st-anna"


def test_a_message_without_content_is_refused_and_recorded(files: OwnFiles, host: OwnHost, bundle: bytes) -> None:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    for kind in ("query", "train", "evaluate"):
        empty = query()
        empty.metadata.__dict__["_message_type"] = kind
        empty.__dict__["_content"] = None
        made, sent = task(bundle, empty)
        worker(files, host)._serve(made)
        assert sent[0].error.reason == "the message has no content"
    assert refusals(files) == [("EmptyMessage", kind) for kind in ("query", "train", "evaluate")]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {CONFIG: ArrayRecord()},
        {ARRAYS: ConfigRecord({"server-round": 1})},
        {CONFIG: ConfigRecord({"server-round": [1, 2]}), ARRAYS: ArrayRecord()},
        {CONFIG: ConfigRecord({"server-round": b"1", "proximal-mu": "x"})},
    ],
)
def test_records_of_the_wrong_kind_are_refused_and_recorded(
    files: OwnFiles, host: OwnHost, bundle: bytes, content: dict[str, Any]
) -> None:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    serving = worker(files, host)
    for kind in (MessageType.TRAIN, MessageType.EVALUATE):
        made, sent = task(bundle, message(kind, RecordDict(content)))
        serving._serve(made)
        assert sent[0].has_error()
    assert [kind for _, kind in refusals(files)] == ["train", "evaluate"]


@pytest.mark.parametrize("kind", [ValueError, KeyError, RecursionError, *FLOWERS_ENDS])
def test_whatever_one_message_raises_the_worker_lives(
    files: OwnFiles, host: OwnHost, bundle: bytes, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    serving = worker(files, host)

    def end(*arguments: object) -> Message:
        raise kind("x")

    monkeypatch.setattr(serving, "_app", end)
    made, sent = task(bundle)
    serving._serve(made)
    assert "cannot be served" in sent[0].error.reason
    assert [each for each, _ in refusals(files)] == [kind.__name__]


# -- runs of an approval -----------------------------------------------------------------------------------------------


def test_an_approval_is_good_for_a_number_of_runs(files: OwnFiles, bundle: bytes) -> None:
    values = yaml.safe_load(files.file.read_text())
    values["limits"]["most_runs"] = 2
    files.file.write_text(yaml.safe_dump(values))
    files, digest = load_site(files.file), fab.hash_of(bundle)
    given = ["--site", str(files.file)]
    assert main(["approve", digest, *given]) == 0

    def served(run_id: str) -> str:
        # A new worker, as after a restart.
        host = OwnHost(files, open_keys(files, read))
        made, sent = task(bundle)
        made.context.run_config[RUN_KEY] = run(run=run_id).to_json()
        worker(files, host)._serve(made)
        return str(sent[0].error.reason) if sent[0].has_error() else ""

    assert [served(each) for each in ("one", "two", "one", "two")] == [""] * 4
    told = served("three")
    assert told.startswith("ConfigError: limits.most_runs: the approval of this app was good for 2 runs")
    assert f"medveil-site approve {digest}" in told
    assert records(files, "refused")[-1]["limit"] == "limits.most_runs"
    # A run that was begun goes on.
    assert served("two") == ""
    assert main(["approve", digest, *given]) == 0
    assert served("three") == ""


def test_a_run_that_cannot_be_counted_is_refused(
    files: OwnFiles, host: OwnHost, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    approvals = Approvals(files.approvals)
    approvals.approve(fab.hash_of(bundle))
    before = files.approvals.read_bytes()

    def full(*arguments: object, **settings: object) -> None:
        raise StorageError("no space")

    monkeypatch.setattr("fl_client.deployment.approvals.write_json", full)
    monkeypatch.setattr(host, "_opened", lambda _: pytest.fail("the site was opened"))
    made, sent = task(bundle)
    worker(files, host)._serve(made)
    assert sent[0].error.reason == "StorageError: see the log of the site"
    assert files.approvals.read_bytes() == before


def test_runs_are_counted_by_whoever_begins_them_at_once(files: OwnFiles, bundle: bytes) -> None:
    digest = fab.hash_of(bundle)
    Approvals(files.approvals).approve(digest)

    def use(number: int) -> bool:
        try:
            Approvals(files.approvals).use(digest, f"run-{number % 12}", most=10)
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(48)))
    assert len(Approvals(files.approvals).all()[digest].runs) == 10
    with pytest.raises(ConfigError, match="is not approved at this site"):
        Approvals(files.approvals).use("0" * 64, "run", most=10)


def test_no_answer_is_lost_of_those_that_are_counted_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ServedRun(tmp_path / "run").count("train"), range(24)))
    assert ServedRun(tmp_path / "run").answered == {"train": 24}


def test_approvals_of_version_1_are_read(files: OwnFiles, bundle: bytes) -> None:
    digest = fab.hash_of(bundle)
    old = {"format": "medveil-approvals", "version": 1, "approved": {digest: "2026-11-01T10:00:00+00:00"}}
    files.approvals.parent.mkdir(exist_ok=True)
    files.approvals.write_text(json.dumps(old))
    Approvals(files.approvals).use(digest, "one", most=1)
    found = Approvals(files.approvals).all()[digest]
    assert (found.at, found.runs) == ("2026-11-01T10:00:00+00:00", ("one",))
    assert json.loads(files.approvals.read_text())["version"] == 2


@pytest.mark.parametrize(
    "value", [7, None, [], {"at": 1, "runs": []}, {"at": "x", "runs": "y"}, {"at": "x", "runs": [1]}]
)
def test_approvals_that_are_none_approve_nothing(files: OwnFiles, value: object) -> None:
    files.approvals.parent.mkdir(exist_ok=True)
    document = {"format": "medveil-approvals", "version": 2, "approved": {"0" * 64: value}}
    files.approvals.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="is not a list of approvals"):
        Approvals(files.approvals).all()


# -- the code that is installed ----------------------------------------------------------------------------------------


def test_only_approved_code_is_started(
    files: OwnFiles, bundle: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "start", lambda *_, **__: pytest.fail("it was started"))
    digest, given = fab.hash_of(bundle), ["--site", str(files.file)]
    for words in ([], ["--stock"], ["--foreground"]):
        assert main(["start", *words, *given]) == ConfigError.exit_code
        assert f"({digest}) is not approved at this site" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=f"medveil-site approve {digest}"):
        load_approved(files)
    assert main(["approve", digest, *given]) == 0
    assert load_approved(files) == approved_code(files) == digest
    # Code that changed since.
    monkeypatch.setattr("medveil.fab.installed_fab", lambda: bundle + b"changed")
    assert main(["start", *given]) == ConfigError.exit_code
    with pytest.raises(ConfigError, match="is not approved"):
        load_approved(files)


def test_code_that_changes_while_it_is_loaded_is_not_run(
    files: OwnFiles, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    bundles = [bundle, bundle + b"changed"]
    monkeypatch.setattr("medveil.fab.installed_fab", lambda: bundles.pop(0))
    with pytest.raises(IntegrityError, match="changed while it was loaded"):
        load_approved(files)


def test_a_server_whose_app_is_approved_is_refused_by_code_that_is_not(
    files: OwnFiles, host: OwnHost, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "site", lambda _: pytest.fail("the site was opened"))
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    made, sent = task(bundle)
    Worker(files, host, None, "1" * 64)._serve(made)  # type: ignore[arg-type]
    assert sent[0].error.reason == f"the app {'1' * 64} is not approved at this site"


def test_a_broken_list_of_approvals_approves_nothing(
    files: OwnFiles, host: OwnHost, bundle: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    files.approvals.write_text(files.approvals.read_text()[:-20])
    made, sent = task(bundle)
    worker(files, host)._serve(made)
    assert sent[0].error.code == ErrorCode.INVALID_FAB
    assert "refusing every app until it is whole" in caplog.text


def test_what_was_served_last_is_written_down(files: OwnFiles, host: OwnHost, bundle: bytes) -> None:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    serving = worker(files, host)
    for _ in range(2):
        serving._serve(task(bundle)[0])
    served = json.loads(files.served.read_text())
    assert served["answered"] == 2
    assert served["last"]["kind"] == "query"
    assert served["last"]["outcome"] == "ok"


@pytest.fixture
def approved(files: OwnFiles, bundle: bytes) -> OwnFiles:
    Approvals(files.approvals).approve(fab.hash_of(bundle))
    return files


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("no such folder", where="/scans/patient-7"), "DataError: /scans/patient-7: no such folder"),
        (ZeroDivisionError("by\nzero"), "ZeroDivisionError: by\\nzero"),
    ],
)
def test_the_sites_own_status_says_why_and_its_server_hears_it_not(
    approved: OwnFiles, host: OwnHost, bundle: bytes, error: Exception, words: str
) -> None:
    def refuse(_: object) -> NoReturn:
        raise error

    def last() -> str:
        return next(
            line for line in running.as_text(running.status(approved)).splitlines() if line.startswith("last message")
        )

    serving, (made, sent) = worker(approved, host), task(bundle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "site", refuse)
        serving._serve(made)
    assert sent[0].error.reason == f"{type(error).__name__}: see the log of the site"
    assert last().endswith(f" s: {words}")
    # The next message is not told in the words of the last.
    serving._serve(task(bundle)[0])
    assert last().endswith(" s: ok")


@pytest.mark.parametrize("digest", ["", "ab", "g" * 64, "A" * 65, "../../x", "ab" * 32 + "\n"])
def test_only_a_hash_is_approved(files: OwnFiles, digest: str) -> None:
    with pytest.raises(ConfigError, match="is no hash of 64 hex digits"):
        Approvals(files.approvals).approve(digest)
    assert not files.approvals.exists()


def test_the_commands_shown_keep_secrets_out_of_arguments(files: OwnFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--print", "--site", str(files.file)]) == 0
    shown = capsys.readouterr().out
    stock = next(line for line in shown.splitlines() if line.startswith("flower-supernode "))
    assert "--isolation process" in stock
    assert f"--auth-supernode-private-key {files.file.parent / 'st-anna.node'}" in stock
    assert "--insecure" not in shown
    assert WORD not in shown
    assert main(["start", "--print", "--stock", "--site", str(files.file)]) == 0
    shown = capsys.readouterr().out
    assert "runs the app the SERVER sends" in shown
    assert "--isolation subprocess" in shown


# -- the audit log -----------------------------------------------------------------------------------------------------


def records(files: OwnFiles, event: str) -> list[dict[str, Any]]:
    found = verify(files.audit.path)
    assert found.whole, found.problems
    return [each["details"] for each in found.records if each["event"] == event]


def test_a_head_that_leaves_confirms_no_guess_at_what_the_log_says(host: OwnHost, files: OwnFiles) -> None:
    """What a server is not told of a refusal, or of its number of images by what a round cost, are a few guesses."""
    refusal(host, run(rounds=999))
    told = [json.loads(line) for line in files.audit.path.read_text().splitlines()[-2:]]
    assert [each["event"] for each in told] == ["asked", "refused"]
    for each in told:
        details = {name: value for name, value in each["details"].items() if name != "salt"}
        assert digest_of({**each, "details": details}) != each["digest"]


def test_what_comes_and_what_leaves_is_written_down(host: OwnHost, files: OwnFiles, images: Path) -> None:
    serving, first, server = make_app(host), next_head(), next_head()
    sent = query()
    put_head(sent.content, first)
    serving(sent, context(run()))
    sent = train(host, run())
    put_head(sent.content, server)
    reply = serving(sent, context(run()))
    asked, answered = records(files, "asked"), records(files, "answered")
    assert [(each["kind"], each["round"], each["head"]) for each in asked] == [
        ("query", None, str(first)),
        ("train", 1, str(server)),
    ]
    came, left = carried(sent.content), carried(reply.content)
    assert came is not None
    assert left is not None
    assert (asked[1]["digest"], asked[1]["bytes"]) == (came.digest, came.bytes)
    assert (answered[1]["digest"], answered[1]["bytes"]) == (left.digest, left.bytes)
    site = host.site_for({RUN_KEY: run().to_json()})
    layouts = {each["layout"]: each["tensors"] for each in records(files, "layout")}
    assert [name for name, _, _ in layouts[answered[1]["packed"]]] == sorted(site.travelling)
    assert {each["fingerprint"] for each in answered} == {open_keys(files, read).own.current.fingerprint}
    # The reply carries the head of the log with its own record in it.
    assert head_in(reply.content) == str(files.audit.head())
    # Every record is of this run, and none says anything of its images, labels, folders or keys.
    assert {each["run"] for each in asked + answered} == {run().run}
    text = files.audit.path.read_text()
    secret = open_keys(files, read).own.current.subkey("state").hex()
    for private in ("none", "mass", str(images), str(files.file.parent), "hospital-1", "accuracy", WORD, secret):
        assert private not in text, private


def test_a_refusal_is_written_down_with_the_limit_and_no_text(tmp_path: Path, images: Path) -> None:
    files = enrolled(tmp_path, images, "limits.most_rounds=2")
    refusal(OwnHost(files, open_keys(files, read)), run())
    values = yaml.safe_load(files.file.read_text())
    values["limits"]["most_rounds"], values["data"]["path"] = 9, "/no/such/patient"
    files.file.write_text(yaml.safe_dump(values))
    refusal(OwnHost(load_site(files.file), open_keys(files, read)), run())
    found = [(each["error"], each["limit"]) for each in records(files, "refused")]
    assert found == [("ConfigError", "limits.most_rounds"), ("DataError", None)]
    assert "patient" not in files.audit.path.read_text()


def test_nothing_leaves_where_it_cannot_be_written_down(
    host: OwnHost, files: OwnFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_app(host)(query(), context(run()))
    before = files.audit.path.read_bytes()
    files.audit.path.write_bytes(before.replace(b'"kind":"query"', b'"kind":"other"'))
    assert refusal(host, run()) == "IntegrityError: see the log of the site"
    files.audit.path.write_bytes(before)
    append = AuditLog.append_all

    def full(log: AuditLog, given: Any) -> Any:
        if given[-1][0] == "answered":
            raise StorageError("the disk is full", where=log.path)
        return append(log, given)

    monkeypatch.setattr(AuditLog, "append_all", full)
    assert refusal(host, run()) == "StorageError: see the log of the site"
    assert [each["error"] for each in records(files, "refused")] == ["StorageError"]


def test_approvals_and_unapproved_apps_are_written_down(files: OwnFiles, host: OwnHost) -> None:
    given = ["--site", str(files.file)]
    assert main(["approve", "0" * 64, *given]) == 0
    assert main(["approve", "0" * 64, "--withdraw", *given]) == 0
    assert [each["app"] for each in records(files, "approved") + records(files, "withdrawn")] == ["0" * 64] * 2
    worker = Worker(files, host, None)  # type: ignore[arg-type]
    worker.started(open_keys(files, read))
    worker.answer(Task(query(), context(run()), b"changed", lambda reply: None))
    (unknown,) = records(files, "unapproved-app")
    assert (unknown["app"], unknown["kind"]) == (fab.hash_of(b"changed"), "query")
    assert records(files, "started")[0]["keys"] == {"own": open_keys(files, read).own.current.fingerprint}
    # What cannot be written down does not count.
    files.audit.path.write_text("not ours\n")
    assert main(["approve", "1" * 64, *given]) == IntegrityError.exit_code
    assert "1" * 64 not in Approvals(files.approvals).all()


def test_a_site_whose_limits_let_a_server_learn_its_key_is_told_before_it_approves(
    files: OwnFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--site", str(files.file)]
    for limits, told in (
        ({"send_stem": False}, False),
        ({"send_stem": True, "policies": ["per-site"]}, False),
        ({"send_stem": True, "policies": ["shared + adapted + local", "shared"]}, True),
        ({"send_stem": True, "policies": ["shared + public + averaged"]}, True),
    ):
        text = yaml.safe_load(files.file.read_text())
        text["limits"].update({"policies": ["per-site", "shared"], **limits})
        files.file.write_text(yaml.safe_dump(text))
        capsys.readouterr()
        assert main(["approve", "0" * 64, *given]) == 0
        warned = (
            "this site's limits allow policy shared + public + averaged: the stem travels" in capsys.readouterr().err
        )
        assert warned == told
        (point,) = [each for each in check(load_site(files.file), read) if each.what == "policies"]
        assert (point.state == "warning") == told
        assert ("78 % of in-block places" in point.found) == told


def test_a_restarted_site_tests_on_nothing_that_a_run_trained_on(
    files: OwnFiles, caplog: pytest.LogCaptureFixture
) -> None:
    keys = open_keys(files, read)
    host = OwnHost(files, keys)
    assert not make_app(host)(train(host, run()), context(run())).has_error()
    values = yaml.safe_load(files.file.read_text())
    values["data"]["test"] = 0.4
    files.file.write_text(yaml.safe_dump(values))
    told = refusal(OwnHost(load_site(files.file), keys), run(), train(host, run()))
    # The server hears nothing of what is at the site; the site's own log and its audit log name it.
    assert told == "BasisError: see the log of the site"
    assert "data.test was 0.15, and is 0.4" in caplog.text
    assert "from training to validation or test" in caplog.text
    refused = records(files, "refused")[-1]
    assert (refused["error"], refused["changed"]) == ("BasisError", ["settings", "split"])
    # Under a key of the site's, as others may read the log.
    site = host.site_for({RUN_KEY: run().to_json()})
    (written,) = {each["basis"] for each in records(files, "answered")}
    assert written == site.images.basis.keyed(keys.own.current.subkey("state"))
    assert site.images.basis.basis.digest not in files.audit.path.read_text()
    # With its record gone and the store built anew, it still is another.
    shutil.rmtree(files.own / "basis")
    shutil.rmtree(files.own / "stores")
    assert (
        refusal(OwnHost(load_site(files.file), keys), run(), train(host, run()))
        == "BasisError: see the log of the site"
    )
    (files.own / "site.json.sealed").unlink()
    assert (
        refusal(OwnHost(load_site(files.file), keys), run(), train(host, run()))
        == "BasisError: see the log of the site"
    )
    assert "is not known any more" in caplog.text


def test_a_site_whose_whole_state_was_lost_says_to_its_server_that_it_stands_on_something_else(files: OwnFiles) -> None:
    """It knows of no run any more, and its key is what it was: the server compares what it says under it."""
    keys = open_keys(files, read)

    def said(again: OwnFiles) -> tuple[str, dict[str, Any]]:
        host = OwnHost(again, keys)
        reply = make_app(host)(train(host, run()), context(run()))
        assert not reply.has_error()
        return str(reply.content.config_records[SITE][BASIS]), dict(reply.content.config_records[SITE])

    before, told = said(files)
    assert list(told) == [BASIS]
    shutil.rmtree(files.state)
    assert said(files)[0] == before
    shutil.rmtree(files.state)
    values = yaml.safe_load(files.file.read_text())
    values["data"]["test"] = 0.4
    files.file.write_text(yaml.safe_dump(values))
    assert said(load_site(files.file))[0] != before


def test_a_hospital_learns_pixels_of_images_without_labels(tmp_path: Path, images: Path) -> None:
    willing = "limits.tasks=[single-label, masked-autoencoding]"
    files = enrolled(tmp_path, images, "data.labels=none", "data.group_by=none", willing)
    host, masked = OwnHost(files, open_keys(files, read)), MaskedConfig(decoder_width=16, decoder_heads=2)
    asked = run()
    learns = {"task": MASKED, "classes": [], "pretrain": to_mapping(masked), "model": {**asked.model, "classes": None}}
    site = host.site_for({RUN_KEY: replace(asked, **learns).to_json()})
    row = work.describe(site)
    assert (row["classes"], row["counts"], row["missing"]) == ([], [], [])
    assert row["n-train"] % 10 == 0
    incoming = {name: site.bench.public[name].numpy().copy() for name in site.travelling}
    outgoing, metrics = work.train(site, 1, incoming)
    assert not [name for name in outgoing if name.startswith(("patch_embed", "pos_embed", "decoder.out", "head"))]
    assert {name for name in site.private if name.startswith("decoder")} == {
        "decoder.pos_embed",
        "decoder.out.weight",
        "decoder.out.bias",
    }
    measured = work.evaluate(site, 1, outgoing)
    for said in (metrics, measured):
        assert not [name for name in said if "accuracy" in name or "auroc" in name or name == "train-loss"]
    assert {"validation-loss", "test-loss", "num-examples"} <= set(measured)
    # Nothing of it answers a question.
    assert not list(site.setup.folder.glob("**/predictions.npz*")) + list(site.setup.folder.glob("models/*"))
    with pytest.raises(ConfigError, match=r"data\.labels: is none, and classes are to be learned"):
        host.site_for({RUN_KEY: run(run="another").to_json()})


# -- privacy with a number ---------------------------------------------------------------------------------------------


def test_no_server_can_make_a_site_spend_more_than_its_limit(tmp_path: Path, images: Path) -> None:
    """Over runs and repeated rounds; the refusal is one line, and the server hears it."""
    files = enrolled(tmp_path, images, "limits.epsilon=2.5", "limits.delta=1e-3")
    host = OwnHost(files, open_keys(files, read))
    asked, privacy = make_app(host), {"unit": "example", "epsilon": 2.0, "delta": 1e-3}
    first = run(privacy=privacy, stem_train="frozen", evaluate_first=False, rounds=1, train={"batch_size": 8})
    assert not asked(train(host, first), context(first)).has_error()
    (trained,) = records(files, "answered")
    assert (trained["kind"], trained["delta"]) == ("train", 1e-3)
    told = running.status(files)["privacy"]["epsilon"]
    assert told <= trained["epsilon"] <= told + 0.01
    second = replace(first, run="b" * 36)
    refused = asked(train(host, second), context(second))
    said = refused.error.reason
    assert "limits.epsilon: one more round would cost this site's images more than epsilon 2.5 in all runs" in said
    assert "\n" not in said
    status = running.status(files)
    assert status["privacy"] == {
        **{"unit": "example", "delta": 1e-3, "runs": 1, "without": 0, "limit": 2.5},
        "epsilon": pytest.approx(2.0, abs=0.03),
    }
    assert "privacy: 1 run cost each example epsilon" in running.as_text(status)
    checked = points(files)["privacy"]
    assert (checked.state, checked.cure) == ("ok", "")
    assert checked.found.startswith("all runs together may cost epsilon 2.5 at delta 0.001; 1 run cost each example")
    bare = run(run="c" * 36)
    assert "limits.epsilon: this site agrees to epsilon 2.5 in all" in asked(query(), context(bare)).error.reason


def points(files: OwnFiles) -> dict[str, Point]:
    return {each.what: each for each in check(files, read)}


def test_check_says_what_runs_may_cost_and_what_a_server_reads(tmp_path: Path, images: Path) -> None:
    """As the site's limits and its roster have it."""
    files = enrolled(tmp_path, images)

    def said(**limits: Any) -> tuple[str, str]:
        config = replace(files.config, limits=replace(files.config.limits, **limits))
        looked = points(replace(files, config=config))
        return tuple(f"{looked[what].state}: {looked[what].found}" for what in ("masks", "privacy"))

    masks, privacy = said()
    assert masks.startswith("ok: without a roster a run with secagg.on is refused; of one without it the server reads")
    assert privacy.endswith("('limits.epsilon' is null); no run had a number yet")
    masks, privacy = said(secagg=True, epsilon=3.0, smallest_count=1)
    assert masks.startswith("FAILED: 'limits.secagg' refuses a run without secagg.on, and without a roster")
    assert privacy.startswith("FAILED: privacy: this site tells measures exactly")
    approving(files)
    assert said()[0].endswith("leave masked; of one without it the server reads this site's own updates")
    masks, privacy = said(secagg=True, own_measures=True, epsilon=3.0)
    assert masks.endswith(
        "one without it is refused ('limits.secagg'); its measures leave one by one ('limits.own_measures')"
    )
    assert privacy == "ok: all runs together may cost epsilon 3 at delta 1e-05; no run had a number yet"
    (files.state / "runs/r").mkdir(parents=True)
    ServedRun(files.state / "runs/r").count("train")
    told = said(epsilon=3.0)[1]
    assert told.startswith("warning: ")
    assert told.endswith("no run had a number yet; 1 run trained here, and the ledger is gone")


# -- with whom ---------------------------------------------------------------------------------------------------------


def test_a_site_with_a_roster_counts_the_others_itself(host: OwnHost, files: OwnFiles) -> None:
    keys = {name: SigningKey.generate() for name in ("mercy", "grace")}
    roster = Roster({"st-anna": own_identity(files), **{name: key.public for name, key in keys.items()}})
    ApprovedRoster(files.roster).approve(roster, roster.fingerprint, site="st-anna", identity=own_identity(files))
    row = make_app(host)(query(), context(run())).content
    own = join_in(dict(row[MEMBER]), "st-anna")
    check_join(own, run=run().run, roster=roster)
    assert own.examples == row[SITE]["n-train"]
    others = [join(key, run=run().run, roster=roster, name=name, examples=20) for name, key in keys.items()]

    def asked(*joins: Join) -> Message:
        made = train(host, run())
        if joins:
            made.content[MEMBERS] = ConfigRecord(members_record(joins))
        return make_app(host)(made, context(run()))

    count = "ConfigError: limits.least_sites: of the sites of its roster this one could check the signatures of {}, "
    assert asked().error.reason.startswith(count.format(0))
    assert asked(own).error.reason.startswith(count.format(1))
    assert asked(own, replace(others[0], examples=99)).error.reason.startswith(count.format(1))
    few = join(keys["mercy"], run=run().run, roster=roster, name="mercy", examples=1)
    assert asked(own, few).error.reason.startswith("ConfigError: limits.most_share: this site's own images")
    assert not asked(own, *others).has_error()
    assert [each["limit"] for each in records(files, "refused")] == [
        *["limits.least_sites"] * 3,
        "limits.most_share",
    ]


# -- under masks -------------------------------------------------------------------------------------------------------


OTHERS = {name: SigningKey.from_secret(bytes([i]) * 32) for i, name in enumerate(("mercy", "grace", "hope"), 1)}


def roster_of(files: OwnFiles) -> Roster:
    return Roster({"st-anna": own_identity(files), **{name: key.public for name, key in OTHERS.items()}})


def masked_run(files: OwnFiles, **changes: Any) -> RunConfig:
    values = {"kind": "delta", "secagg": SecAggConfig(on=True), "roster": roster_of(files).fingerprint}
    return run(**{**values, **changes})


def approving(files: OwnFiles) -> Roster:
    roster = roster_of(files)
    ApprovedRoster(files.roster).approve(roster, roster.fingerprint, site="st-anna", identity=own_identity(files))
    return roster


def summing(host: OwnHost, files: OwnFiles, config: RunConfig, attempt: int = 0) -> Message:
    """What a server sends in place of `train`, where four sites joined."""
    asked, roster = train(host, config), roster_of(files)
    own = join_in(dict(make_app(host)(query(), context(config)).content[MEMBER]), "st-anna")
    public = {name: X25519PrivateKey.from_private_bytes(key.secret).public_key() for name, key in OTHERS.items()}
    joins = [
        join(key, run=config.run, roster=roster, name=name, examples=20, key=public[name].public_bytes_raw())
        for name, key in OTHERS.items()
    ]
    content = content_of(asked.content, digest_of_config(context(config).run_config))
    asked.content[MEMBERS] = ConfigRecord(members_record([own, *joins]))
    made = Task_(config.run, 1, attempt, content, tuple(sorted([own, *joins], key=lambda each: each.name)))
    asked.content[secagg_records.TASK] = ConfigRecord(secagg_records.task_record(made))
    return asked


def test_who_approved_no_roster_or_another_takes_part_in_no_sum(files: OwnFiles, host: OwnHost) -> None:
    said = refusal(host, masked_run(files))
    assert said.startswith("ConfigError: secagg.on: this site approved no roster; it approves the one that is read out")
    approving(files)
    said = refusal(host, masked_run(files, run="another", roster="0" * 64))
    assert said.startswith("ConfigError: roster: is another than this site approved; every site approves the newest")
    fresh = OwnHost(files, open_keys(files, read), lasting=False)
    said = refusal(fresh, masked_run(files))
    assert said.startswith("ConfigError: secagg.on: this site begins a process for each message (--stock)")
    assert not make_app(host)(query(), context(masked_run(files))).has_error()


def test_an_update_waits_for_its_masks_and_leaves_in_no_other_way(
    files: OwnFiles, host: OwnHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="medveil")
    config, _ = masked_run(files), approving(files)
    asked = summing(host, files, config)
    reply = make_app(host)(asked, context(config)).content
    assert not reply.array_records
    assert set(reply.metric_records[METRICS]) == {"num-examples", "seconds"}
    assert {secagg_records.OFFER, secagg_records.SEALED} <= set(reply.config_records)
    assert "updates leave masked, in 32 bits" in caplog.text
    masking = RecordDict({name: asked.content[name] for name in (MEMBERS, secagg_records.TASK, CONFIG)})
    masking[secagg_records.OFFERS] = ConfigRecord(secagg_records.offers_record([]))
    masking[secagg_records.SEALED] = ConfigRecord(secagg_records.sealed_record({}))
    # As after a restart: what waited was in memory alone.
    again = OwnHost(files, open_keys(files, read))
    said = refusal(again, config, message("train.mask", masking))
    assert said.startswith("AggregationError: this site masks once, after its offer, and not when it began anew")
    assert records(files, "refused")[-1]["reason"] == "order"
    said = refusal(again, config, summing(again, files, config))
    assert said.startswith(f"AggregationError: {config.run}: this site made its offer for attempt 0 of round 1 before")
    (files.own / "sums" / f"{config.run}.sealed").unlink()
    assert refusal(again, config) == "IntegrityError: see the log of the site"
    assert "the ledger of this run's sums is gone, and with it which sets of sites were agreed to" in caplog.text


def test_a_run_that_ended_leaves_no_key_that_opens_its_shares(files: OwnFiles, host: OwnHost) -> None:
    config, _ = masked_run(files), approving(files)
    asked = summing(host, files, config)
    assert not make_app(host)(asked, context(config)).has_error()
    (site,) = host._open.values()
    member = host.member(site, context(config))
    assert member._ledger.seal_key()
    # It stayed where the site had approved another roster by then, or none.
    ApprovedRoster(files.roster).withdraw()
    ended = make_app(host)(
        message("query.end", RecordDict({CONFIG: ConfigRecord({"server-round": 1})})), context(config)
    )
    assert not ended.has_error()
    with pytest.raises(AggregationError, match="the run has ended at this site"):
        member._ledger.seal_key()
    assert host.taken(site, context(config)) is None
    kept, came = member._ledger.of(1), carried(RecordDict({ARRAYS: asked.content[ARRAYS]}))
    assert kept is not None and came is not None, "which sets it agreed to is kept"
    assert kept.model == came.digest
    approving(files)
    assert refusal(host, config).startswith("AggregationError")
    plain = run(run="another")
    assert not make_app(host)(message("query.end", RecordDict({CONFIG: ConfigRecord({})})), context(plain)).has_error()


def test_an_update_that_is_not_finite_is_never_offered(
    files: OwnFiles, host: OwnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = masked_run(files), approving(files)
    asked, worked = summing(host, files, config, attempt=3), work.train

    def diverging(*given: Any, **more: Any) -> Any:
        assert more["attempt"] == 3, "each attempt draws anew"
        outgoing, metrics = worked(*given, **more)
        outgoing["head.bias"][0] = np.nan
        return outgoing, metrics

    monkeypatch.setattr(work, "train", diverging)
    assert refusal(host, config, asked).startswith("FederationError: the update is not finite")


def test_another_model_than_the_task_names_is_not_trained(files: OwnFiles, host: OwnHost) -> None:
    config, _ = masked_run(files), approving(files)
    asked = summing(host, files, config)
    asked.content[CONFIG] = ConfigRecord({"server-round": 1, "proximal-mu": 0.5})
    said = refusal(host, config, asked)
    assert said.startswith("AggregationError: the task is about another model or round than came")


def test_no_message_holds_a_site_to_its_model_by_another_weight_than_was_agreed(
    host: OwnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one over the rate, an update was the gradient of one image, the last of the round, to 2 %."""
    used: list[float] = []

    def spied(*given: Any, proximal_mu: float, **more: Any) -> NoReturn:
        used.append(proximal_mu)
        raise DataError("seen")

    monkeypatch.setattr(work, "train", spied)
    config = run(proximal_mu=0.5)
    for mu in (None, 0.5, 1000.0):
        asked = train(host, config)
        asked.content[CONFIG] = ConfigRecord(
            {"server-round": 1} if mu is None else {"server-round": 1, "proximal-mu": mu}
        )
        said = refusal(host, config, asked)
    assert used == [0.0, 0.5]
    assert said.startswith("FederationError: proximal_mu: 'proximal-mu' is not what server and sites agreed on")


def test_what_is_compared_with_a_number_of_the_servers_is_counted_in_steps(
    host: OwnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From which image sizes are refused, and which deltas, a server would find how many images there are."""
    given, compared = list[SiteSetup](), list[int]()

    def spied(run: RunConfig, setup: SiteSetup) -> NoReturn:
        given.append(setup)
        raise DataError("seen")

    monkeypatch.setattr(own_site, "open_site", spied)
    monkeypatch.setattr(own_site, "check_store", lambda images, *others: compared.append(images))
    with pytest.raises(DataError):
        host.site_for({RUN_KEY: run().to_json()})
    (setup,) = given
    assert setup.judge is not None
    for images in (91, 100, 101):
        setup.judge(images)
    assert compared == [100, 100, 110]
    assert setup.epsilon_limit.step == 10


def test_a_run_without_masks_has_nothing_to_open(host: OwnHost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="medveil")
    for kind in ("train.mask", "query.agree", "query.unmask"):
        asked = message(kind, RecordDict({CONFIG: ConfigRecord({"server-round": 1})}))
        assert refusal(host, run(), asked) == "FederationError: see the log of the site"
    assert "the run has no secure aggregation" in caplog.text
    assert caplog.text.count("secagg.on is false: the server reads this site's own updates") == 1


def test_measures_of_its_own_leave_where_its_limits_say_so(tmp_path: Path, images: Path) -> None:
    files = enrolled(tmp_path, images, "limits.own_measures=true", "limits.smallest_count=1")
    host, config, _ = OwnHost(files, open_keys(files, read)), masked_run(files), approving(files)
    reply = make_app(host)(summing(host, files, config), context(config)).content
    assert {"validation-loss", "validation-auroc", "train-loss"} <= set(reply.metric_records[METRICS])
