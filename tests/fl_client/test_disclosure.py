"""What a site discloses before anything leaves: made without a key, signed, logged, verified; and where it must be."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from signed_messages_made import SERVER

from crypto import sealed_file
from crypto.passphrase import read_passphrase
from fl_client.cli import main
from fl_client.commands.model import _refuse_undisclosed
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.own_site import OwnHost
from fl_client.deployment.told import ToldError
from fl_client.disclosure import make
from fl_client.disclosure.document import BROKEN, TELLING, Disclosure, check_signed, read_disclosure
from fl_client.disclosure.required import require, valid
from fl_client.disclosure.subject import model_digest, settings_digest
from fl_client.export.held import MODELS
from fl_client.export.kept import KeptModel, keep
from medveil.audit_verify import verify
from medveil.config import to_mapping
from medveil.contract import RUN_KEY, RunConfig
from medveil.errors import EXIT_PARTIAL, IntegrityError, PolicyError, SignatureError
from medveil.flower import be_task
from medveil.node_keys import load_public
from medveil.training import TrainConfig
from models.config import ModelConfig
from simulations.attacks.study.result import VERDICTS
from simulations.attacks.updates.gradient_matching import GradientMatching
from simulations.attacks.updates.label_counts import LabelCounts
from simulations.attacks.updates.stem_closed_form import StemClosedForm
from simulations.disclosure import measured
from simulations.disclosure.__main__ import main as evaluate

WORD = "seven horses correct the battery"
RUN = "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    pixels = np.clip(rng.normal(90, 40, (80, 16, 16)) + 60 * labels[:, None, None], 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("images") / "own.npz"
    np.savez(path, images=pixels, labels=labels, classes=np.array(["none", "mass"]))
    return path


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A passphrase that opens at once, few attacks, and no process of its own for them."""
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)
    monkeypatch.setattr(measured, "attacks", lambda: [StemClosedForm(), LabelCounts(played=8)])
    monkeypatch.setattr(make, "_started", in_this_process)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    be_task(run_id=1, node_id=2)
    yield
    torch.set_num_threads(before)


def in_this_process(files: OwnFiles, verb: str, folder: Path, *, seconds: float) -> str:
    return "" if evaluate([verb, str(folder)]) == 0 else "failed"


@pytest.fixture
def files(tmp_path: Path, images: Path) -> OwnFiles:
    from medveil.certificates import make_authority  # noqa: PLC0415
    from medveil.invitation import Invitation  # noqa: PLC0415

    authority = make_authority("veil").certificate
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    certificate = authority.public_bytes(Encoding.PEM).decode()
    invitation = tmp_path / "veil.invitation"
    Invitation("veil", "127.0.0.1:9092", certificate, SERVER.public).save(invitation)
    given = ["enroll", "--name", "st-anna", "--invitation", str(invitation), "--out", str(tmp_path / "enrol")]
    own = ["data.source=npz", f"data.path={images}", "limits.least_images=16", "device=cpu", "threads=1"]
    assert main([*given, *own, "limits.disclosure=required"]) == 0
    logging.getLogger("medveil").propagate = True
    return load_site(tmp_path / "enrol" / "site.yaml")


def run(**changes: Any) -> RunConfig:
    model = ModelConfig(image_size=16, patch=4, channels=1, classes=2, width=16, depth=1, heads=2)
    values: dict[str, Any] = {
        "run": RUN,
        "rounds": 1,
        "classes": ["none", "mass"],
        "image_size": 16,
        "model": to_mapping(model),
        "train": to_mapping(TrainConfig(batch_size=16)),
        "cipher": {"scheme": "block-pixel", "block": 4, "negate": True},
        "keys": "per-site",
        "stem_init": "adapted",
        "stem_train": "local",
        "least_sites": 2,
    }
    return RunConfig(**{**values, **changes})


def asked(files: OwnFiles, config: RunConfig) -> OwnHost:
    """A host that was asked to run something, and refused it for want of a disclosure."""
    host = OwnHost(files, open_keys(files, read_passphrase))
    with pytest.raises(ToldError, match="discloses what a run of these settings gives away") as refused:
        host.site_for({RUN_KEY: config.to_json()})
    assert refused.value.where == "limits.disclosure"
    assert f"medveil-site disclose --run {config.run}" in str(refused.value)
    return host


def disclosed(files: OwnFiles, out: Path, *more: str, code: int = 0) -> Disclosure:
    site = ["--site", str(files.file)]
    assert main(["disclose", *site, "--out", str(out), "--keys", "2", "--minutes", "5", *more]) == code
    return read_disclosure(out)


def public(files: OwnFiles) -> str:
    return load_public(files.file.with_name("st-anna.pub")).identity


def test_a_name_that_is_taken_or_cannot_be_written_is_refused_before_anything_is_tried(
    files: OwnFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(files, run())
    monkeypatch.setattr(make, "_started", lambda *_, **__: pytest.fail("an attack was begun"))
    roster, page, file = tmp_path / "roster.json", tmp_path / "page.html", tmp_path / "file"
    for each in (roster, page, file):
        each.write_text("mine")
    for out, code, why in [
        (roster.with_suffix(".html"), 2, "roster.json: is there already, and is no disclosure"),
        (page, 2, "page.html: is there already, and is no disclosure"),
        (file / "report.html", 3, "is a file where a folder is needed"),
    ]:
        assert main(["disclose", "--site", str(files.file), "--out", str(out)]) == code
        assert why in capsys.readouterr().err
    assert {each.read_text() for each in (roster, page, file)} == {"mine"}


def test_a_site_that_requires_one_trains_only_after_it_disclosed_these_settings(
    files: OwnFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = asked(files, run())
    made = disclosed(files, tmp_path / "report.html")
    # Labels are told by the head, which always travels; the stem stays at home.
    assert [each["attack"] for each in made.document["tried"]] == ["label-counts"]
    (stem,) = [each for each in made.document["untried"] if each["attack"] == "stem-closed-form"]
    assert (stem["kind"], "the stem stays at the site" in stem["reason"]) == ("does not apply", True)
    (tried,) = made.document["tried"]
    figure = tried["figures"][tried["main"]]
    assert figure["control"] is not None and figure["chance"] is not None and figure["ci95"]["target"] is not None
    assert made.document["limits"]["disclosure"] == "required"
    assert made.document["privacy"] == {"run": None, "spent": None}
    # Nothing of it says where images lie.
    assert str(files.data.path) not in json.dumps(made.document) + (tmp_path / "report.html").read_text()
    assert host.site_for({RUN_KEY: run().to_json()}).run.run == RUN
    # Of another seed and identity it is the same run; of another scope it is not.
    again = run(run="1f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", seed=7)
    assert host.site_for({RUN_KEY: again.to_json()}).run.seed == 7
    other = run(run="2f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", train=to_mapping(TrainConfig(batch_size=16, scope="head")))
    asked(files, other)
    # It ends while a run goes on, too: what was opened is asked again before it trains.
    files.config.limits.disclosure_days = 1e-9
    with pytest.raises(ToldError, match="has not"):
        host.allow(host.site_for({RUN_KEY: run().to_json()}), "train", 1)
    # Verified at the site by its log, and by others by its public half alone.
    capsys.readouterr()
    assert main(["disclose", "--site", str(files.file), "--verify", str(tmp_path / "report.html")]) == 0
    said = capsys.readouterr().out
    assert "of its audit log" in said and "page as it was signed" in said
    events = [each for each in verify(files.audit.path).records if each["event"] == "disclosed"]
    assert [each["details"]["document"] for each in events] == [made.digest]
    by_key = ["--key", str(files.file.with_name("st-anna.pub")), "--verify", str(tmp_path / "report.json")]
    assert main(["disclose", "--site", "/nowhere/site.yaml", *by_key]) == 0


def test_what_was_changed_moved_or_is_old_counts_for_nothing(files: OwnFiles, tmp_path: Path) -> None:
    host = asked(files, run())
    made = disclosed(files, tmp_path / "report.html")
    settings, key = made.settings, public(files)
    assert valid(files, key, settings=settings) is not None
    assert valid(files, key, settings="0" * 64) is None
    assert valid(files, key, settings=settings, model="0" * 64) is None
    for days, counts in ((89, True), (91, False), (-1, False)):
        then = datetime.now(UTC) + timedelta(days=days)
        assert (valid(files, key, settings=settings, now=then) is not None) == counts
    (held,) = (files.state / "disclosures").glob("*.json")
    whole = held.read_text()
    for old, new in ((f'"{RUN}"', f'"{RUN[:-1]}0"'), ('"tried": [', '"tried": [1, '), ("medveil-disclosure", "other")):
        assert old in whole
        held.write_text(whole.replace(old, new))
        assert valid(files, key, settings=settings) is None
    held.write_text(whole)
    assert valid(files, SERVER.public, settings=settings) is None
    with pytest.raises(SignatureError):
        check_signed(made, SERVER.public, where=tmp_path)
    with pytest.raises(IntegrityError, match="page is another"):
        check_signed(made, key, where=tmp_path, page=b"<html>")
    forged = replace(made, document={**made.document, "tried": []})
    with pytest.raises(IntegrityError, match="document is another"):
        check_signed(forged, key, where=tmp_path)
    # A log without it: it was not made here, or the log was exchanged.
    files.audit.path.unlink()
    files.audit.append("started")
    assert main(["disclose", "--site", str(files.file), "--verify", str(tmp_path / "report.html")]) != 0
    assert host.site_for({RUN_KEY: run().to_json()}).run.run == RUN


def test_nothing_tried_counts_for_nothing(
    files: OwnFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(files, run())
    # A process that ended before it measured anything, as when it is killed at the end of its budget.
    monkeypatch.setattr(measured, "attacks", lambda: [GradientMatching()])
    monkeypatch.setattr(measured, "_entry", lambda *_, **__: {"kind": "not finished", "reason": "the budget was spent"})
    made = disclosed(files, tmp_path / "report.html", code=EXIT_PARTIAL)
    assert (made.tried, made.unfinished) == (0, ["gradient-matching"])
    assert "counts for nothing" in capsys.readouterr().err
    assert "counts for nothing" in (tmp_path / "report.html").read_text()
    asked(files, run())


def test_an_attack_that_fails_where_nothing_is_hidden_counts_for_nothing(
    files: OwnFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {BROKEN, *TELLING} < set(VERDICTS)
    asked(files, run())
    real = measured._entry
    monkeypatch.setattr(measured, "_entry", lambda *given, **named: {**real(*given, **named), "verdict": BROKEN})
    made = disclosed(files, tmp_path / "report.html", code=EXIT_PARTIAL)
    assert (made.tried, made.broken, made.counts) == (1, ["label-counts"], False)
    assert made.said.startswith("0 of 1 attacks that were tried succeed; label-counts failed where nothing is hidden")
    assert "no attack that works was tried: this counts for nothing" in capsys.readouterr().err
    asked(files, run())


def test_no_model_is_exported_before_it_was_disclosed(
    files: OwnFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(files, run())
    early = disclosed(files, tmp_path / "early.html")
    assert early.model is None
    # As a site keeps it: the run as it was judged.
    facts = {"run_config": json.loads(open_settings(files).to_json()), "round": 1}
    kept = KeptModel({"head.weight": torch.ones(2, 3)}, facts)
    keep(files.own / MODELS, open_keys(files, read_passphrase).own.current, kept)
    assert main(["export", str(tmp_path / "model"), "--site", str(files.file)]) == PolicyError.exit_code
    assert "discloses what this model gives away" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()

    def kept_back(*_: object) -> None:
        raise PolicyError("its stem was drawn in secret", where="policy", cure="--hidden")

    monkeypatch.setattr("fl_client.export.write.export_plain", kept_back)
    late = disclosed(files, tmp_path / "late.html")
    assert late.model == model_digest(kept)
    (own,) = [each for each in late.document["untried"] if each["attack"] == "model-membership"]
    assert own["reason"].endswith("process without a key: its stem was drawn in secret")
    judged = settings_digest(kept.run)
    assert require(files, public(files), settings=judged, run=RUN, model=late.model) is not None
    capsys.readouterr()
    _refuse_undisclosed(files, kept)
    assert "attacks that were tried succeed" in capsys.readouterr().err
    other = model_digest(replace(kept, tensors={"head.weight": torch.zeros(2, 3)}))
    with pytest.raises(PolicyError, match="this model"):
        require(files, public(files), settings=judged, run=RUN, model=other)


def open_settings(files: OwnFiles) -> RunConfig:
    from fl_client.disclosure.subject import asked_run  # noqa: PLC0415

    return asked_run(files, RUN[:8])


def test_the_limit_is_said_in_words_when_an_app_is_approved(
    files: OwnFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["approve", "0" * 64, "--site", str(files.file)]) == 0
    assert "no update of a run and no model leaves before" in capsys.readouterr().out


def test_a_refusal_is_written_down_by_its_limit(files: OwnFiles) -> None:
    from fl_client.deployment.records import SiteRecords  # noqa: PLC0415

    sent = Message(RecordDict({"config": ConfigRecord()}), message_type="query", dst_node_id=2, group_id="1")
    context = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={RUN_KEY: run().to_json()})
    SiteRecords(files).refused(sent, context, kind="PolicyError", about="limits.disclosure")
    assert verify(files.audit.path).records[-1]["details"]["limit"] == "limits.disclosure"


def test_the_evaluators_process_is_given_no_secret(files: OwnFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)
    given: dict[str, Any] = {}

    class StoppedError(Exception):
        pass

    def stop(command: list[str], **settings: Any) -> None:
        given.update(settings, command=command)
        raise StoppedError

    monkeypatch.setattr(make, "tied", stop)
    with pytest.raises(StoppedError):
        make._started(files, "measure", Path("/scratch"), seconds=1)
    assert given["command"][1:] == ["-m", "simulations.disclosure", "measure", "/scratch"]
    assert not [name for name in given["env"] if name.startswith("MEDVEIL") or "CREDENTIALS" in name]
    request = json.dumps(make._request(files, run(), make.Effort()))
    assert WORD not in request and files.config.key not in request and files.config.identity not in request
