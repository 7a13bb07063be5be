"""The errors MedVeil raises on purpose.

Each says what was wrong, where, and what would be right; the class decides the exit code of the command
that meets it. Anything else that escapes is a defect.
"""

from __future__ import annotations

from pathlib import Path

from medveil.plain import shown

EXIT_OK = 0
EXIT_PARTIAL = 6
EXIT_INTERRUPTED = 130


class MedVeilError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    problem
        What was wrong, in a clause without a final full stop.
    where
        The file, field or site it concerns.
    cure
        What would be right.
    """

    exit_code = 2

    def __init__(self, problem: str, *, where: str | Path | None = None, cure: str | None = None) -> None:
        self.problem = problem
        self.where = None if where is None else str(where)
        self.cure = cure
        super().__init__(self._one_line())

    def _one_line(self) -> str:
        text = self.problem if self.where is None else f"{self.where}: {self.problem}"
        if self.cure is not None:
            text = f"{text}; {self.cure}"
        return shown(" ".join(text.split()))

    def reword(self, *, problem: str, where: str | None) -> None:
        """Say the same in the words of another door."""
        self.problem, self.where = problem, where
        self.args = (self._one_line(),)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.problem, self.where, self.cure)


def _rebuild(kind: type[MedVeilError], problem: str, where: str | None, cure: str | None) -> MedVeilError:
    return kind(problem, where=where, cure=cure)


class ConfigError(MedVeilError):
    """A command line, a configuration or a combination of settings that cannot be run."""

    exit_code = 2


class PolicyError(ConfigError):
    """A combination of key policy and stem policy that would publish a key or cannot work."""


class FormatError(ConfigError):
    """A file of another format, or of a newer version than this MedVeil reads."""


class DataError(MedVeilError):
    """Images, labels or splits that cannot be used."""

    exit_code = 3


class BasisError(DataError):
    """What a run stands on is not what it began with: images, labels, groups, classes, split, settings, weights.

    Parameters
    ----------
    parts
        What differs, each by its name in `medveil.basis`: for an audit log.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | Path | None = None,
        cure: str | None = None,
        parts: tuple[str, ...] = (),
    ) -> None:
        super().__init__(problem, where=where, cure=cure)
        self.parts = parts

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"parts": self.parts})


class StorageError(MedVeilError):
    """A disk that is full, read-only or otherwise refused what had to be written or read."""

    exit_code = 3


class IntegrityError(MedVeilError):
    """A file of ours that is cut, changed or not what its checksum says."""

    exit_code = 3


class KeyMaterialError(MedVeilError):
    """A key that is missing, wrong, sealed with another passphrase, or not allowed here."""

    exit_code = 4


class FederationError(MedVeilError):
    """A federation that cannot go on: sites missing, updates refused, an empty aggregate."""

    exit_code = 5


class SignatureError(FederationError):
    """A message, a reply or a file that bears no signature of whom it should be from, or not for what it is used as.

    Parameters
    ----------
    reason
        One word for it, for an audit log: ``unsigned``, ``forged``, ``version``, ``expired``, ``replayed``,
        ``unheaded``, or the field of the statement that is of something else.
    """

    def __init__(
        self, problem: str, *, where: str | Path | None = None, cure: str | None = None, reason: str = "forged"
    ) -> None:
        super().__init__(problem, where=where, cure=cure)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"reason": self.reason})


class AggregationError(FederationError):
    """A step of secure aggregation that this side does not take: the other asks for more than one sum may show.

    Parameters
    ----------
    reason
        One word for it, for an audit log: ``added``, ``few``, ``share``, ``own``, ``twice``, ``order``, ``attempt``,
        ``set``, ``signatures``, ``shares``, ``norm``, or the field of an offer that is of something else.
    """

    def __init__(
        self, problem: str, *, where: str | Path | None = None, cure: str | None = None, reason: str = "order"
    ) -> None:
        super().__init__(problem, where=where, cure=cure)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"reason": self.reason})


class PacsError(MedVeilError):
    """A DICOMweb server that is out of reach, refuses, or answers what none may."""

    exit_code = 5


class DrainedError(MedVeilError):
    """A run that stopped between two rounds, because its server was drained before an upgrade."""

    exit_code = EXIT_PARTIAL


class PartialError(MedVeilError):
    """Work that ended with some of its parts failed."""

    exit_code = EXIT_PARTIAL
