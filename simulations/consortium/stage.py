"""The folders of a coordinator and of sites on this machine, and the commands that are typed in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

from crypto.passphrase import VARIABLE
from fl_client.deployment import running
from fl_client.deployment.own_files import OwnFiles
from fl_server.deployment.consortium import load_consortium
from medveil import processes
from medveil.errors import EXIT_OK, EXIT_PARTIAL, FederationError, MedVeilError
from medveil.files import make_folder
from simulations.consortium.lines import PROGRAMS, parted
from simulations.consortium.places import LOGS, SCRATCH

_AT_ONCE = 8
_LOOK_S = 0.1


class Stage:
    """Parties in folders of their own below one, and a log of every command.

    Parameters
    ----------
    folder
        There already.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._typed = folder, 0
        self._logs = make_folder(folder / LOGS)
        self._scratch = make_folder(folder / SCRATCH, mode=0o700)
        self.partial = False
        """Whether a command finished in part."""

    def sweep(self) -> None:
        """Remove what commands that were ended left of their own."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def place(self, party: str) -> Path:
        """The folder of a party."""
        return make_folder(self._folder / party)

    def log_for(self, party: str, typed: str) -> Path:
        """Where the next command's words are written down."""
        self._typed += 1
        program, words, _ = parted(typed)
        named = "-".join(word for word in words[:2] if word.isalpha()) or program
        return self._logs / f"{self._typed:02d}-{party}-{named}.log"

    def type(self, party: str, typed: str, log: Path, *, hear: Callable[[str], None] | None = None) -> str:
        """Run a command as its party types it, in a process of its own; what it printed.

        Parameters
        ----------
        typed
            Of `medveil-server` or `medveil-site`, with a file behind ``>`` or without.
        hear
            Told each line while it runs.

        Raises
        ------
        FederationError
            It failed: which command, what it said last, and where its log is.
        """
        program, words, file = parted(typed)
        place = self.place(party)
        # What is started here and stays writes to logs of its own: a file, unlike a pipe, nobody waits for.
        with log.open("wb") as printed, (place / file).open("wb") if file else nullcontext(printed) as out:
            process = subprocess.Popen(
                [sys.executable, "-m", PROGRAMS[program], *words],
                cwd=place,
                env=_environment(self._scratch),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=printed,
            )
            _heard(process, log, hear)
        said = log.read_text(encoding="utf-8", errors="replace")
        if process.returncode == EXIT_PARTIAL:
            self.partial = True
        elif process.returncode != EXIT_OK:
            last = (said.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")
            raise FederationError(
                f"'{typed}' ended with {process.returncode}: {last}", where=party, cure=f"all it said is in {log}"
            )
        return said


def end_all(sites: Iterable[OwnFiles], consortium: Path) -> None:
    """End every process of sites and server by its recorded id, whatever state they are in.

    Parameters
    ----------
    sites
        Those that were enrolled.
    consortium
        The server's file, which need not be there yet.
    """

    def stop(site: OwnFiles) -> None:
        with suppress(MedVeilError):
            running.stop(site)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(stop, sites))
    if consortium.exists():
        processes.stop(load_consortium(consortium).record)


def _environment(scratch: Path) -> dict[str, str]:
    """As a person's, without a passphrase: the sites' files name theirs.

    A command that is killed takes its temporary files not with it: here they go with the folder.
    """
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return {**kept, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)}


def _heard(process: subprocess.Popen[bytes], log: Path, hear: Callable[[str], None] | None) -> None:
    """Wait for a process, telling whole lines of its log on the way."""
    if hear is None:
        process.wait()
        return
    with log.open(encoding="utf-8", errors="replace") as stream:
        held = ""
        while True:
            ended = process.poll() is not None
            *whole, held = (held + stream.read()).split("\n")
            for line in whole:
                hear(line)
            if ended:
                break
            time.sleep(_LOOK_S)
        if held:
            hear(held)
