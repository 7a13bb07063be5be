"""What a run of the tests prints of the seconds of each package."""

from __future__ import annotations

from pathlib import Path

from budget import BUDGET_S, lines, package_of


def test_what_is_over_its_budget_says_by_how_much() -> None:
    allowed = BUDGET_S["crypto"]
    crypto, models, other, everything = lines({"models": 1.0, "other": 3.0, "crypto": allowed + 50.04})
    assert crypto.split() == ["crypto", f"{allowed + 50.04:.1f}", str(allowed), "over", "by", "50.0"]
    assert models.split() == ["models", "1.0", str(BUDGET_S["models"])]
    assert other.split() == ["other", "3.0", "-"]
    assert everything.split()[:3] == ["all", f"{allowed + 54.04:.1f}", str(allowed + BUDGET_S["models"])]


def test_every_folder_of_tests_has_a_budget() -> None:
    folders = {path.parent.name for path in Path(__file__).parents[1].glob("*/test_*.py")}
    assert folders == set(BUDGET_S)
    assert package_of("tests/e2e/test_resume.py::test_a[b/c]") == "e2e"
