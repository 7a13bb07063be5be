"""What stands in the way of a run with secure aggregation, each refused by name before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fl_server.config import STRATEGIES, ServerConfig, ServerSettings
from fl_server.deployment.consortium import Consortium, load_consortium
from fl_server.deployment.plan import RunFile, make_run
from fl_server.deployment.provision import init, write_roster
from fl_server.deployment.roster import Roster as Admitted
from fl_server.runnable import check_run
from fl_server.secagg.runnable import check_summed
from medveil.config import load_config
from medveil.contract import RunConfig
from medveil.errors import ConfigError, PolicyError
from medveil.node_keys import PublicKey, generate, public_half
from medveil.secagg.config import SecAggConfig
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

IDENTITIES = {f"s{i}": SigningKey.from_secret(bytes([i + 1]) * 32).public for i in range(5)}
ROSTER = Roster(IDENTITIES, 1)
SUMMED = ("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad")
RUN = ["data.classes=[none,mass]", "data.image_size=64", "cipher.block=8", "model.width=96", "model.heads=3"]


def contract(**changes: Any) -> RunConfig:
    secagg = SecAggConfig(**{"on": True, **changes.pop("secagg", {})})
    values = {"run": "u", "classes": ["a", "b"], "kind": "delta", "roster": ROSTER.fingerprint}
    return RunConfig(**{**values, **changes}, secagg=secagg)


def server(**changes: Any) -> ServerConfig:
    return ServerConfig(**{"min_updates": ROSTER.fewest, **changes})


def test_a_run_that_can_be_summed_is_not_refused() -> None:
    for strategy in SUMMED:
        check_summed(contract(), server(strategy=strategy), ROSTER)
    settings = ServerSettings(server=server(), sites=5, roster=ROSTER.as_data())
    assert ServerSettings.from_json(settings.to_json()).summing == ROSTER
    check_run(contract(), settings)


@pytest.mark.parametrize("strategy", sorted({*STRATEGIES} - {*SUMMED}))
def test_a_rule_that_needs_every_update_is_refused_by_name(strategy: str) -> None:
    with pytest.raises(ConfigError, match=rf"server.strategy: is {strategy}, .*one of {', '.join(SUMMED)}"):
        check_summed(contract(), server(strategy=strategy), ROSTER)


@pytest.mark.parametrize(
    ("run", "settings", "says"),
    [
        ({}, {"clip_norm": 1.0}, "server.clip_norm: is 1: it compares single updates"),
        ({}, {"fraction": 0.8}, "server.fraction: is 0.8: .*; 1 with secagg.on"),
        ({}, {"min_updates": 3}, "server.min_updates: is 3, .* fewer than 4 sites; at least 4"),
        ({}, {"monitor": "auroc", "patience": 2}, "server.monitor: is auroc, .*; loss or accuracy"),
        ({"roster": "0" * 64}, {}, "roster: the run names another roster"),
        ({"secagg": {"colluding": 2}}, {}, "secagg.colluding: is 2, and the roster says 1"),
    ],
)
def test_settings_that_would_show_an_update_or_open_nothing(run: dict, settings: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_summed(contract(**run), server(**settings), ROSTER)


def test_a_run_without_a_roster_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"secagg.on: there is no roster.*medveil-server roster"):
        check_run(contract(), ServerSettings(server=server(), sites=5))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "weights"}, "'kind' is not delta.*set kind=delta"),
        ({"secagg": {"bits": 16}}, "'secagg.bits' is out of its range; 24 or 32"),
        ({"secagg": {"clip": 0.0}}, "'secagg.clip' is out of its range"),
        ({"secagg": {"clip": -1.0}}, "'secagg.clip' is out of its range"),
        ({"secagg": {"colluding": -1}}, "'secagg.colluding' is out of its range"),
        ({"roster": "A" * 64}, "'roster' is no digest of a roster; 64 hex digits"),
    ],
)
def test_contracts_that_cannot_be_summed_are_no_contracts(changes: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RunConfig.from_json(contract(**changes).to_json())


def test_a_contract_says_what_is_summed() -> None:
    made = contract(secagg={"bits": 24, "clip": 2.5})
    assert RunConfig.from_json(made.to_json()) == made
    assert not RunConfig(run="u", classes=["a", "b"]).secagg.on


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return init(tmp_path / "consortium.yaml", [])


def test_from_three_sites_a_consortium_sums_over_the_roster_it_wrote(consortium: Consortium, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        admit(consortium, name)
    with pytest.raises(ConfigError, match=r"secagg.on: there is no roster.*medveil-server roster --out FILE"):
        made(consortium)
    roster = write_roster(consortium, tmp_path / "roster.json")
    run, settings = made(consortium)
    assert (run.roster, settings.summing) == (roster.fingerprint, roster)
    assert (run.secagg.on, run.kind, settings.server.min_updates) == (True, "delta", roster.fewest)
    assert RunConfig.from_json(run.to_json()) == run
    admit(consortium, "d")
    with pytest.raises(ConfigError, match="the roster and the sites that are admitted differ in d"):
        made(consortium)


def test_what_a_run_says_itself_is_not_made_fit(consortium: Consortium, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        admit(consortium, name)
    write_roster(consortium, tmp_path / "roster.json")
    with pytest.raises(ConfigError, match=r"server.min_updates: is 2, .* fewer than 3 sites; at least 3"):
        made(consortium, "server.min_updates=2")
    with pytest.raises(ConfigError, match="'kind' is not delta"):
        made(consortium, "kind=weights")
    with pytest.raises(PolicyError, match=r"secagg.on: is false, and this consortium sums .* leave it null, or write"):
        made(consortium, "secagg.on=false")


def test_two_sites_are_told_what_a_sum_takes_and_how_to_do_without(consortium: Consortium) -> None:
    for name in ("a", "b"):
        admit(consortium, name)
    with pytest.raises(ConfigError) as refused:
        made(consortium)
    assert str(refused.value) == (
        "secagg.on: a sum hides a site among 3 or more, and 2 are admitted; admit more, or write 'secagg: false' under "
        f"'policy' in {consortium.file}: then the server reads each site's update"
    )
    # As it says.
    text = consortium.file.read_text()
    assert text.count("  secagg: true\n") == 1
    consortium.file.write_text(text.replace("  secagg: true\n", "  secagg: false\n"))
    run, settings = made(load_consortium(consortium.file))
    assert (run.secagg.on, run.kind, run.roster, settings.server.min_updates) == (False, "weights", "", 2)
    # What shows the server less is nobody's to forbid.
    with pytest.raises(ConfigError, match="2 are admitted"):
        made(load_consortium(consortium.file), "secagg.on=true")


def made(consortium: Consortium, *settings: str) -> tuple[RunConfig, ServerSettings]:
    admitted = len(Admitted(consortium.roster).admitted())
    return make_run(load_config(RunFile, None, [*RUN, *settings]), consortium, admitted=admitted)


def admit(consortium: Consortium, name: str) -> None:
    key = public_half(generate(), name)
    Admitted(consortium.roster, consortium.audit).admit(PublicKey(name, key.encoded, SigningKey.generate().public))
