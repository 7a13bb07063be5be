"""What a run would do, found by looking at the headers of files and writing nothing."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace

from crypto.files.registry import Examines, kind_named
from crypto.keyring import Keyring
from crypto.tree.decide import Decider
from crypto.tree.earlier import Earlier
from crypto.tree.forms import Forms
from crypto.tree.index import FAILED, SKIPPED, Index, Reason
from crypto.tree.journal import VOID
from crypto.tree.paths import WORK, check_apart
from crypto.tree.place import JOURNAL
from crypto.tree.plan import Plan
from crypto.tree.records import Marks
from crypto.tree.report import TABLE_ROWS, Summary
from crypto.tree.tasks import words
from crypto.tree.walk import walk
from medveil.errors import MedVeilError


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run would do.

    Parameters
    ----------
    files, sizes
        Files it would work on and their bytes, by kind.
    summary
        Counts of what is done already, would fail or be passed over.
    failed, skipped
        The first rows of what would fail or be passed over, as (name, why).
    mixed
        What is to be known of grey and colour images that are mixed; empty where they are not.
    """

    files: Counter[str]
    sizes: Counter[str]
    summary: Summary
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    mixed: str = ""
    reasons: dict[str, list[Reason]] = field(default_factory=dict)


def forecast(plan: Plan, keys: Keyring) -> Forecast:
    """Say what `crypto.tree.run.run_tree` would do; errors as there. Damaged pixels are found only by the run."""
    check_apart(plan.source, plan.target)
    marks = Marks(keys.current)
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    summary = Summary()
    with Index(marks) as index:
        _recall(Earlier(plan, keys, plan.target / WORK / JOURNAL), index)
        decider, forms = Decider(plan, index, summary, marks=marks), Forms(plan)
        for found in walk(plan.source):
            todo = decider.decide(found)
            if todo is None:
                continue
            kind = kind_named(todo.kind)
            try:
                if plan.recipe is not None and isinstance(kind, Examines):
                    kind.examine(plan.source / todo.name, plan.recipe)
            except MedVeilError as error:
                decider.fail(todo.name, words(error), error.exit_code)
                continue
            forms.look(plan.source / todo.name)
            files[todo.kind] += 1
            sizes[todo.kind] += todo.size
        failed, skipped = (list(index.said(sort, TABLE_ROWS)) for sort in (FAILED, SKIPPED))
        reasons = {sort: list(index.reasons(sort, TABLE_ROWS)) for sort in (FAILED, SKIPPED)}
    said = Forecast(files=files, sizes=sizes, summary=summary, mixed=forms.said(), reasons=reasons)
    return replace(said, failed=failed, skipped=skipped)


def _recall(earlier: Earlier, index: Index) -> None:
    for record in itertools.chain(earlier.records(), earlier.unfinished(mend=False)):
        if record.size == VOID:
            index.drop(record.target)
        else:
            index.add(record)
            index.take(record.target, record.source)
