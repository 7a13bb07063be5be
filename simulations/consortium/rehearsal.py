"""A consortium from nothing to a model and to its end, each command printed as its party types it."""

from __future__ import annotations

import csv
import math
import os
import re
import secrets
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_client.data.config import DataConfig
from fl_client.deployment.config import CONFIG_FILE
from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.own_files import load_site
from medveil.errors import FederationError
from medveil.files import make_folder, write_text
from medveil.plain import tell, tell_block
from medveil.ports import free_port
from medveil.written import setting
from simulations.consortium.images import LABELLED, NEW, PHANTOMS, Dealt, deal_images
from simulations.consortium.lines import COORDINATOR, ENDING, LINES, SITE, Line
from simulations.consortium.stage import Stage, end_all

ENROLLED, PREDICTED = "enrol", "predictions.csv"
SMALL = {
    "model.width": 48,
    "model.depth": 2,
    "model.heads": 2,
    "train.epochs": 4,
    "train.lr": 0.001,
    "train.batch_size": 16,
}
"""A model that trains in seconds on one core."""
_SIZE = 64
_PATCH = 8
_ROUNDS = 3
_DIGEST = re.compile(r"approve-roster (\w+)")
_INDENT = "    "
_AGAIN = ("medveil-server start", "medveil-site start", "run training.yaml", "medveil-site predict")
"""Of the commands those that a consortium which stands already needs."""


@dataclass
class Rehearsal:
    """Who takes part, where, and what one handed to another.

    Parameters
    ----------
    folder
        New or empty.
    sites
        How many.
    given
        A folder of images to deal to them, or one for each; none draws phantoms.
    settings
        Of the run, which count more than this room's own.
    """

    folder: Path
    sites: int
    given: Sequence[Path] = ()
    settings: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.names = [f"site-{number}" for number in range(1, self.sites + 1)]
        self.stage = Stage(self.folder)
        self._app = self._digest = ""
        self._typed_so_far: list[dict[str, str]] = []
        self._right: dict[str, dict[str, Any]] = {}
        self._dealt: Dealt | None = None
        self._ports = {"fleet": str(free_port()), "control": str(free_port())}

    def play(self) -> bool:
        """Go from nothing to a model; whether all of it finished, and nothing in part.

        Raises
        ------
        DataError
            The images cannot be dealt.
        FederationError
            A command failed.
        """
        self._deal()
        for line in LINES:
            self._do(line)
        self._tell_right()
        return not self.stage.partial

    def stop(self) -> None:
        """Type the commands that end it."""
        for line in ENDING:
            self._do(line)

    def end(self) -> None:
        """End what is left, also of a rehearsal that failed."""
        files = [self.folder / name / ENROLLED / CONFIG_FILE for name in self.names]
        end_all([load_site(file) for file in files if file.exists()], self.folder / COORDINATOR / "consortium.yaml")
        self.stage.sweep()

    def tell_how_to_go_on(self) -> None:
        """Say what to type in the folder that stays, now that all of it has stopped."""
        tell("")
        tell("# it has stopped; to go on with it, type in terminals of their own")
        for each in self.to_go_on():
            tell(f"{each['party']}$ {each['command']}")
        tell(f"#   to be rid of it, stop each site and the server as above, and remove {self.folder}")

    def to_go_on(self) -> list[dict[str, str]]:
        """The commands that bring it up again, train and ask, each with the folder it is typed in."""
        again = [line for line in LINES if any(word in line.text for word in _AGAIN)]
        rows = [
            (party, self._typed(line, party))
            for line in again
            for party in ([COORDINATOR] if line.who == COORDINATOR else self.names)
        ]
        return [
            {"party": party, "command": f"cd {shlex.quote(str(self.folder / party))} && {typed}"}
            for party, typed in rows
        ]

    def found(self) -> dict[str, Any]:
        """What it came to, as plain data."""
        return {"sites": self._right, "typed": self._typed_so_far}

    # -- inside --------------------------------------------------------------------------------------------------------

    def _deal(self) -> None:
        what = f"deals {', '.join(map(str, self.given))}" if self.given else "draws phantoms"
        tell(f"# not typed anywhere: {what}; a folder of images for each of {self.sites} hospitals, in {self.folder}")
        folders = {name: make_folder(self.stage.place(name) / "images") for name in self.names}
        drawn = self.folder / "drawn"
        self._dealt = deal_images(folders, given=self.given, scratch=drawn, least=least_labelled())
        for name in self.names:
            # A hospital keeps its own; the terminal asks where no file is named.
            write_text(self.stage.place(name) / "passphrase", secrets.token_urlsafe(24) + "\n", mode=0o600)

    def _do(self, line: Line) -> None:
        tell("")
        tell(f"# {line.who}: {line.says}")
        if line.between:
            tell(f"#   between machines of their own: {line.between}")
        if line.who == SITE:
            printed = self._at_sites(line)
        else:
            rows = [self._typed(line, name) for name in (self.names if line.each else self.names[:1])]
            printed = [self._at_coordinator(line, typed) for typed in rows][:1]
        if not line.live:
            _show(printed[0])
        self._hand_over(line, printed[0])
        if line.by_hand:
            tell(f"#   by hand: {line.by_hand}")

    def _at_coordinator(self, line: Line, typed: str) -> str:
        self._tell_typed(COORDINATOR, typed)
        log = self.stage.log_for(COORDINATOR, typed)
        return self.stage.type(COORDINATOR, typed, log, hear=_show if line.live else None)

    def _at_sites(self, line: Line) -> list[str]:
        """Every site types it, as many at once as there are cores."""
        rows = []
        for name in self.names:
            typed = self._typed(line, name)
            self._tell_typed(name, typed)
            rows.append((name, typed, self.stage.log_for(name, typed)))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(lambda row: self.stage.type(*row), rows))

    def _tell_typed(self, party: str, typed: str) -> None:
        tell(f"{party}$ {typed}")
        self._typed_so_far.append({"party": party, "command": typed})

    def _typed(self, line: Line, name: str) -> str:
        assert self._dealt is not None
        images = self.folder / name / "images"
        return line.typed(
            site=name,
            source=self._dealt.source,
            images=str(images / LABELLED),
            new=str(images / NEW),
            app=self._app,
            digest=self._digest,
            settings=" ".join(self._run_settings()),
            **self._ports,
        )

    def _run_settings(self) -> list[str]:
        """What follows the run's file: the classes, a small model, and what was asked for."""
        assert self._dealt is not None
        size = _SIZE if self.given else PHANTOMS.size
        own = {"rounds": _ROUNDS, "data.image_size": size, "cipher.block": _PATCH, **SMALL}
        asked = {each.partition("=")[0] for each in self.settings}
        made = [f"{name}={value}" for name, value in own.items() if name not in asked]
        asked_for = [setting(*_parted(each)) for each in self.settings]
        return [setting("data.classes", self._dealt.classes), *made, *asked_for]

    def _hand_over(self, line: Line, printed: str) -> None:
        """What people carry or read out between the machines."""
        coordinator = self.stage.place(COORDINATOR)
        if " init " in line.text:
            self._carry(coordinator / "state" / "consortium.invitation", self.names)
        elif " enroll " in line.text:
            for name in self.names:
                self._carry(self.folder / name / ENROLLED / f"{name}.pub", [COORDINATOR])
        elif " roster " in line.text:
            found = _DIGEST.search(printed)
            if found is None:
                raise FederationError("names no digest", where="medveil-server roster")
            self._digest = found[1]
            self._carry(coordinator / "roster.json", self.names)
        elif " run --hash" in line.text:
            self._app = printed.rsplit(maxsplit=1)[-1]
        elif " audit heads " in line.text:
            self._carry(coordinator / "heads.json", self.names)

    def _carry(self, file: Path, parties: Sequence[str]) -> None:
        for party in parties:
            shutil.copy(file, self.stage.place(party))

    def _tell_right(self) -> None:
        """How many images that no training saw were given their class, at each hospital."""
        assert self._dealt is not None
        tell("")
        tell("# not typed anywhere: what the model made of images that took no part, at")
        for name, known in self._dealt.new.items():
            with (self.folder / name / PREDICTED).open(newline="", encoding="utf-8") as stream:
                rows = [(known[Path(row["image"].split("#")[0]).name], row["class"]) for row in csv.DictReader(stream)]
            right = sum(is_ == said for is_, said in rows)
            (_, most), *_ = Counter(is_ for is_, _ in rows).most_common(1)
            self._right[name] = {"right": right, "of": len(rows), "commonest": most}
            tell(f"{_INDENT}{name}: {right} of {len(rows)} right; always the commonest answer: {most}")


def least_labelled() -> int:
    """Labelled images of which, split as a site splits them, as many are trained on as its own limit asks for."""
    data = DataConfig()
    return math.ceil(LimitsConfig().least_images / (1 - data.test - data.validation))


def _parted(typed: str) -> tuple[str, str]:
    name, _, value = typed.partition("=")
    return name, value


def _show(text: str) -> None:
    if not text.strip():
        return
    tell_block("\n".join(f"{_INDENT}{each}" for each in text.rstrip("\n").split("\n")))
