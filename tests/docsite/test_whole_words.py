"""Options are one word on every screen, and nothing else of a page changes."""

from __future__ import annotations

import re

import pytest
from docsite.whole import LONGEST, keep_whole


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("--seal", ["--seal"]),
        ("medveil-site predict IMAGES --model DIR --out FILE", ["medveil-site", "--model", "--out"]),
        ("-1.5", ["-1.5"]),
        ("plain words", []),
        ("--" + "x" * LONGEST, []),
        ("a --x&lt;b", ["--x"]),
    ],
)
def test_words_with_hyphens_are_marked(text: str, marked: list[str]) -> None:
    html = f"<p>well-known <code>{text}</code> and - so on</p>"
    made = keep_whole(html)
    assert re.findall('<span class="whole">(.*?)</span>', made) == marked
    assert re.sub("</?span[^>]*>", "", made) == html


def test_intervals_are_marked_where_they_are_no_code() -> None:
    made = keep_whole("<td>0.785 [0.756, 0.814]</td><td>[−1.12, +0.19]</td><p>[a, b] <code>[40, 400]</code></p>")
    assert re.findall('<span class="whole">(.*?)</span>', made) == ["[0.756, 0.814]", "[−1.12, +0.19]"]


def test_blocks_of_code_stay_as_they_are() -> None:
    block = "<div><pre><span></span><code>medveil-sim run --out RUN\n</code></pre></div>"
    assert keep_whole(block) == block
    assert keep_whole(f"{block}<code>--out</code>{block}").count("whole") == 1
