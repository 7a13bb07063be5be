"""Every JSON document of ours, with each of its values of another kind: who reads it ends with an error of ours."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fl_client.data.contents import _known
from fl_client.data.documents import Documents
from fl_client.data.left_open import left_open
from fl_client.deployment import running
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.served_runs import ServedRun
from fl_client.deployment.supervisor import read_state
from fl_client.export.described import parsed
from fl_client.site_basis import SiteBasis
from fl_server.config import ServerConfig, ServerSettings
from fl_server.deployment.consortium import Consortium
from fl_server.deployment.progress import as_text, progress
from fl_server.deployment.provision import init
from fl_server.deployment.roster import Roster
from fl_server.deployment.runs import new_submission, state_of, submissions
from fl_server.manifest import read_manifest
from fl_server.metrics import read_lines
from fl_server.summary import read_summary
from medveil import processes
from medveil.audit import AuditLog, canonical, digest_of
from medveil.audit_heads import kept_in, load_heads
from medveil.audit_verify import verify
from medveil.basis import Image, basis_of, read_basis, refuse_change
from medveil.contract import RunConfig
from medveil.errors import MedVeilError
from medveil.files import make_folder, write_json
from medveil.invitation import load_invitation
from medveil.node_keys import generate, public_file
from medveil.signing import SigningKey
from simulations.report.page import write_report
from simulations.report.record import read_run

ROOT = Path(__file__).resolve().parents[2]
ODD: list[Any] = [None, [], {}, [[]], {"a": 1}, "", "x" * 300, "\x1b[2J", 0, -1, 10**400, 1e308, True, ["x"], [{}]]
RAW = ["", "[", "null", "NaN", "Infinity", "1e999", "1" * 5000, "[" * 100_000, '"\\ud800"', "\xff", '{"a": 1}']
AT = "2026-11-28T10:00:00+00:00"
MEASURED = {"loss": 0.5, "accuracy": 0.5, "balanced_accuracy": 0.5, "auroc": None, "n": 10}
LINE = {"round": 1, "site": "all", "phase": "train", **MEASURED, "seconds": 1.0, "bytes_up": 1, "bytes_down": 1}
BASIS = basis_of(
    [Image("i", b"\1" * 32, "a", None, "train"), Image("j", b"\2" * 32, "b", "p", "test")],
    classes=["a", "b"],
    settings={"seed": 0, "data.test": 0.5},
)
RUN = RunConfig(run="0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", classes=["a", "b"])


def changed(document: Any) -> Iterator[Any]:
    """A document once for each of its values and each odd one in its place, or none."""
    yield from ODD
    for place in places(document):
        for odd in [*ODD, ...]:
            made = copy.deepcopy(document)
            inner = made
            for step in place[:-1]:
                inner = inner[step]
            if odd is ...:
                del inner[place[-1]]
            else:
                inner[place[-1]] = odd
            yield made


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in inside:
        yield (*at, name)
        if isinstance(value, dict | list):
            yield from places(value, (*at, name))


def survives(read: Callable[[], object]) -> None:
    try:
        read()
    except MedVeilError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1200


MANIFEST = {
    "format": "medveil-manifest",
    "version": 1,
    "run": RUN.run,
    "name": "run",
    "seed": 0,
    "status": "running",
    "stage": "round 1",
    "phase": {"kind": "train", "round": 1, "sites": ["anna"]},
    "process": {"pid": 1, "began": "x"},
    "started": AT,
    "ended": None,
    "device": "cpu",
    "environment": {"medveil": "1"},
    "run_config": {"rounds": 2, "classes": ["a", "b"]},
    "server": {"strategy": "fedavg"},
    "experiment": {},
    "sites": [{"site": "anna"}],
    "left_out": [{"round": 1, "site": "anna", "reason": "late"}],
    "resumed": [],
    "went_on": None,
    "error": None,
}
SUMMARY = {
    "format": "medveil-summary",
    "version": 1,
    "run": RUN.run,
    "name": "run",
    "status": "finished",
    "rounds": 1,
    **MEASURED,
    "majority_rate": 0.5,
    "sites": {"anna": {**MEASURED, "majority_rate": 0.5}},
    "intervals": {"accuracy": [0.1, 0.9]},
    "intervals_note": "",
    "thief": {"owner": {"accuracy": 0.5, "auroc": 0.5}, "wrong_key": None, "public_stem": None, "notes": {}},
    "seconds": 1.0,
    "bytes_up": 1,
    "bytes_down": 1,
}


def served(path: Path) -> dict[str, int]:
    """How often a run was answered by this file, at the place where a site keeps it."""
    path.rename(path.with_name("served.json"))
    return ServedRun(path.parent).answered


SIMPLE: dict[str, tuple[dict[str, Any], Callable[[Path], object]]] = {
    "process": ({"format": "medveil-process", "version": 1, "pid": 2**22, "began": "x"}, processes.running),
    "approvals": (
        {"format": "medveil-approvals", "version": 1, "approved": {"a" * 64: AT}},
        lambda path: sorted(Approvals(path).all()),
    ),
    "served run": ({"format": "medveil-served-run", "version": 1, "answered": {"train": 1}}, served),
    "invitation": (
        {"format": "medveil-invitation", "version": 1, "consortium": "veil", "address": "h:1", "authority": "x"},
        load_invitation,
    ),
    "heads": (
        {"format": "medveil-heads", "version": 1, "kept_by": "s", "heads": {"server": [f"{'a' * 32}:1:{'b' * 64}"]}},
        lambda path: load_heads(path, owner="server", keys_of=lambda _: []),
    ),
    "site.json": (
        {"format": "medveil-site", "version": 1, "run": "r", "source": "s"},
        lambda path: SiteBasis(Documents(path.parent), run="r", basis=BASIS, site="anna").check(
            served=True, agrees=lambda source: source == "s"
        ),
    ),
    "basis": (
        {"format": "medveil-basis", "version": 1, "run": "r", "older": False, "parts": BASIS.parts}
        | {"settings": BASIS.settings, "classes": ["a", "b"], "rows": base64.b64encode(BASIS.rows).decode()},
        lambda path: refuse_change(read_basis(path), BASIS, where="anna", cure="start anew"),
    ),
    "manifest": (MANIFEST, read_manifest),
    "summary": (SUMMARY, read_summary),
    "export config": (
        json.loads((ROOT / "tests/fl_client/fixtures/exported-v1/config.json").read_text()),
        lambda path: parsed(path.read_bytes(), where=path),
    ),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_a_document_with_any_value_of_another_kind(name: str, tmp_path: Path) -> None:
    document, read = SIMPLE[name]
    path = tmp_path / ("site.json" if name == "site.json" else "document.json")
    for made in changed(document):
        path.write_text(json.dumps(made))
        survives(lambda: read(path))
    for raw in RAW:
        path.write_bytes(raw.encode("latin-1"))
        with pytest.raises(MedVeilError):
            read(path)
    path.write_text(json.dumps(document))


def test_what_was_read_of_images_before_is_no_more_than_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "contents.json"
    document = {"format": "medveil-contents", "version": 1, "files": {"/x": ["1.2.3", "ab" * 32]}}
    for made in changed(document):
        path.write_text(json.dumps(made))
        assert isinstance(_known(Documents(tmp_path)), dict)
    for raw in RAW:
        path.write_bytes(raw.encode("latin-1"))
        assert _known(Documents(tmp_path)) == {}
    path.write_text(json.dumps(document))
    assert _known(Documents(tmp_path)) == document["files"]


def test_site_status_with_any_value_of_another_kind(tmp_path: Path) -> None:
    files: Any = SimpleNamespace(state=tmp_path, served=tmp_path / "served.json")
    state = {
        "format": "medveil-site-state",
        "version": 1,
        "at": AT,
        "stock": False,
        "connected": True,
        "children": {"node": {"state": "waiting", "pid": None, "ended": 1, "why": "x", "retry_in": 1.0}},
    }
    served = {
        "format": "medveil-served",
        "version": 1,
        "answered": 1,
        "last": {"kind": "train", "at": AT, "seconds": 1.0, "outcome": "answered"},
    }
    found = {
        "site": "anna",
        "server": "h:1",
        "let_in": False,
        "connected": False,
        "answered": None,
        "processes": {"supervisor": 1},
        "node_says": "",
        "others": None,
        "authority_days_left": None,
        "approvals": [],
        "models": [],
        "open": left_open(tmp_path).plain(),
        "privacy": None,
    }

    def shown() -> None:
        said = read_state(files)
        running.as_text(
            {
                **found,
                "children": said.get("children", {}),
                "stock": bool(said.get("stock")),
                "served": running._served(files),
            }
        )

    for which, document in (("supervisor.json", state), ("served.json", served)):
        write_json(tmp_path / "supervisor.json", state)
        write_json(tmp_path / "served.json", served)
        shown()
        for made in changed(document):
            (tmp_path / which).write_text(json.dumps(made))
            survives(shown)


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return init(tmp_path / "consortium.yaml", ["name=veil"])


def test_roster_with_any_value_of_another_kind(consortium: Consortium) -> None:
    Roster(consortium.roster).admit(public_file(generate(), SigningKey.generate(), "anna")[0])
    document = json.loads(consortium.roster.read_text())
    for made in changed(document):
        consortium.roster.write_text(json.dumps(made))
        survives(lambda: [member.public for member in Roster(consortium.roster).members()])


def test_progress_with_any_value_of_another_kind(consortium: Consortium) -> None:
    sent = new_submission(RUN, ServerSettings(server=ServerConfig(), sites=1), "f" * 64)
    make_folder(consortium.submissions)
    document = {"format": "medveil-submission", "version": 1, **vars(sent), "flower_runs": [7]}
    submission = consortium.submissions / f"{sent.run}.json"
    folder = make_folder(sent.folder(consortium))

    def shown() -> None:
        for each in submissions(consortium):
            state_of(each, consortium)
            as_text(progress(each, consortium))

    def written() -> None:
        write_json(submission, document)
        write_json(folder / "manifest.json", MANIFEST)
        (folder / "metrics.jsonl").write_text(json.dumps(LINE) + "\n")

    for path, whole in ((submission, document), (folder / "manifest.json", MANIFEST), (folder / "metrics.jsonl", LINE)):
        written()
        shown()
        for made in changed(json.loads(json.dumps(whole))):
            path.write_text(json.dumps(made) + "\n")
            survives(shown)


def test_metrics_with_any_value_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for made in changed(LINE):
        path.write_text(json.dumps(made) + "\n")
        survives(lambda: read_lines(path))


def test_audit_lines_with_any_value_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, "site anna")
    log.append("asked", kind="train", head=f"{'a' * 32}:1:{'b' * 64}")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    lines = [(which, made) for which, whole in ((0, first), (1, second)) for made in changed(whole)]
    lines += [(1, {**second, "event": event}) for event in ("recovered", "answered", "opened")]
    lines += [
        (1, {**second, "event": event, "details": details})
        for event in ("asked", "recovered", "answered")
        for details in ODD
    ]

    def looked_through() -> None:
        found = verify(path)
        found.as_text()
        found.as_data()
        kept_in(found.records)
        AuditLog(path, "site anna").head()

    for which, made in lines:
        if isinstance(made, dict) and isinstance(made.get("digest"), str):
            # Made anew, as whoever can write the file would.
            made["digest"] = digest_of(made)
        both = [first, second]
        both[which] = made
        try:
            path.write_bytes(b"".join(canonical(each) + b"\n" for each in both))
        except ValueError:
            continue
        survives(looked_through)
        survives(lambda: log.append("asked", kind="train"))


def test_a_report_of_a_run_with_any_value_of_another_kind(tmp_path: Path) -> None:
    def written() -> None:
        write_json(tmp_path / "manifest.json", MANIFEST)
        write_json(tmp_path / "summary.json", SUMMARY)
        (tmp_path / "metrics.jsonl").write_text(json.dumps(LINE) + "\n")

    written()
    write_report(tmp_path)
    for name, whole in (("manifest.json", MANIFEST), ("summary.json", SUMMARY), ("metrics.jsonl", LINE)):
        written()
        for made in changed(whole):
            (tmp_path / name).write_text(json.dumps(made) + "\n")
            survives(lambda: read_run(tmp_path))
