"""MkDocs hooks: pages made from the program when the site is built, and pages of the repository's root."""

from __future__ import annotations

from typing import Any

from docsite.generated import GENERATED
from docsite.places import ELSEWHERE, ROOT, for_site
from docsite.whole import keep_whole
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add what is generated, and what lies at the repository's root."""
    for page, make in GENERATED.items():
        files.append(File.generated(config, page, content=make()))
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links that are right in the repository right on the site; the landing page has the whole width."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation", "toc"]
    return for_site(markdown, page.file.src_uri)


def on_page_content(html: str, **_: Any) -> str:
    """Keep options and names with hyphens on one line."""
    return keep_whole(html)
