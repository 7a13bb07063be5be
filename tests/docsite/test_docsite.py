"""The documentation: what people wrote holds together, what is generated says what the program says."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest
import yaml
from docsite import commands, links, outside, proofs, renderings, results, sentences, settings, widths
from docsite.__main__ import check
from docsite.generated import GENERATED
from docsite.places import ROOT, for_site
from fault_table import leave
from pages import pages
from pydicom.uid import (
    MPEG2MPML,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEGLSLossless,
    RLELossless,
)

from crypto.reading.dicom_objects import REFUSED
from fl_client.deployment.config import SiteConfig
from fl_client.reports.subjects import TAKEN
from fl_server.deployment.consortium import ConsortiumConfig
from fl_server.deployment.plan import RunFile
from medveil.config import to_mapping
from medveil.versions import medveil_version
from simulations.config import ExperimentConfig


def test_links_lead_somewhere_and_nothing_is_said_twice() -> None:
    assert check() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("see [x](nowhere.md)", "no such file"),
        ("see [x](#no-such)", "no such heading"),
        ("see ![x](no/picture.svg)", "no such file"),
    ],
)
def test_a_broken_link_is_named_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{text}\n")
    (found,) = links.broken([page], generated=())
    assert found.startswith(f"{page}:3:")
    assert why in found


@pytest.mark.parametrize("text", ["[x](#two-words-s)", "[x](page.md#a)", "[x](https://example.org)", "`[x](gone.md`"])
def test_a_link_that_leads_somewhere_is_none(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A\n\n## Two `words`, s\n\n```sh\n[x](gone.md)\n```\n\n{text}\n")
    assert links.broken([page], generated=()) == []


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("| a | b | `tests/docsite/test_docsite.py::test_gone` |", "test_docsite.py::test_gone: no such test"),
        ("| a | b | `tests/docsite/test_gone.py` |", "tests/docsite/test_gone.py: no such file of tests"),
        ("| a | b | `tests/docsite/test_docsite.py::check` |", "no such test"),
        ("| a | b | it is so |", "names no test: | a | b | it is so |"),
        ("| a | b | `tests/docsite/test_docsite.py` |\n<!-- proofs -->", "has no end"),
    ],
)
def test_a_requirement_names_a_test_that_is_there(tmp_path: Path, row: str, why: str) -> None:
    page = tmp_path / "page.md"
    own = f"tests/docsite/test_docsite.py::{test_a_requirement_names_a_test_that_is_there.__name__}"
    head = "<!-- proofs -->\n| asked | done | test |\n|---|---|---|\n"
    page.write_text(f"{head}| a | b | `{own}` |\n<!-- /proofs -->\n")
    assert proofs.wrong([page]) == []
    page.write_text(f"{head}{row}\n<!-- /proofs -->\n")
    (found,) = proofs.wrong([page])
    assert why in found


def test_nothing_is_called_secure_without_saying_against_whom() -> None:
    """In the paragraph itself, or on the page that it names; titles of papers are not ours."""
    against = "secure-aggregation.md"
    assert "## Against whom not" in (ROOT / "docs/explanation" / against).read_text()
    own = {against, "cite.md"}
    told = [
        text
        for page in pages()
        if page.name not in own
        for text in re.split(r"\n\s*\n", page.read_text())
        if re.search(r"\bsecure", text, re.IGNORECASE)
    ]
    assert told
    assert [text for text in told if against not in text and 'never says "secure"' not in text] == []


def test_a_sentence_said_twice_is_named_with_both_places(tmp_path: Path) -> None:
    a, b = tmp_path / "a.md", tmp_path / "b.md"
    a.write_text("One thing first. A key that is **lost** opens\nnothing that was hidden.\n")
    b.write_text("| head |\n|---|\n| A key that is lost [opens](x.md) nothing that was hidden. |\n")
    (found,) = sentences.repeated([a, b])
    assert f"{b}:3" in found
    assert f"{a}:1" in found
    b.write_text("```text\nA key that is lost opens nothing that was hidden.\n```\n")
    assert sentences.repeated([a, b]) == []


COMPARISON = "practice-comparison.json"


def test_code_wider_than_a_page_is_named_with_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{'a ' * 60}\n\n```sh\n{'b' * 80}\n{'c' * 81}\n```\n\n    {'d' * 80}\n    {'e' * 82}\n")
    first, second = widths.too_wide([page])
    assert first.startswith(f"{page}:5: 81 letters")
    assert second.startswith(f"{page}:9: 82 letters")


def test_a_figure_that_differs_from_its_file_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    table = results.rendered(COMPARISON)
    page.write_text(f"<!-- results: {COMPARISON} -->\n{table}<!-- /results -->\n")
    assert results.wrong([page]) == []
    page.write_text(page.read_text().replace("0.948", "0.958", 1))
    assert len(results.wrong([page])) == 1
    assert results.write([page]) == [page]
    assert results.wrong([page]) == []


def test_rows_taken_from_another_table_are_held_against_it(tmp_path: Path) -> None:
    other = tmp_path / "other.md"
    said = "Measured with `make bench`; the figures came in with commit `fe28aa5`."
    other.write_text(
        f"<!-- measured: t -->\n| a | b | c |\n|---|---|---|\n| x | 1 | 2 |\n\n{said}\n<!-- /measured -->\n"
    )
    page = tmp_path / "page.md"
    for row, right in (("| x | 2 |", True), ("| x | 1 |", False)):
        page.write_text(f"<!-- rows of: {other} t -->\n| a | c |\n|---|---|\n{row}\n<!-- /rows -->\n")
        assert (results.wrong([page]) == []) == right


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "neither command nor commit"),
        ("Measured with `make bench`; the figures came in with commit `0000000000`.", "none of this repository"),
    ],
)
def test_figures_without_a_file_say_where_they_are_from(tmp_path: Path, said: str, why: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- measured: t -->\n| a |\n|---|\n| 1 |\n\n{said}\n<!-- /measured -->\n")
    if "none of" in why and not (ROOT / ".git").exists():
        pytest.skip("no history here")
    (found,) = results.wrong([page])
    assert why in found


def test_a_mark_without_an_end_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- results: {COMPARISON} -->\n| a |\n")
    assert "has no end" in results.wrong([page])[0]


def test_renderings_show_the_files_own_numbers() -> None:
    bench = {"engine_over_bare_loop": 1.0234, "environment": {"threads": 1}}
    assert "| `engine_over_bare_loop` | 1.023 |" in renderings.bench(bench)
    round_ = {"wall_s": 7.0, "worked_s": 4.0, "cost_s": 3.0}
    measured = {"overhead": {"model": "vit", "medveil": round_, "plain_flower": {**round_, "wall_s": 65.8}}}
    assert "| plain flower | 65.80 s | 4.00 s | 3.00 s |" in renderings.deployment(measured)
    attack = json.loads((results.RESULTS / "practice-attacks/jigsaw.json").read_text())
    main = attack["metrics"][attack["main"]]
    assert f"{main['target']:.3f} [{main['ci95']['target'][0]:.3f}" in renderings.attacks([attack])


def test_the_table_of_faults_is_what_the_tests_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    leave(tmp_path / "faults.json", [("kills", "a site", "named", "passed", "22")])
    assert "| kills | a site | named | passed | 22 |" in results.rendered("faults.json")


@pytest.mark.parametrize("door", commands.DOORS)
def test_every_command_and_argument_is_on_its_page(door: str) -> None:
    page = GENERATED[f"reference/{door}.md"]()
    for command in commands._commands(commands.parser_of(door)):
        assert f"# {command.prog.removeprefix(f'{door} ')}\n" in page
        for action in (each for each in command._actions if each.help != argparse.SUPPRESS):
            own = [name for name in action.option_strings if name not in {"-h", "--help", "--log-level", "--log-file"}]
            assert all(f"`{name}" in page for name in own)


@pytest.mark.parametrize("door", commands.DOORS)
def test_examples_fit_a_page_and_are_what_help_says(door: str) -> None:
    blocks = re.findall(r"```sh\n(.*?)\n```", commands.page(door), re.DOTALL)
    assert max(len(line) for block in blocks for line in block.splitlines()) <= widths.WIDEST
    printed = [parser.epilog or "" for parser in commands._commands(commands.parser_of(door))]
    for block in blocks[1:]:
        whole = re.sub(r" \\\n +", " ", block)
        assert any(epilog.startswith(f"example: {whole}") for epilog in printed), whole


@pytest.mark.parametrize("schema", [ExperimentConfig, RunFile, SiteConfig, ConsortiumConfig])
def test_every_setting_is_on_the_page_with_its_default(schema: type) -> None:
    page = settings.page()

    def look(values: dict[str, object], prefix: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                look(value, f"{prefix}{name}.")
            else:
                assert f"| `{prefix}{name}` | `{json.dumps(value)}` |" in page

    look(to_mapping(schema()), "")


def test_errors_and_formats_are_on_their_pages() -> None:
    assert "| `KeyMaterialError` | 4 |" in GENERATED["reference/errors.md"]()
    assert "did you mean" in GENERATED["reference/errors.md"]()
    assert "| `medveil-key` | 2 |" in GENERATED["reference/formats.md"]()


def test_what_dicom_is_read_and_written_is_on_its_page() -> None:
    page = GENERATED["reference/conformance.md"]()
    for syntax in (ExplicitVRLittleEndian, JPEGLSLossless, HTJ2KLossless, RLELossless):
        assert f"| `{syntax}` |" in page
    assert f"| `{MPEG2MPML}` |" not in page
    assert f"| {ComprehensiveSRStorage.name} | `{ComprehensiveSRStorage}` |" in page
    assert all(f"| `{stem}` |" in page for stem in REFUSED)
    assert all(f"| `{each.keyword}` |" in page for each in TAKEN)


@pytest.mark.parametrize(
    ("html", "fetched"),
    [
        ('<script src="https://example.org/x.js"></script>', 1),
        ('<link rel="stylesheet" href="//fonts.example.org/css">', 1),
        ("<style>@import 'https://example.org/x.css';</style>", 1),
        ('<img srcset="https://example.org/a.png 2x">', 1),
        ('<a href="https://example.org">a link a person may follow</a><script src="x.js"></script>', 0),
    ],
)
def test_what_a_page_fetches_from_elsewhere_is_found(tmp_path: Path, html: str, fetched: int) -> None:
    (tmp_path / "page.html").write_text(html)
    assert len(outside.fetched(tmp_path)) == fetched


@pytest.mark.parametrize(
    ("page", "link", "right"),
    [
        ("how-to/keys.md", "../../SECURITY.md#x", "../security.md#x"),
        ("security.md", "docs/how-to/keys.md", "how-to/keys.md"),
        ("security.md", "CHANGELOG.md", "changelog.md"),
        ("index.md", "../.github/overview.svg", "overview.svg"),
        ("how-to/keys.md", "index.md", "index.md"),
        ("how-to/keys.md", "https://example.org/docs/x.md", "https://example.org/docs/x.md"),
    ],
)
def test_links_are_right_on_the_site_too(page: str, link: str, right: str) -> None:
    assert for_site(f"[x]({link})", page) == f"[x]({right})"


def test_the_version_to_cite_is_the_programs() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == medveil_version()
    assert f"version = {{{medveil_version()}}}" in (ROOT / "docs/how-to/cite.md").read_text()
    assert f"## {medveil_version()}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_module_the_api_shows_is_there() -> None:
    shown = [name for page in (ROOT / "docs/reference/api").glob("*.md") for name in _modules(page)]
    assert len(shown) > 30
    assert [name for name in shown if not (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()] == []


def _modules(page: Path) -> list[str]:
    return [line.removeprefix("::: ") for line in page.read_text().splitlines() if line.startswith("::: ")]


def test_every_page_is_in_the_navigation() -> None:
    shown = json.dumps(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in [*pages, *GENERATED] if f'"{page}"' not in shown] == []
