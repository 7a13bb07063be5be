"""The model card: Markdown, from what a site knew when its run ended, and from nothing else.

Its sections are those of `sections`. What is not known says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fl_client.export import sections
from fl_client.export.bounded import NOT_BOUNDED, bounded_by_noise, read_by_server
from fl_client.export.calibration import FEWEST, PRIOR
from fl_client.export.cells import FEWEST_SHOWN, has_tests
from fl_client.export.cells import count as _count
from fl_client.export.cells import names as _names
from fl_client.export.cells import number as _number
from fl_client.export.cells import table as _table
from fl_client.export.cells import text as _text
from fl_client.export.described import otherwise_of
from fl_client.export.sections import laid_out
from medveil.contract import measure_key
from medveil.personal import NONE, in_words
from medveil.times import moment
from medveil.training import CORE
from models.policy import Policy

NOT_A_DEVICE = (
    "**This is not a medical device.** It has no conformity assessment, no clearance and no approval by any authority. "
    "It must not be used to diagnose, treat or triage patients."
)
_OFF = {"minutes": 0.0, "state": "fresh", "layer_decay": 1.0, "ema": 0.0, "patch_dropout": 0.0}
"""What fits small data, and what each is where a run does without."""
_UNKNOWN = "not known"
_UNTESTED = (
    "This site held out no test part (its `data.test` is 0). The model did not learn from the validation images below, "
    "but they may have chosen the round that is left and the temperature: on other images it may do worse."
)
_MEASURES = (
    ("accuracy", "Accuracy"),
    ("balanced-accuracy", "Balanced accuracy"),
    ("auroc", "AUROC"),
    ("loss", "Cross-entropy (nats)"),
    ("n", "Images"),
)


def model_card(facts: Mapping[str, Any], *, domain: str, shape: tuple[int, int, int] | None = None) -> str:
    """The model card.

    Parameters
    ----------
    facts
        Of `fl_client.export.facts.facts_of`.
    domain
        ``"plain"``: the model reads plain images; ``"hidden"``: those hidden under its key.
    shape
        Of an image (C, H, W), for who loads it by timm; None where nobody can, because the model is sealed.
    """
    run = facts["run_config"]
    texts = {
        "Model details": _details(facts, domain),
        **({} if shape is None else {"Use without MedVeil": _use(facts, shape)}),
        "Intended use": f"Research on classifying images into {_names(run['classes'])}, at the sites that trained it "
        "and on images like theirs. Out of scope: clinical decisions, images of other modalities, scanners or "
        "populations, images that belong to none of the classes (the model always names one).",
        "Factors": "Figures by age, sex, scanner or other groups were not measured.",
        "Metrics and evaluation data": _figures(facts),
        "Calibration": _calibration(facts),
        "Training data": _training_data(facts),
        "Privacy": _privacy(facts, domain),
        "Limits": _limits(facts),
    }
    blocks = [f"# Model card: {_text(run['name'])}", NOT_A_DEVICE, *laid_out(sections.MODEL, texts)]
    return "\n\n".join(blocks) + "\n"


def _details(facts: Mapping[str, Any], domain: str) -> str:
    run, model = facts["run_config"], facts["run_config"]["model"]
    patch = model["patch"] or run["cipher"]["block"]
    policy = Policy(run["keys"], run["stem_init"], run["stem_train"])
    sizes = ", ".join(f"{name} {model[name]}" for name in ("width", "depth", "heads") if model.get(name) is not None)
    start = {"false": "fresh weights", "true": "timm's pre-trained weights"}.get(model["pretrained"], "a weights file")
    reads = "plain images" if domain == "plain" else f"images hidden under the key {facts['fingerprint'] or _UNKNOWN}"
    rows = [
        ["Architecture", f"Vision Transformer (timm `{model['name']}`{', ' + sizes if sizes else ''})"],
        ["Started from", start],
        ["Reads", reads],
        ["Input", f"{run['channels']} x {run['image_size']} x {run['image_size']}, patch {patch}"],
        ["Classes", _names(run["classes"])],
        ["Run", f"{run['run']} ({_text(run['name'])}), seed {run['seed']}"],
        ["Rounds", f"{facts['round']} of {run['rounds']}"],
        ["Sites", _sites(facts)],
        ["Policy", f"{policy}: {policy.note}"],
        ["Cipher", _cipher(run["cipher"])],
        ["Optimiser", _optimiser(run["train"])],
        ["Kept", f"{moment(facts['kept'])} at {_text(facts['site'])}, by MedVeil {facts['environment']['medveil']}"],
    ]
    own = in_words(run["train"].get("personal", NONE))
    return _table(["", ""], rows if own is None else [*rows, ["The site's own", own]])


def _use(facts: Mapping[str, Any], shape: tuple[int, int, int]) -> str:
    lines = [
        "import timm, torch",
        'model = timm.create_model("local-dir:.", pretrained=True).eval()',
        f"p = torch.softmax(model((2 * pixels - 255) / 255) / {facts['calibration']['temperature']!r}, dim=1)",
    ]
    classes = ", ".join(_text(name) for name in facts["run_config"]["classes"])
    code = "\n".join(lines)
    return (
        f"In this folder, with `pixels` a float tensor (n, {shape[0]}, {shape[1]}, {shape[2]}) of 8-bit values 0 to "
        f"255, prepared as DATA_CARD.md says:\n\n```python\n{code}\n```\n\nThe columns of `p` are {classes}. Where "
        "`import timm` stops at `torchvision::nms`, torch and torchvision are of two builds: install both from one "
        "index; in an environment of MedVeil, `import models.vit` before it lets it pass."
    )


def _sites(facts: Mapping[str, Any]) -> str:
    if _simulated(facts):
        return f"{facts['simulated_sites']}, simulated on one machine"
    fewest = facts["run_config"]["least_sites"]
    return f"at least {fewest} in every round, as the server promised; the rest is the server's"


def _training_data(facts: Mapping[str, Any]) -> str:
    if _simulated(facts):
        return (
            f"A simulation dealt one data set to {facts['simulated_sites']} sites on one machine; DATA_CARD.md is of "
            "the share of this one. Its keys are made from a seed and protect nothing."
        )
    return (
        "Of this site: see DATA_CARD.md. Images of the other sites never came here, and what they are is not known to "
        "this card."
    )


def _simulated(facts: Mapping[str, Any]) -> bool:
    return facts.get("simulated_sites") is not None


def _figures(facts: Mapping[str, Any]) -> str:
    metrics = facts["metrics"]
    parts = ("test", "validation") if has_tests(facts) else ("validation",)
    rows = [
        [title, *(_number(metrics.get(measure_key(part, name)), whole=name == "n") for part in parts)]
        for name, title in _MEASURES
    ]
    if not has_tests(facts):
        known = facts["held_out"].get("known") is True and not facts["held_out"].get("copies")
        first = _UNTESTED if known else _held_out(facts)
        return "\n\n".join([first, *_views(facts), _table(["", "Validation"], rows)])
    interval = facts["test_accuracy_interval"]
    # An older MedVeil did not say how, and counted every image as independent.
    how = facts.get("test_accuracy_interval_note")
    said = (
        f"No interval of the test accuracy: {how or 'there were no test images'}."
        if interval is None
        else f"95 % interval of the test accuracy: {interval[0]:.3f} to {interval[1]:.3f} "
        f"({how or 'Wilson, every image as independent'}). Of the other figures no interval was computed."
    )
    majority = _number(metrics.get(measure_key("test", "majority-rate")))
    base = f"Always naming this site's most frequent test class gives an accuracy of {majority}."
    return "\n\n".join([_held_out(facts), *_views(facts), _table(["", "Test", "Validation"], rows), said, base])


def _views(facts: Mapping[str, Any]) -> list[str]:
    """That answers are means over views, where the run asked for them; nothing of one that did not, or did not know."""
    asked = facts["run_config"].get("predict") or {}
    views = asked.get("views", 1)
    if views == 1:
        return []
    level = _text(asked["augment"])
    return [
        f"Every answer is the mean of {views} views of an image: the image itself and {views - 1} augmented ones, at "
        f"level {level}; the temperature below was fitted on such, and `predict` asks so. Asked about an image alone "
        f"(`--views 1`), the model was not measured."
    ]


def _held_out(facts: Mapping[str, Any]) -> str:
    """On which images the figures were measured; that training did not see them is said where it is known."""
    found = facts.get("held_out")
    measured = "Measured once, when the run ended, on this site's own images"
    if not isinstance(found, Mapping) or not found.get("known"):
        return (
            f"{measured} of the parts for test and validation. Whether the training saw none of them is not known: an "
            "older MedVeil began the run, which wrote down less of what it stood on."
        )
    if found.get("copies"):
        return (
            f"{measured} of the parts for test and validation. Some of them have the very contents of images that were "
            "trained on, so these figures say too much."
        )
    return f"{measured}, which the training did not see: what the run stood on was compared at every round."


def _calibration(facts: Mapping[str, Any]) -> str:
    found = facts["calibration"]
    rows = [
        ["Validation (fitted on these)", _number(found["validation_before"]), _number(found["validation_after"])],
        ["Test", _number(found["test_before"]), _number(found["test_after"])],
    ][: 2 if has_tests(facts) else 1]
    few = "the images are too few, or do not ask for another"
    why = "" if found["temperature"] != 1 else f" It is 1, which changes nothing: {few}."
    fitted = (
        f"Logits are to be divided by the temperature {found['temperature']:.4f} before the softmax (Guo et al., ICML "
        f"2017).{why} It was offered {found['n']} validation images; log T has a normal prior of deviation {PRIOR:g} "
        f"around 0, and fewer than {FEWEST} images, groups counted as one, fit none."
    )
    head = ["Expected calibration error, 15 bins", "Before", "After"]
    parts = [f"{fitted} `predict` of `medveil-site` and `medveil-sim` does so.", _table(head, rows)]
    return "\n\n".join([*parts, *_reliability(found.get("bins", []))])


def _reliability(bins: Sequence[Mapping[str, Any]]) -> list[str]:
    if not bins:
        return []
    rows = [
        [
            f"{each['low']:.1f} to {each['high']:.1f}",
            _count(each["n"], FEWEST_SHOWN),
            *(_number(each[name] if each["n"] >= FEWEST_SHOWN else None) for name in ("confidence", "accuracy")),
        ]
        for each in bins
    ]
    said = "Test images by how sure the calibrated answer is; a bin of few answers says little."
    return [said, _table(["Probability of the class named", "Answers", "Mean", "Right"], rows)]


def _privacy(facts: Mapping[str, Any], domain: str) -> str:
    metrics = facts["metrics"]
    if domain == "hidden":
        first = (
            "**The sealed model is to be guarded like the key**: a stem that reads hidden images can give away the key "
            "that hides them. Only this site's key opens it."
        )
    elif facts["run_config"]["keys"] == "none":
        first = "No key was used in this run."
    else:
        first = "The stem was moved back to plain images; this model holds nothing of the site's key."
    second = (
        "A model can give away images it was trained on (membership inference, inversion). This was not measured for "
        "this model."
    )
    bounded = [bounded_by_noise(facts["privacy"])] if facts.get("privacy") else []
    bounded = [NOT_BOUNDED] if facts.get("uncovered") else bounded
    stolen = [
        f"- {title}: accuracy {_number(metrics.get(measure_key(phase, 'accuracy')))}, "
        f"AUROC {_number(metrics.get(measure_key(phase, 'auroc')))}"
        for phase, title in (
            ("wrong-key", "the site's own model, on images hidden under another key"),
            ("public-stem", "trunk and head behind the public initial stem, on plain images"),
        )
        if measure_key(phase, "accuracy") in metrics
    ]
    worth = ["What a thief without the key gets of it, on the test images:\n\n" + "\n".join(stolen)] if stolen else []
    return "\n\n".join([first, second, read_by_server(facts["run_config"]), *bounded, *worth])


def _limits(facts: Mapping[str, Any]) -> str:
    run, size = facts["run_config"], facts["padded"][0]
    lines = [
        "Trained and measured on the images of few sites; how it does elsewhere is not known.",
        "The figures are this site's alone. Another site's model of this run may have another stem and other figures.",
        "A calibrated probability is right on average over images like the validation images, not for one patient.",
    ]
    if size != run["image_size"]:
        lines.append(
            f"Images were padded right and below from {run['image_size']} to {size} pixels with pseudo-random values "
            "before the model read them; other padding may give other answers."
        )
    if otherwise_of(facts):
        lines.append(f"Asked with a newer MedVeil: {otherwise_of(facts)}.")
    return "\n".join(f"- {line}" for line in lines)


def _cipher(cipher: Mapping[str, Any]) -> str:
    if cipher["scheme"] == "none":
        return "none"
    return f"{cipher['scheme']}, block {cipher['block']}{', negating' if cipher.get('negate') else ''}"


def _and(more: list[str]) -> str:
    return "".join(f", {each}" for each in more)


def _optimiser(train: Mapping[str, Any]) -> str:
    more = [f"{name.replace('_', ' ')} {train[name]}" for name, off in _OFF.items() if train.get(name, off) != off]
    return (
        f"{train['optimizer']}, rate {train['lr']:g}, weight decay {train['weight_decay']:g}, batch "
        f"{train['batch_size']}, {train['epochs']} epoch(s) a round, scope {train['scope']}{_rank(train)}{_and(more)}"
    )


def _rank(train: Mapping[str, Any]) -> str:
    return f" of rank {train['rank']}" if train["scope"] == CORE else ""
