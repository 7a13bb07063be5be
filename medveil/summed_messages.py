"""What the messages of a run with secure aggregation are about; their types are in `medveil.kinds`.

What they hold is in `medveil.secagg.records`.
"""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import RecordDict

from medveil.audit_messages import carried
from medveil.contract import ARRAYS, CONFIG
from medveil.secagg.encoding import digest
from medveil.secagg.sums import COUNT, EVALUATE, TRAIN, VALIDATE
from medveil.signed_messages import content_digest

MASKED = "masked"
"""Name of the one array in the reply to `medveil.kinds.MASK`."""
_FIRST: Mapping[str, int] = {TRAIN: 0, VALIDATE: 2**40, EVALUATE: 2**41, COUNT: 2**42}


def number_of(kind: str, round_: int) -> int:
    """The number of a sum in its run: each round has one of updates, and may have one of each measurement.

    Parameters
    ----------
    kind
        `medveil.secagg.sums.TRAIN`, ``VALIDATE``, ``EVALUATE`` or ``COUNT``.
    """
    return _FIRST[kind] + round_


def about(number: int) -> tuple[str, int]:
    """What `number_of` made a number of: the kind, and the round."""
    kind = max((each for each in _FIRST if _FIRST[each] <= number), key=_FIRST.__getitem__)
    return kind, number - _FIRST[kind]


def content_of(content: RecordDict, settings: str) -> bytes:
    """32 bytes that name the model and every setting of a message, and all the run's.

    Parameters
    ----------
    content
        Of the message that asks sites to train, or to measure.
    settings
        `medveil.audit_messages.digest_of_config` of the run.
    """
    # A message that asks for counts carries no model.
    said = RecordDict({name: content[name] for name in (ARRAYS, CONFIG) if name in content})
    return digest("content", settings, content_digest(said, carried(said)))
