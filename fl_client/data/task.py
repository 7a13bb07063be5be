"""Whether a run can learn from a source what it is to learn: classes from labels, or pixels from any plain image."""

from __future__ import annotations

from fl_client.data.base import Source
from fl_client.data.items import UNLABELLED
from medveil.errors import ConfigError
from medveil.pretraining import MASKED


def check_task(source: Source, *, masked: bool) -> None:
    """Refuse images that a run has nothing to learn from.

    Parameters
    ----------
    source
        The images.
    masked
        Whether the run learns pixels, by masked autoencoding, and no classes.

    Raises
    ------
    ConfigError
        They have no labels, and classes are learned; or another party hid them, and pixels are.
    """
    if masked and source.hidden is not None:
        problem = (
            f"is {MASKED}, and another party hid these images: the decoder's last layer would travel, and its rows "
            "show which places of a hidden patch are neighbours"
        )
        raise ConfigError(problem, where="task", cure="give the originals, under a key policy of the run's")
    if not masked and source.classes == UNLABELLED:
        problem = "is none, and classes are to be learned"
        raise ConfigError(problem, where="data.labels", cure=f"a CSV, null for one folder a class, or task={MASKED}")
