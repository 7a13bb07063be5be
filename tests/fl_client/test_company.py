"""A site counts, by signatures it checked, with whom it trains, and refuses to be most of what is made of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fl_client.deployment.company import Company
from fl_client.deployment.config import SiteConfig
from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.roster import ApprovedRoster
from medveil.contract import RunConfig
from medveil.errors import ConfigError, FederationError, IntegrityError
from medveil.secagg.members import Join, join, members_record
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

NAMES = ("st-anna", "mercy", "grace", "hope")
KEYS = {name: SigningKey.from_secret(bytes([i]) * 32) for i, name in enumerate(NAMES, 1)}
ROSTER = Roster({name: key.public for name, key in KEYS.items()})
RUN = RunConfig(run="0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab")


def company(folder: Path, *, approved: Roster | None = ROSTER, **limits: Any) -> Company:
    config = SiteConfig(name="st-anna", limits=LimitsConfig(**{"least_sites": 3, **limits}))
    files = OwnFiles(config, folder / "site.yaml")
    if approved is not None:
        ApprovedRoster(files.roster).approve(
            approved, approved.fingerprint, site="st-anna", identity=KEYS["st-anna"].public
        )
    return Company(files, KEYS["st-anna"])


def joined(name: str, examples: int = 20, **changes: Any) -> Join:
    return join(KEYS[name], **{"run": RUN.run, "roster": ROSTER, "name": name, "examples": examples, **changes})


def refused(found: Company, *joins: Join) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        found.check(RUN, members_record(joins))
    return error.value


def test_a_site_trains_with_as_many_as_it_could_check(tmp_path: Path) -> None:
    own = company(tmp_path)
    ours = own.joining(RUN, 20)
    assert ours == joined("st-anna")
    own.check(RUN, members_record([ours, joined("mercy"), joined("grace")]))
    error = refused(own, ours, joined("mercy"))
    assert error.where == "limits.least_sites"
    assert "could check the signatures of 2, and wants 3" in error.problem
    with pytest.raises(ConfigError, match="signatures of 0,"):
        own.check(RUN, None)


@pytest.mark.parametrize(
    "odd",
    [
        replace(joined("grace"), examples=10),
        replace(joined("grace"), name="hope"),
        joined("grace", run="another"),
        joined("grace", roster=replace(ROSTER, colluding=2)),
        join(SigningKey.generate(), run=RUN.run, roster=ROSTER, name="eve", examples=20),
        join(SigningKey.generate(), run=RUN.run, roster=ROSTER, name="grace", examples=20),
    ],
)
def test_whom_a_server_adds_or_changes_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, odd: Join
) -> None:
    own = company(tmp_path)
    with caplog.at_level("WARNING", logger="medveil.site"):
        error = refused(own, joined("st-anna"), joined("mercy"), odd)
    assert error.where == "limits.least_sites"
    assert f"not counted: {odd.name}" in caplog.text
    own.check(RUN, members_record([joined("st-anna"), joined("mercy"), joined("hope"), replace(odd, name="grace")]))


def test_a_site_that_is_left_out_itself_does_not_train(tmp_path: Path) -> None:
    error = refused(company(tmp_path), joined("mercy"), joined("grace"), joined("hope"))
    assert "its own among them" in error.problem


def test_a_site_that_would_dominate_does_not_train(tmp_path: Path) -> None:
    own = company(tmp_path)
    own.check(RUN, members_record([joined("st-anna", 40), joined("mercy"), joined("grace")]))
    error = refused(own, joined("st-anna", 41), joined("mercy"), joined("grace"))
    assert error.where == "limits.most_share"
    assert "more of the sum than its limit of 0.5" in error.problem
    # What nobody signed makes no site smaller.
    forged = replace(joined("hope"), examples=10**6)
    assert refused(own, joined("st-anna", 41), joined("mercy"), joined("grace"), forged).where == "limits.most_share"
    company(tmp_path, most_share=0.51).check(
        RUN, members_record([joined("st-anna", 41), joined("mercy"), joined("grace")])
    )


def test_without_a_roster_nothing_is_signed_and_nothing_counted(tmp_path: Path) -> None:
    own = company(tmp_path, approved=None)
    assert own.joining(RUN, 20) is None
    own.check(RUN, None)
    own.check(RUN, {"odd": 1})


def test_a_site_that_wants_a_roster_trains_in_no_run_without(tmp_path: Path) -> None:
    error = refused(company(tmp_path, approved=None, roster=True), *map(joined, NAMES))
    assert error.where == "limits.roster"
    company(tmp_path, roster=True).check(RUN, members_record(map(joined, NAMES)))


def test_a_server_cannot_send_just_anything(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="record 'members' is not what it should be"):
        company(tmp_path).check(RUN, {"site": ["st-anna"]})


def test_a_roster_that_is_withdrawn_or_damaged_counts_at_once(tmp_path: Path) -> None:
    own = company(tmp_path)
    path = tmp_path / "state" / "roster.json"
    path.write_text(path.read_text().replace('"colluding": 1', '"colluding": 0'))
    with pytest.raises(IntegrityError, match="holds another roster than was approved"):
        own.check(RUN, None)
    with pytest.raises(IntegrityError, match="holds another roster than was approved"):
        own.joining(RUN, 20)
    path.unlink()
    own.check(RUN, None)
