"""What a page says of one run: what was run, how it ended, what it came to, and what nobody would expect of it."""

from __future__ import annotations

from collections.abc import Sequence

from medveil.personal import DITTO
from medveil.personal import in_words as personal
from medveil.recipes import NONE, RECIPES, overridden
from models.described import SIZES, in_words
from simulations.baselines.names import TEXTS
from simulations.near import near_of
from simulations.report.record import RunRecord, number, section
from simulations.report.words import interval, listed, partial, plain, score, seconds

_STATUS = {
    "finished": "Finished.",
    "stopped-early": "Stopped early: validation no longer improved.",
    "running": "Not finished: the run is still going, or was killed without a word. Below is what it had written.",
    "failed": "Failed. Below is what it had written until then.",
    "interrupted": "Interrupted. Below is what it had written until then; --resume goes on from the last round.",
}


def model(run: RunRecord) -> str:
    """Architecture, sizes and parameters; of a run that did not write them down, what its configuration says."""
    found = section(run.manifest, "model")
    if baseline(run):
        return baseline(run)
    if isinstance(found.get("name"), str) and all(number(found.get(each)) for each in (*SIZES, "patch", "parameters")):
        return in_words({**found, "named": section(found, "named")})
    asked = section(run.run_config, "model")
    sizes = [f"{each} {plain(asked[each])}" for each in SIZES if asked.get(each) is not None]
    return ", ".join([plain(asked.get("name")), *sizes])


def baseline(run: RunRecord) -> str:
    """What the baseline of a run is; empty where it is none."""
    return TEXTS.get(str(run.experiment.get("federation")), "")


def status(run: RunRecord) -> str:
    """How the run ended."""
    return _STATUS.get(run.status, f"Status: {run.status}.")


def absent(run: RunRecord, missing: Sequence[str]) -> str:
    """A sentence about sections that a page has not, and why; empty where all are there."""
    if not missing:
        return ""
    named = listed(missing)
    if run.experiment:
        why = "the run was not asked for it, or has not come that far"
    else:
        why = "test images, answers and pictures stay with the sites, and a server has none of them"
    return f"Not on this page: {named}; {why}."


def why_not_every_site(run: RunRecord) -> str:
    """Why the mean of a measure may rest on fewer sites than took part."""
    undefined = "A measure is undefined at a site whose test images are of one class"
    if run.experiment:
        return f"{undefined}."
    return f"{undefined}, and a site withholds what few images would show (its limits.smallest_count)."


def counted(run: RunRecord) -> str:
    """How the sites counted the images they told of; empty where they told all."""
    if run.experiment:
        return ""
    return "A site rounds numbers of images down to a multiple of its limits.smallest_count, by class."


def course(run: RunRecord) -> list[tuple[str, str]]:
    """What a reader would not expect of a run: which model it left, and what came in its way."""
    rows, times = run.manifest.get("left_out"), run.manifest.get("resumed")
    made = [*_recipe(run), *_personal(run), *_masked(run), *_kept(run), *_lengthened(run), *_near(run), *_spent(run)]
    if isinstance(rows, list) and rows:
        made.append(("updates left out", f"{len(rows)}"))
    if isinstance(times, list) and times:
        made.append(("resumed", "once" if len(times) == 1 else f"{len(times)} times"))
    return made


def _masked(run: RunRecord) -> list[tuple[str, str]]:
    """That updates were summed under masks, in how many bits, and how many were scaled down."""
    said = section(run.run_config, "secagg") | section(run.summary, "secagg")
    if baseline(run) or said.get("on") is not True:
        return []
    bits, clip, clipped, updates = (plain(said.get(name)) for name in ("bits", "clip", "clipped", "updates"))
    return [("updates", f"masked in {bits} bits, {clipped} of {updates} scaled to the norm {clip}")]


def _recipe(run: RunRecord) -> list[tuple[str, str]]:
    """The recipe of a run, and what of it the run has otherwise."""
    name = section(run.run_config, "train").get("recipe")
    if baseline(run) or not isinstance(name, str) or name not in RECIPES or name == NONE:
        return []
    other = overridden(name, run.run_config)
    return [("recipe", f"{name}, but for {', '.join(other)}" if other else name)]


def _personal(run: RunRecord) -> list[tuple[str, str]]:
    """What each site has for itself, and so whose model the measures are."""
    train = section(run.run_config, "train")
    own = None if baseline(run) else personal(str(train.get("personal")))
    if own is None:
        return []
    noise = section(run.run_config, "privacy").get("unit", NONE) != NONE
    whose = (
        "of the shared model, which noise covers" if noise and train["personal"] == DITTO else "of each site's model"
    )
    return [("each site's own", f"{own}; measures are {whose}")]


def _kept(run: RunRecord) -> list[tuple[str, str]]:
    kept = section(run.summary, "kept")
    by, value = kept.get("by"), number(kept.get("value"))
    if by is None:
        last = plain(kept.get("round"))
        return [("model left", f"that of the last round, {last} (server.keep=last)")] if kept else []
    at = "" if value is None else f" {value:.3f}"
    return [("model left", f"that of round {plain(kept.get('round'))}: best validation {plain(by)}{at}")]


def _near(run: RunRecord) -> list[tuple[str, str]]:
    near = near_of(run.summary or {})
    return [] if near is None else [("near duplicates", str(near))]


def _spent(run: RunRecord) -> list[tuple[str, str]]:
    found, spent = section(run.summary, "baseline"), section(run.summary, "cpu_seconds")
    # A baseline of an older MedVeil says it in its own place.
    whole = number(spent.get("all")) or number(found.get("cpu_seconds"))
    trained = number(spent.get("training"))
    of_rounds = f", {seconds(trained)} of it in training rounds" if trained else ""
    chosen = [("chosen by validation images", plain(found["chosen"]))] if found.get("chosen") else []
    return [*([] if whole is None else [("processor time", f"{seconds(whole)}{of_rounds}")]), *chosen]


def _lengthened(run: RunRecord) -> list[tuple[str, str]]:
    rows = run.manifest.get("lengthened")
    said = [
        f"{plain(each.get('from'))} to {plain(each.get('to'))}"
        for each in (rows if isinstance(rows, list) else [])
        if isinstance(each, dict)
    ]
    return [("made longer", f"{', '.join(said)} rounds; each round kept the schedule it had")] if said else []


def headline(run: RunRecord) -> str:
    """The run and its result in a sentence or two."""
    if baseline(run):
        what = baseline(run)
        where = "plain images, those of all hospitals in one place"
        return f"A baseline: {what}, on {where}, tested at each hospital{_result(run)}"
    return f"{_who(run)} {_how(run)}{_result(run)}"


def _who(run: RunRecord) -> str:
    sites = len(section(run.summary, "sites")) or len(run.manifest.get("sites") or []) or len(run.curve_sites)
    many = "One hospital" if sites == 1 else f"{sites} hospitals" if sites else "Hospitals"
    federation = run.experiment.get("federation", "federated")
    if federation == "centralised":
        return "All images in one place"
    return f"{many}, each alone," if federation == "local-only" else many


def _how(run: RunRecord) -> str:
    config = run.run_config
    model = section(config, "model").get("name", "a Vision Transformer")
    scheme = section(config, "cipher").get("scheme", "none")
    rounds = number((run.summary or {}).get("rounds")) or number(config.get("rounds"))
    length = "" if rounds is None else f" for {rounds:.0f} round{'' if rounds == 1 else 's'}"
    if config.get("keys") in {None, "none"}:
        hidden = _without_a_key(run)
    else:
        holder = "one key for all sites" if config.get("keys") == "shared" else "a key per site"
        hidden = (
            f"on images hidden with {scheme} ({holder}, stem {config.get('stem_init')}, {config.get('stem_train')})"
        )
    if run.evaluated is not None:
        verb = "measured" if run.summary is not None else "were to measure"
        return f"{verb} {model} on {run.evaluated.in_words}, and nothing trained, {hidden}"
    verb = "trained" if run.summary is not None else "were to train"
    return f"{verb} {model}{length} {hidden}"


def _without_a_key(run: RunRecord) -> str:
    """What a run knows of images that it hid under no key of its own; a server does not know how sites have theirs."""
    if section(run.experiment, "data").get("source") == "hidden":
        return "on images that another party had hidden"
    return "on images that were not hidden" if run.experiment else "on images that no key of this run hid"


def _result(run: RunRecord) -> str:
    if run.summary is None:
        return "."
    if run.pixels:
        told = number(run.summary.get("loss"))
        return f", to tell pixels that were left out{'' if told is None else f': loss {told:.4f} on test images'}."
    bounds = section(run.summary, "intervals")
    parts = [
        " ".join(filter(None, (name, score(run.summary.get(key)), interval(bounds.get(key)), _caveat(run, key))))
        for name, key in (("test accuracy" if run.evaluated is None else "accuracy", "accuracy"), ("AUROC", "auroc"))
        if number(run.summary.get(key)) is not None
    ]
    pooled = number(section(section(run.summary, "pooled"), "auroc").get("value"))
    if pooled is not None and _caveat(run, "auroc"):
        parts.append(f"AUROC over all images {score(pooled)}")
    if not parts:
        return "; no test result."
    majority = number(run.summary.get("majority_rate"))
    beside = "" if majority is None else f" Always answering a site's most common class would score {majority:.3f}."
    return f": {', '.join(parts)}.{beside}"


def _caveat(run: RunRecord, metric: str) -> str:
    said = partial(section(section(run.summary, "rests_on"), metric))
    return f"(mean of {said})" if said else ""


def thief(run: RunRecord) -> list[str]:
    """What the thief table means, one sentence for each way of using a stolen model."""
    found = section(run.summary, "thief")
    owner = number(section(found, "owner").get("auroc"))
    bounds = section(run.summary, "intervals").get("auroc")
    if bounds is None:
        bounds = section(section(run.summary, "pooled"), "auroc").get("interval")
    lowest = number(bounds[0]) if isinstance(bounds, list) and bounds else owner
    if owner is None:
        return []
    if lowest is None or lowest <= 0.5:
        return [f"The owner's own AUROC, {owner:.3f}, cannot be told from chance, so nothing follows from the others."]
    said = []
    for key, what in (
        ("wrong_key", "The whole stolen model on images hidden under a wrong key"),
        ("public_stem", "The stolen trunk and head behind the public initial stem, on plain images"),
    ):
        value = number(section(found, key).get("auroc"))
        if value is not None:
            share = 100 * max(0.0, (value - 0.5) / (owner - 0.5))
            kept = f"which is {share:.0f} % of what the owner's {owner:.3f} has above chance"
            said.append(f"{what}: AUROC {value:.3f}, {kept}.")
    if said:
        said.append("These are two simple uses, not the best that someone with the model could do.")
    return said
