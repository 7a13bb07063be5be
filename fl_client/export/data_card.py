"""The data card: Markdown of a site's images, from what it knew when its run ended, and from nothing else.

Its sections are those of `sections`. What is not known says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fl_client.export import sections
from fl_client.export.cells import FEWEST_SHOWN, has_tests
from fl_client.export.cells import count as _count
from fl_client.export.cells import table as _table
from fl_client.export.cells import text as _text
from fl_client.export.described import preparation_of
from fl_client.export.sections import laid_out
from fl_client.export.together import grouping, told_of_similar

_SHARE, _BAR = "Share of training images", 20
_OWN_WINDOW, _ONE_SCALE = "the file's own, else percentiles 0.5 to 99.5", "none; one scale for all images of the file"
_TWO_LABELS = "- images whose picture also stands under another label"


def data_card(facts: Mapping[str, Any]) -> str:
    """The data card: the images of this site. Small counts are not shown, because the card may be handed out."""
    run, data = facts["run_config"], facts["data"]
    parts = [part for part in data["counts"] if part != "test" or has_tests(facts)]
    smallest = max(data.get("smallest", FEWEST_SHOWN), FEWEST_SHOWN)
    rows = [
        [_text(name), *(_count(data["counts"][part][index], smallest) for part in parts), bar]
        for index, (name, bar) in enumerate(zip(run["classes"], _bars(data["counts"]["train"], smallest), strict=True))
    ]
    window = (_ONE_SCALE if data["source"] == "npz" else _OWN_WINDOW) if data["window"] is None else f"{data['window']}"
    augmented = "none" if data["augment"] == "none" and not data["flip"] else data["augment"]
    lines = [
        f"- kind: {data['source']}",
        f"- read as: {run['channels']} channel(s), 8 bit, {run['image_size']} x {run['image_size']} pixels, bilinear, "
        "aspect not kept",
        f"- window (centre, width): {window}",
        *(f"- grey values and colour: {_text(said)}" for said in data.get("said", ())),
        f"- prepared in way {preparation_of(facts)} of MedVeil's: a model is asked about images prepared so",
        f"- shortest side accepted: {data['min_side']} pixels",
        f"- augmentation of training images: {augmented}{', flipped at random' if data['flip'] else ''}",
        f"- kept together by every split: {grouping(data)}",
        *told_of_similar(data, smallest),
        *([] if "split" not in data else [f"- split: {_split(data['split'])}"]),
        f"- files left out as unreadable or unfit: {_count(data['skipped'], smallest)}",
        *([] if "two_classes" not in data else [f"{_TWO_LABELS}: {_count(data['two_classes'], smallest)}"]),
        # Warnings that an earlier MedVeil kept may hold exact numbers; it kept none of the images without a group.
        *([] if "ungrouped" not in data else _told_of_groups(data, smallest)),
    ]
    composed = _table(["Class", *(f"{part.capitalize()} images" for part in parts), _SHARE], rows)
    texts = {
        "Composition": composed,
        "Preparation": "\n".join(lines),
        "Collection, consent and demographics": "Not known to MedVeil: the hospital fills this in.",
        "Labels": "As the site's table or folders give them; how they were made is not known to MedVeil.",
    }
    title = f"# Data card: images of {_text(facts['site'])} in the run {_text(run['name'])}"
    blocks = [title, "The images themselves are no part of this export.", *laid_out(sections.DATA, texts)]
    return "\n\n".join(blocks) + "\n"


def _bars(counts: Sequence[int], smallest: int) -> list[str]:
    """The share of each class among the images of classes that are counted: a bar, and per cent."""
    shown = [count if count >= smallest else 0 for count in counts]
    shares = [count / max(1, sum(shown)) for count in shown]
    return [f"{'█' * round(_BAR * share)} {share:.0%}" if share else "" for share in shares]


def _split(split: Mapping[str, Any]) -> str:
    if split["kind"] != "official":
        return "drawn by MedVeil"
    missing = [part for part in ("validation", "test") if part not in split["official"]]
    drawn = f"; {' and '.join(missing)} drawn from its training images" if missing else ""
    return f"the data set's own ({', '.join(split['official'])}){drawn}"


def _told_of_groups(data: Mapping[str, Any], smallest: int) -> list[str]:
    lone = f"- images that carry nothing to be kept together by: {_count(data['ungrouped'], smallest)}"
    return [lone, *(f"- warning: {_text(warning)}" for warning in data["warnings"])]
