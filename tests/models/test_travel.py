from __future__ import annotations

import pytest
import torch

from medveil.errors import ConfigError, FederationError
from models.policy import POLICIES, Policy
from models.stem import head_names, stem_names, trunk_names
from models.travel import load_tensors, set_trainable, tensors, trainable, travelling
from models.vit import build_vit, model_hash, normalise

SCOPES = ("full", "last-1-block", "last-1-blocks", "last-2-blocks", "head")


@pytest.fixture
def model(tiny):
    return build_vit(tiny(), seed=0)


def shared_part(model, scope):
    """What of trunk and head the scope lets train, said by prefixes."""
    if scope == "full":
        return {*trunk_names(model), *head_names(model)}
    blocks = {"last-2-blocks": ("blocks.0.", "blocks.1."), "head": ()}.get(scope, ("blocks.1.",))
    after = () if scope == "head" else ("norm.", "fc_norm.", "attn_pool.")
    return {name for name in model.state_dict() if name.startswith((*blocks, *after, "head."))}


@pytest.mark.parametrize("scope", SCOPES)
def test_the_table(scope, layout, tiny):
    model = build_vit(tiny(name=layout), seed=0)
    shared, stem = shared_part(model, scope), set(stem_names(model))
    for policy in POLICIES:
        averaged = policy.train == "averaged" and scope == "full"
        trains = averaged or policy.train == "local"
        assert set(travelling(model, policy, scope)) == shared | (stem if averaged else set())
        assert set(trainable(model, policy, scope)) == shared | (stem if trains else set())


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_order_is_the_state_dicts(policy, model):
    order = list(model.state_dict())
    for names in (travelling(model, policy, "full"), trainable(model, policy, "last-1-blocks")):
        assert names == sorted(names, key=order.index)


def test_a_stem_at_home_never_travels(model):
    for policy in POLICIES:
        if policy.train != "averaged":
            for scope in SCOPES:
                assert not set(travelling(model, policy, scope)) & set(stem_names(model))


@pytest.mark.parametrize(
    "scope", ["", "Full", "last-0-blocks", "last-blocks", "last-3-blocks", "last--1-blocks", "stem"]
)
def test_unknown_scopes_are_refused(scope, model):
    with pytest.raises(ConfigError) as caught:
        travelling(model, POLICIES[0], scope)
    assert caught.value.where == "train.scope"
    assert caught.value.cure


def test_gradients_flow_to_what_trains_and_nowhere_else(model, draw_images):
    policy = Policy("per-site", "adapted", "local")
    names = set_trainable(model, policy, "last-1-blocks")
    model(normalise(draw_images(model))).square().sum().backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == set(names) == set(trainable(model, policy, "last-1-blocks"))
    assert set_trainable(model, Policy("none", "public", "averaged"), "full") == list(model.state_dict())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_tensors_are_copies_that_load_back(model, tiny):
    names = travelling(model, POLICIES[0], "full")
    sent = tensors(model, names)
    assert list(sent) == names
    before = model_hash(model)
    sent["head.bias"].add_(1)
    assert model_hash(model) == before
    other = build_vit(tiny(), seed=1)
    load_tensors(other, tensors(model, names), expected=names)
    assert model_hash(other) == before
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in other.parameters())


def change(sent, name, tensor):
    return {**sent, name: tensor}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda sent: change(sent, "head.bias", torch.zeros(4)), "'head.bias' is torch.float32 (4,)"),
        (lambda sent: change(sent, "head.bias", torch.zeros(3).double()), "'head.bias' is torch.float64 (3,)"),
        (lambda sent: change(sent, "head.bias", torch.zeros(1)), "'head.bias' is torch.float32 (1,)"),
        (lambda sent: change(sent, "tail.bias", torch.zeros(3)), "'tail.bias' was not expected"),
        (lambda sent: change(sent, "pos_embed", torch.zeros(1, 65, 48)), "'pos_embed' was not expected"),
        (lambda sent: {name: sent[name] for name in sent if name != "head.bias"}, "'head.bias' is missing"),
        (lambda sent: {}, "is missing (and"),
    ],
)
def test_updates_that_do_not_fit_change_nothing(spoil, says, model):
    names = travelling(model, Policy("per-site", "adapted", "local"), "last-1-blocks")
    sent = {name: tensor + 1 for name, tensor in tensors(model, names).items()}
    before = model_hash(model)
    with pytest.raises(FederationError) as caught:
        load_tensors(model, spoil(sent), expected=names)
    assert says in str(caught.value)
    assert model_hash(model) == before


def test_unknown_names_are_refused_without_a_list_too(model):
    with pytest.raises(FederationError, match="'tail' is unknown to the model"):
        load_tensors(model, {"tail": torch.zeros(1)})
    with pytest.raises(FederationError, match="no tensor 'tail'"):
        tensors(model, ["tail"])
