from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from fl_server.collect import said
from fl_server.watch import LogWatcher, site_table
from medveil.errors import DataError, FederationError, KeyMaterialError

KEYED = {
    "keys": "per-site",
    "stem_init": "adapted",
    "stem_train": "local",
    "cipher": {"scheme": "block-pixel", "block": 8},
}


def keyed(world, fingerprint=lambda name: f"sim-{name}"):
    for site in world.sites:
        site.row = {"scheme": "block-pixel", "fingerprint": fingerprint(site.name)}


@pytest.mark.parametrize(
    ("field", "found", "text"),
    [
        ("classes", ["ill", "healthy"], r"site-2: 'classes' is \['ill', 'healthy'\]; wanted \['healthy', 'ill'\]"),
        ("model-hash", "00" * 32, r"site-2: 'model-hash' is '0000.*'; wanted '[0-9a-f]{64}'"),
        ("scheme", "aes-ctr", r"site-2: 'scheme' is 'aes-ctr'; wanted 'none'"),
        ("block", 16, r"site-2: 'block' is 16; wanted 8"),
        ("negate", True, r"site-2: 'negate' is True; wanted False"),
        ("fingerprint", "4afe", r"site-2: 'fingerprint' is '4afe'; wanted none with keys 'none'"),
        ("n-train", 0, r"site-2: 'n-train' is 0; wanted at least one image"),
        ("site", "site-1", r"site-1: 'site' is the name of more than one site"),
        ("site", "../up", r"'site' is '../up'; wanted a printable name"),
        ("site", "..", r"'site' is '..'; wanted a printable name"),
        ("site", "all", r"'site' is 'all'; wanted a printable name"),
        ("site", "st\x07anna", r"'site' is 'st\\x07anna'; wanted a printable name"),
        ("site", "", r"'site' is ''; wanted a printable name"),
        ("counts", ["many"], r"site-2: 'counts' is \['many'\]; wanted list\[int\]"),
        ("block", "8", r"site-2: 'block' is '8'; wanted int"),
        ("skipped", -1, r"site-2: 'skipped' is -1; wanted int"),
    ],
)
def test_a_site_that_disagrees_is_refused_by_site_and_field(make_world, field, found, text):
    world = make_world(3)
    world.site("site-2").row = {field: found}
    with pytest.raises(FederationError, match=text):
        world.federate()
    assert {kind for kind, _ in world.grid.sent} == {"query"}


def test_no_site_takes_part_under_anothers_name(make_world):
    world = make_world(3)
    world.grid.registered = {100: "site-1", 101: "st-anna", 102: ""}
    with pytest.raises(FederationError, match="st-anna: 'site' is 'site-2'; wanted 'st-anna', as it was admitted"):
        world.federate()
    world.grid.registered = {100: "site-1", 101: "site-2"}
    again = make_world(3, out="again", rounds=1)
    assert again.federate()["status"] == "finished"


def test_sites_that_disagree_among_themselves_where_the_run_says_nothing(make_world):
    world = make_world(3, cipher={"scheme": "none"})
    world.site("site-3").row = {"block": 4}
    with pytest.raises(FederationError, match="site-3: 'block' is 4; wanted 8 as at site-1"):
        world.federate()


def test_per_site_keys_must_differ(make_world):
    world = make_world(3, rounds=1, **KEYED)
    keyed(world)
    assert world.federate()["status"] == "finished"
    shared = make_world(3, out="shared", **KEYED)
    keyed(shared, lambda name: "4afe" if name != "site-2" else "77aa")
    with pytest.raises(FederationError, match="site-3: 'fingerprint' is '4afe'; wanted another than that of site-1"):
        shared.federate()


def test_shared_keys_must_be_equal(make_world):
    world = make_world(3, **(KEYED | {"keys": "shared"}))
    keyed(world, lambda name: "4afe" if name != "site-2" else "77aa")
    with pytest.raises(FederationError, match="site-2: 'fingerprint' is '77aa'; wanted '4afe' as at site-1 with keys"):
        world.federate()


def test_a_missing_key_is_refused(make_world):
    world = make_world(3, **KEYED)
    keyed(world, lambda name: "" if name == "site-3" else name)
    with pytest.raises(FederationError, match="site-3: 'fingerprint' is empty; wanted a key with keys 'per-site'"):
        world.federate()


def test_a_site_that_says_nothing_of_itself(make_world):
    world = make_world(2)
    site = world.site("site-2")
    site.described = lambda: {"site": "site-2"}
    with pytest.raises(FederationError, match="site-2: 'classes' is None; wanted"):
        world.federate()


def test_too_few_sites_says_how_many_came(make_world):
    world = make_world(4)
    world.grid.offline = {101, 102}
    began = time.monotonic()
    with pytest.raises(
        FederationError,
        match=r"2 of 4 sites came within 0.3 s \(.+, .+\); at least 4 are needed: start the others, then go on",
    ) as caught:
        world.federate()
    assert time.monotonic() - began < 3
    assert caught.value.exit_code == 5


def test_min_sites_lets_a_run_start_with_those_who_came(make_world):
    world = make_world(4, rounds=1)
    world.grid.offline = {101}
    summary = world.federate(min_sites=3)
    assert set(summary["sites"]) == {"site-1", "site-3", "site-4"}


def test_sites_that_all_fail_alike_end_the_run_with_their_kind_of_error(make_world, site_error):
    world = make_world(3)
    for site in world.sites:
        site.fails = lambda kind, _: site_error("DataError: /scans: no images")
    with pytest.raises(
        DataError, match="3 of 3 sites cannot take part: node 100: DataError: /scans: no images"
    ) as caught:
        world.federate()
    assert caught.value.exit_code == 3
    assert world.manifest()["status"] == "failed"


def test_one_site_that_fails_ends_the_run_with_its_kind_of_error(make_world, site_error):
    world = make_world(3)
    world.site("site-2").fails = lambda kind, _: site_error("KeyMaterialError: no key")
    with pytest.raises(KeyMaterialError, match="1 of 3 sites cannot take part: node 101"):
        world.federate()


def test_sites_that_fail_differently_are_a_failed_federation(make_world, site_error):
    world = make_world(3)
    world.site("site-1").fails = lambda kind, _: site_error("KeyMaterialError: no key")
    world.site("site-2").fails = lambda kind, _: site_error("DataError: no data")
    with pytest.raises(FederationError, match="KeyMaterialError: no key; node 101: DataError: no data"):
        world.federate()


def test_an_error_that_is_not_ours_is_a_failed_federation(make_world, site_error):
    world = make_world(2)
    for site in world.sites:
        site.fails = lambda kind, _: site_error("ValueError: see the log of the site")
    with pytest.raises(FederationError, match="ValueError"):
        world.federate()


def test_a_failing_site_is_left_out_where_enough_remain(make_world, site_error):
    world = make_world(4, rounds=1)
    world.site("site-2").fails = lambda kind, _: site_error("DataError: no data")
    summary = world.federate(min_sites=3)
    assert set(summary["sites"]) == {"site-1", "site-3", "site-4"}


def test_a_site_that_never_describes_itself_is_waited_for_no_longer_than_the_deadline(make_world):
    world = make_world(3)
    world.site("site-3").silent = lambda kind, _: True
    with pytest.raises(FederationError, match=r"node 102: no reply within 0.3 s"):
        world.federate(prepare_deadline=0.3)


def test_what_a_site_said_is_cleaned():
    assert said("<class 'fl_client.app.SiteError'>:<'DataError: gone'>") == "DataError: gone"
    assert said("red \x1b[31m text\nin two lines") == "red [31m text in two lines"
    assert len(said("x" * 5000)) < 500
    assert said(None) == "no reason given"


def table_text(world, *, reveal=False):
    rows = []

    class Rows(LogWatcher):
        def sites(self, found):
            rows.extend(found)

    world.federate(watch=Rows())
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(site_table(rows, reveal=reveal))
    return console.export_text()


def test_the_table_shows_counts_and_no_markup_of_the_sites(make_world):
    world = make_world(2, rounds=1, **KEYED)
    keyed(world, lambda name: f"sim-{'0123456789abcdef' * 2}{name}")
    world.site("site-2").row |= {"site": "[red]evil"}
    text = table_text(world)
    assert "[red]evil" in text and "healthy 10, ill 20" in text and "block-pixel 8" in text
    assert "sim-01234567..." in text and "89abcdef" not in text


def test_the_table_reveals_fingerprints_when_asked(make_world):
    world = make_world(2, rounds=1, **KEYED)
    keyed(world, lambda name: f"sim-{'0123456789abcdef' * 2}")
    world.site("site-2").row |= {"fingerprint": "sim-ff"}
    assert "sim-0123456789abcdef0123456789abcdef" in table_text(world, reveal=True)


def test_without_a_terminal_the_table_is_a_log_line_a_site(make_world, caplog):
    world = make_world(2, rounds=1)
    with caplog.at_level("INFO", logger="medveil"):
        world.federate(watch=LogWatcher(console=Console(force_terminal=False, quiet=True)))
    assert any("site site-1, train 10" in record.getMessage() for record in caplog.records)


def test_on_a_terminal_the_table_is_printed(make_world, capsys):
    world = make_world(2, rounds=1)
    world.federate(watch=LogWatcher(console=Console(stderr=True, force_terminal=True, width=160)))
    assert "images per class" in capsys.readouterr().err
