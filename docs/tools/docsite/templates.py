"""The page with empty cards, from the sections of those that an export writes."""

from __future__ import annotations

from fl_client.export.sections import DATA, MODEL, template

_ABOUT = """# Cards to fill in

What [an export](../how-to/use-a-model.md#export) writes by itself, `MODEL_CARD.md` and `DATA_CARD.md`, as empty pages:
for a model or images from elsewhere that stand beside MedVeil's in a study. Sections are those of the program's own
cards, after Mitchell et al. ([arXiv 1810.03993](https://arxiv.org/abs/1810.03993)) and Pushkarna et al.
([arXiv 2204.01075](https://arxiv.org/abs/2204.01075)). Consent and how labels were made the program does not know: in
its own data cards too a person fills them in.
"""


def page() -> str:
    """Both templates, to be copied."""
    cards = [("Model card", MODEL, "Model card: NAME"), ("Data card", DATA, "Data card: NAME")]
    blocks = [f"## {name}\n\n```markdown\n{template(title, parts)}```\n" for name, parts, title in cards]
    return "\n".join([_ABOUT, *blocks])
