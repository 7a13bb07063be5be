from __future__ import annotations

import pytest
from flwr.serverapp import strategy as flower

from fl_server.config import STRATEGIES, ServerConfig
from fl_server.strategies import RULES, fit_to, make_strategy, sampled, too_few
from medveil.errors import ConfigError


def sites(n):
    return {100 + index: f"site-{index}" for index in range(n)}


def test_every_name_of_the_configuration_has_a_rule():
    assert tuple(RULES) == STRATEGIES


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fedavg", flower.FedAvg),
        ("fedprox", flower.FedProx),
        ("fedavgm", flower.FedAvgM),
        ("fedadam", flower.FedAdam),
        ("fedyogi", flower.FedYogi),
        ("fedadagrad", flower.FedAdagrad),
        ("qfedavg", flower.QFedAvg),
        ("fedmedian", flower.FedMedian),
        ("fedtrimmedavg", flower.FedTrimmedAvg),
        ("krum", flower.Krum),
        ("multikrum", flower.MultiKrum),
        ("bulyan", flower.Bulyan),
    ],
)
def test_strategies_are_flowers_own(name, kind):
    assert type(make_strategy(ServerConfig(strategy=name), sites(7))) is kind


@pytest.mark.parametrize(
    ("server", "enough"),
    [
        ({"strategy": "fedavg"}, 1),
        ({"strategy": "fedprox"}, 1),
        ({"strategy": "fedadam"}, 1),
        ({"strategy": "local-only"}, 1),
        ({"strategy": "fedmedian"}, 3),
        ({"strategy": "fedtrimmedavg", "trim": 0.2}, 5),
        ({"strategy": "fedtrimmedavg", "trim": 0.34}, 3),
        ({"strategy": "krum", "malicious": 0}, 3),
        ({"strategy": "krum", "malicious": 1}, 5),
        ({"strategy": "krum", "malicious": 2}, 7),
        ({"strategy": "multikrum", "malicious": 2}, 7),
        ({"strategy": "bulyan", "malicious": 1}, 7),
        ({"strategy": "bulyan", "malicious": 2}, 11),
        ({"strategy": "fedavg", "min_updates": 4}, 4),
    ],
)
def test_each_guarantee_begins_at_its_number_of_sites(server, enough):
    config = ServerConfig(**server)
    config.check()
    make_strategy(config, sites(enough))
    if enough > 1:
        with pytest.raises(ConfigError, match=rf"'{config.strategy}' needs .*{enough - 1}"):
            make_strategy(config, sites(enough - 1))


@pytest.mark.parametrize(
    ("strategy", "formula"),
    [
        ("krum", r"n >= 2 f \+ 3 = 5 for f = 1"),
        ("multikrum", r"n >= 2 f \+ 3 = 5 for f = 1"),
        ("bulyan", r"n >= 4 f \+ 3 = 7 for f = 1"),
        ("fedmedian", r"n >= 3"),
        ("fedtrimmedavg", r"1 <= floor\(trim \* n\) < n / 2; here floor\(0.2 \* 2\) = 0"),
    ],
)
def test_the_refusal_carries_the_formula(strategy, formula):
    with pytest.raises(ConfigError, match=formula):
        make_strategy(ServerConfig(strategy=strategy), sites(2))


def test_the_guarantee_is_of_the_sites_that_train_in_a_round():
    config = ServerConfig(strategy="krum", fraction=0.5)
    assert sampled(config, 8) == 4 and too_few(config, 4)
    with pytest.raises(ConfigError, match=r"0.5 of 8 sites"):
        make_strategy(config, sites(8))
    make_strategy(config, sites(10))


def test_multikrum_selects_as_many_as_it_can_vouch_for():
    strategy = make_strategy(ServerConfig(strategy="multikrum", malicious=1), sites(7))
    for n, selected in ((7, 4), (6, 3), (5, 2)):
        fit_to(strategy, n)
        assert strategy.num_nodes_to_select == selected
    krum = make_strategy(ServerConfig(strategy="krum", malicious=1), sites(7))
    fit_to(krum, 7)
    assert krum.num_nodes_to_select == 1


def test_qfedavg_needs_sites_that_trust_each_other():
    with pytest.raises(ConfigError, match="weighs by the loss that a site declares; most_share=1"):
        ServerConfig(strategy="qfedavg").check()
    ServerConfig(strategy="qfedavg", most_share=1.0).check()


def test_what_each_strategy_is_told_reaches_flowers_own():
    made = make_strategy(ServerConfig(strategy="fedavgm", momentum=0.7, momentum_lr=0.5), sites(2))
    assert (made.server_momentum, made.server_learning_rate) == (0.7, 0.5)
    made = make_strategy(ServerConfig(strategy="fedyogi", server_lr=0.03, beta_1=0.8, beta_2=0.95, tau=0.01), sites(2))
    assert (made.eta, made.beta_1, made.beta_2, made.tau) == (0.03, 0.8, 0.95, 0.01)
    made = make_strategy(ServerConfig(strategy="qfedavg", q=0.5, client_lr=0.02), sites(2))
    assert (made.q, made.client_learning_rate) == (0.5, 0.02)
