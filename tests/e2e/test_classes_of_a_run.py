"""The way from a template to a run that can be sent, by the commands' own words: what each tells to write is written.

No process is started; the runs themselves are in test_consortium.py.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from labelled_trees import classes

from crypto import sealed_file
from crypto.passphrase import VARIABLE
from fl_client.cli import main as site_main
from fl_server.cli import main as server_main
from medveil.errors import ConfigError

pytestmark = [pytest.mark.e2e]


def test_the_classes_of_a_run_are_what_a_site_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv(VARIABLE, "seven horses correct the battery")
    monkeypatch.chdir(tmp_path)
    classes(tmp_path / "images", "no", "1", "pleural effusion", images=12)
    assert server_main(["init", "consortium.yaml", "name=veil", "policy.least_sites=1", "policy.secagg=false"]) == 0
    invited = ["--invitation", str(next(tmp_path.rglob("*.invitation"))), "--out", "enrol"]
    images = ["data.source=images", f"data.path={tmp_path / 'images'}", "limits.least_images=8"]
    assert site_main(["enroll", "--name", "st-anna", *invited, *images]) == 0
    assert server_main(["admit", "enrol/st-anna.pub"]) == 0
    capsys.readouterr()
    assert server_main(["run", "--template"]) == 0
    (tmp_path / "training.yaml").write_text(capsys.readouterr().out)
    # Its settings are looked at as if the server ran, and a run that is whole is sent to nobody.
    monkeypatch.setattr("fl_server.commands.run.refuse_unready", lambda consortium: None)
    sent: list[list[str]] = []
    monkeypatch.setattr(
        "fl_server.commands.run._submitted", lambda submission, *_, resumed: sent.append(submission.run) or resumed
    )
    # As it is, it names no classes: the command says where they are read.
    assert server_main(["run", "training.yaml"]) == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "names no classes" in said
    assert "'medveil-site check'" in said
    site_main(["check", "--site", "enrol/site.yaml"])
    (line,) = [each for each in capsys.readouterr().out.splitlines() if re.match(r"\W*data\b", each)]
    (word,) = shlex.split(line[line.index("'data.classes=") : line.rindex("'") + 1])
    assert word == 'data.classes=["1", "no", pleural effusion]'
    # With it, the run is one that can be sent.
    assert server_main(["run", "training.yaml", word]) == 0
    assert len(sent) == 1
