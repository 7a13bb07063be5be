"""The measures of a run as TensorBoard files, for whoever watches it with ``tensorboard --logdir RUN/tensorboard``.

Every site is a run of TensorBoard's for each phase (``st-anna/train``, ``st-anna/validation``), and so are all sites
together (``all/train``): what they share a name with lies in one chart. The step is the round. The files hold what
metrics.jsonl holds, and nothing else.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_server.metrics import MEASURES
from fl_server.watch import Watcher
from medveil.errors import ConfigError
from medveil.log import logger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
_SCALARS = (*MEASURES, "n", "seconds", "bytes_up", "bytes_down")
_FLUSH_S = 2
_CURE = "pip install 'medveil[tensorboard]', or 'server.tensorboard' false"
_log = logger("server")


def check_installed() -> None:
    """Refuse to write TensorBoard files without TensorBoard (ConfigError)."""
    if find_spec("tensorboard") is None:
        raise ConfigError("TensorBoard is not installed", where="server.tensorboard", cure=_CURE)


class TensorBoardWatcher(Watcher):
    """Writes every line of metrics.jsonl as scalars, as it comes.

    A disk that refuses them stops the files and not the run.

    Parameters
    ----------
    run
        The run folder; the files lie in its folder `FOLDER`.

    Raises
    ------
    ConfigError
        TensorBoard is not installed.
    """

    def __init__(self, run: Path) -> None:
        check_installed()
        self._folder = run / FOLDER
        self._after = 0
        self._writers: dict[tuple[str, str], SummaryWriter] = {}
        self._stopped = False

    def goes_on(self, round_: int) -> None:
        """Let a viewer forget what a run that was interrupted had written of later rounds."""
        self._after = round_

    def line(self, line: dict[str, Any]) -> None:
        """Write the scalars of a line; what is undefined in it has none."""
        if self._stopped:
            return
        try:
            writer = self._writer(line["site"], line["phase"])
            for name in _SCALARS:
                if line[name] is not None:
                    writer.add_scalar(name, line[name], line["round"])
            writer.flush()
        except OSError as error:
            self._stopped = True
            _log.warning("no more TensorBoard files are written: %s", error.strerror or error)

    def ended(self, summary: dict[str, Any]) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, site: str, phase: str) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        if (site, phase) not in self._writers:
            # Round r's training comes with the validation of round r - 1, and the test after the last round.
            first = self._after + (1 if phase == "train" else 0)
            folder = self._folder / site / phase
            self._writers[site, phase] = SummaryWriter(folder, purge_step=first, flush_secs=_FLUSH_S)
        return self._writers[site, phase]
