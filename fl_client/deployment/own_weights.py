"""The pre-trained weights that a run may begin from here: which files, and what they tell of themselves.

A server names a file in the site's own folder and sends none. Whoever *made* that file may have planted rows in it that
print patches into the little that trains between them (Sami et al., CVPR 2025, arXiv 2506.04453; `peft-leak`): in the
round the server then sends exactly the model all agreed on, and no mask, pin or limit on a step meets anything. So a
person at the site says which files may be used, each by the SHA-256 of its contents (`limits.weights`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.named_weights import ANY, WHERE
from medveil.bounded import word
from medveil.contract import RunConfig
from medveil.errors import ConfigError, MedVeilError, PolicyError, StorageError
from medveil.files import sha256_file
from medveil.plain import shown
from models.unpickled import READ, refuse_pickled

FRESH = "false"
BUILT = "fresh, built at this site from the run's seed; no file"
_CARD = ("run", "data", "licence of the data", "learned by", "recipe")
_LONGEST = 300
_MOST_FILES = 100


class _Held(NamedTuple):
    """A file in the site's folder of weights, its digest, and whether the limits name it."""

    name: str
    digest: str
    named: bool


def is_named(digest: str, limits: LimitsConfig) -> bool:
    """Whether the limits name a file of this digest; ``any`` names none."""
    return digest in {each.lower() for each in limits.weights}


def own_weights(name: str, folder: Path, limits: LimitsConfig) -> str:
    """The site's own file of that name: nothing is downloaded for a server, and no path of its is opened.

    Parameters
    ----------
    name
        `model.pretrained` of a run, as the server sent it.
    folder
        The site's.
    limits
        Say which files may be used.

    Raises
    ------
    ConfigError
        It is no name, a pickle's, or of no file here.
    PolicyError
        The limits do not name that file. Both texts may be read by a server.
    """
    if name == FRESH:
        return name
    if Path(name).name != name or name.startswith("."):
        cure = "'false', or the name of a file"
        raise ConfigError("'model.pretrained' is no name", where="run config", cure=cure)
    refuse_pickled(Path(name))
    path = folder / name
    if not path.is_file():
        cure = "the same file goes into every site's weights folder"
        raise ConfigError("this site has no weights of that name", where="model.pretrained", cure=cure)
    if limits.weights != [ANY] and not is_named(_read_by_us(path), limits):
        problem = "this site's limits do not name the weights that the run begins from"
        cure = "a person at the site looks who made them: 'medveil-site check' tells the SHA-256 to name"
        raise PolicyError(problem, where=WHERE, cure=cure)
    return str(path)


def _read_by_us(path: Path) -> str:
    try:
        return sha256_file(path)
    except StorageError:
        # Without the path, which is nobody's business outside.
        raise ConfigError("this site cannot read its weights of that name", where="model.pretrained") from None


def file_of(run: RunConfig) -> Path | None:
    """The site's own file that a run, as it was judged here, begins from; None where it begins fresh."""
    named = str(run.model.get("pretrained", FRESH))
    return None if named == FRESH else Path(named)


def weights_of(run: RunConfig) -> str | None:
    """SHA-256 of the weights file a run begins from, as this site has it; None where it begins fresh."""
    path = file_of(run)
    return None if path is None else sha256_file(path)


def makers_unknown(run: RunConfig, limits: LimitsConfig) -> bool:
    """Whether a run begins from a file that no limit names: then its server may have made it."""
    digest = weights_of(run)
    return digest is not None and not is_named(digest, limits)


def _held(folder: Path, limits: LimitsConfig) -> list[_Held]:
    """The files in a site's folder of weights, by name (StorageError where one cannot be read)."""
    within = folder.iterdir() if folder.is_dir() else []
    found = sorted(path for path in within if path.suffix.lower() in READ and path.is_file())
    made = [(path.name, sha256_file(path)) for path in found[:_MOST_FILES]]
    return [_Held(name, digest, is_named(digest, limits)) for name, digest in made]


def looked_at(folder: Path, limits: LimitsConfig) -> tuple[bool, str, str]:
    """Whether a site's weights are in order, what there is of them, and the cure.

    Raises
    ------
    StorageError
        A file cannot be read.
    """
    here, named = _held(folder, limits), {each.lower() for each in limits.weights}
    told = [f"{shown(each.name, most=_LONGEST)} (SHA-256 {each.digest})" for each in here if not each.named]
    if limits.weights == [ANY]:
        found = f"any file in {folder}{': ' if told else ''}{', '.join(told)}; whoever made one may have planted in it"
        return False, f"{found} what prints images", f"'{WHERE}': the SHA-256 of those whose maker you know, not {ANY}"
    found = f"{len(named)} named in '{WHERE}'" if named else f"fresh alone: '{WHERE}' names none"
    if told:
        cure = f"if you know who made it: its SHA-256 into '{WHERE}' of the site's file, then start the site anew"
        return False, f"{found}; a run that begins from {' or '.join(told)} is refused", cure
    missing = len(named - {each.digest for each in here})
    return True, f"{found}{f', {missing} of them not in {folder}' if missing else ''}", ""


def weights_in_words(run: RunConfig, limits: LimitsConfig) -> str:
    """What a run begins from, for the person who approves it: digest, who names it, its card, and what it may do."""
    path, digest = file_of(run), weights_of(run)
    if path is None or digest is None:
        return BUILT
    by = f"named in '{WHERE}'" if is_named(digest, limits) else f"not named in '{WHERE}', which takes any"
    may = (
        "have planted in them what prints this site's images into its updates, past masks and limits"
        if run.trains
        else "have made them to ask of images what they like, and reads the measures"
    )
    return (
        f"this site's file {shown(path.name, most=_LONGEST)}, SHA-256 {digest}, {by}; {card_in_words(path)}; "
        f"whoever made these weights may {may}: compare the SHA-256 with its publisher's"
    )


def card_in_words(path: Path) -> str:
    """What weights say of themselves, in the words of whoever made them."""
    # It takes seconds, and is asked for by a person alone.
    from models.exported import card_in  # noqa: PLC0415

    try:
        card = card_in(path)
    except (MedVeilError, OSError):
        return "what they say of themselves cannot be read"
    told = [f"{name} {_line(card[name])}" for name in _CARD if name in card]
    return f"they say of themselves: {'; '.join(told)}" if told else "they do not say of themselves what they are"


def _line(value: Any) -> str:
    return shown(" ".join(_words(value)), most=_LONGEST)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from (str(name), *_words(each))
    else:
        yield word(value, _LONGEST)
