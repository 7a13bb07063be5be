"""The page that lists timm's Vision Transformers by name, from the program: `models.listed`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from docsite.tables import code, safe, table

SAYS = {
    "adapts exactly": (
        "A stem that follows a key gives on hidden images the logits that the model gives on plain ones, and training "
        "from it is the same training, but for rounding ([The stem](../explanation/stem.md))."
    ),
    "trains with a public stem alone": (
        "Such a model takes `stem.init=public`: plain, or on images under a key whose order its own layers learn. "
        "`adapted` and `secret` are refused with the reason below."
    ),
    "refused": "`model.name` is refused before anything starts, with the reason below.",
}
"""What each of the three means."""


def page() -> str:
    """Every name and what it is here; some seconds, since models are laid out for it."""
    from models.listed import verdicts  # noqa: PLC0415 - torch and timm load here

    return made_of((each.kind, each.name, each.reason) for each in verdicts())


def made_of(verdicts: Iterable[tuple[str, str, str]]) -> str:
    """The page of some verdicts: kind, name and reason of each."""
    import timm  # noqa: PLC0415

    found: dict[str, dict[str, list[str]]] = {kind: defaultdict(list) for kind in SAYS}
    for kind, name, reason in verdicts:
        found[kind][reason].append(name)
    lines = ["# Models by name", ""]
    lines += [
        f"Made by `python -m models.listed` of timm {timm.__version__} when this site was built. `model.name` takes a "
        "name with a tag, too, and `model.width`, `depth`, `heads`, `patch` and `image_size` change a name's sizes.",
        "",
    ]
    for kind, text in SAYS.items():
        count = sum(len(names) for names in found[kind].values())
        lines += [f"## {kind[0].upper()}{kind[1:]}: {count} names", "", text, ""]
        lines += [_listing(found[kind]), ""]
    return "\n".join(lines)


def _listing(by_reason: dict[str, list[str]]) -> str:
    names = {reason: ", ".join(code(name) for name in found) for reason, found in by_reason.items()}
    if set(names) == {""}:
        return names[""]
    return table(("such a model", "names"), [(safe(reason), found) for reason, found in names.items()])
