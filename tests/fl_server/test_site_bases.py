"""A site that stands on other images than it began with does not count, also where it lost what it knew of them."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord

from fl_server.manifest import Manifest
from medveil.contract import BASIS, SITE
from medveil.errors import FederationError

ONE, OTHER = "1" * 64, "2" * 64
NAMED = "its images, labels, groups, split, settings, weights or key are not those it began this run with"


def says(site, *words):
    """Have a site say in each of its replies to `train` and `evaluate` the next of some words."""
    said = iter(words)

    def answer(kind, round_, content):
        word = None if kind == "query" else next(said)
        if word is not None:
            content[SITE] = ConfigRecord({BASIS: word})
        return content

    site.answers = answer


@pytest.mark.parametrize("then", [OTHER, None], ids=["other", "silent"])
def test_a_site_that_comes_back_over_something_else_counts_no_more(make_world, then):
    world = make_world(3, rounds=2)
    says(world.site("site-1"), ONE, ONE, ONE)
    says(world.site("site-2"), ONE, then, then)
    summary = world.federate()
    assert set(summary["sites"]) == {"site-1", "site-3"}
    left = json.loads((world.out / "manifest.json").read_text())["left_out"]
    assert [(each["round"], each["site"]) for each in left] == [(2, "site-2"), (2, "site-2")]
    assert NAMED in left[0]["reason"]
    # Not one figure of what it measured is written down.
    assert {(line["round"], line["phase"]) for line in world.lines() if line["site"] == "site-2"} == {
        (0, "validation"),
        (1, "train"),
    }


def test_a_resumed_run_knows_what_its_sites_began_with(make_world, site_error):
    world = make_world(2, rounds=2)
    says(world.site("site-1"), ONE)
    says(world.site("site-2"), ONE)
    for site in world.sites:
        site.fails = lambda kind, round_: site_error("away") if round_ == 2 else None
    with pytest.raises(FederationError):
        world.federate()
    for site, word in zip(world.sites, (ONE, OTHER), strict=True):
        site.fails = lambda kind, round_: None
        says(site, word, word)
    summary = world.federate(resume=True)
    assert set(summary["sites"]) == {"site-1"}


def test_what_many_sites_stand_on_is_written_once_and_before_one_of_them_counts(make_world, monkeypatch):
    world, written = make_world(9, rounds=1), []
    for site in world.sites:
        says(site, ONE, ONE)
    update = Manifest.update

    def noting(self, **values):
        if "site_bases" in values:
            written.append(
                (sorted(values["site_bases"]), [line["phase"] for line in world.lines() if line["site"] == "all"])
            )
        update(self, **values)

    monkeypatch.setattr(Manifest, "update", noting)
    world.federate()
    assert written == [([f"site-{number}" for number in range(1, 10)], [])]


@pytest.mark.parametrize("word", ["", "1" * 63, "g" * 64, 7, "1" * 4000])
def test_what_is_no_digest_is_refused(make_world, word):
    world = make_world(2, rounds=1)
    says(world.site("site-1"), word, word)
    summary = world.federate()
    assert set(summary["sites"]) == {"site-2"}
    left = json.loads((world.out / "manifest.json").read_text())["left_out"]
    assert "'basis' is" in left[0]["reason"]
    assert len(left[0]["reason"]) < 500


def test_sites_of_an_older_medveil_say_nothing_and_count(make_world):
    summary = make_world(2, rounds=1).federate()
    assert set(summary["sites"]) == {"site-1", "site-2"}
