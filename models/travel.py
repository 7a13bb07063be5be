"""What trains at a site and what travels, by policy and scope.

The scope says how much of the *shared* model trains. An averaged stem is the shared model's first layer and obeys it;
a local stem is the site's own and trains at home in every scope; a frozen stem never trains.

=============  =====================================  ===============  ============  ===========
scope          trunk                                  averaged stem    local stem    frozen stem
=============  =====================================  ===============  ============  ===========
full           all of it trains and travels           trains, travels  trains, home  fixed, home
last-n-blocks  last n blocks, norms and pooling       fixed, home      trains, home  fixed, home
               after them train and travel
head           fixed, home                            fixed, home      trains, home  fixed, home
bias           its biases train and travel            fixed, home      trains, home  fixed, home
bias-norm      as bias, with weights of norms and     fixed, home      trains, home  fixed, home
               layer scale
lora-core      a core in each linear layer of the     fixed, home      trains, home  fixed, home
               blocks trains and travels
=============  =====================================  ===============  ============  ===========

The last three scopes are `models.light`'s. The head trains and travels in every scope. What is fixed stays at its
public start, which every site builds from the same configuration, so it need not travel. Norms that a site has for
itself (``train.personal=norms``) train as the table says, and stay at home.

A decoder (`models.autoencoder`) is part of the trunk, but for its tail, which follows the key: it travels with an
averaged stem, and else trains at home.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medveil.errors import ConfigError, FederationError
from medveil.personal import NONE, NORMS
from medveil.training import BIAS, BIAS_NORM, CORE
from models.light import bias_names, core_names, norm_names, scale_names
from models.policy import Policy
from models.stem import head_names, stem_names, stem_that_travels, tail_names, trunk_names

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_LAST = re.compile(r"last-([1-9][0-9]{0,3})-blocks?")
_AFTER_BLOCKS = ("norm.", "attn_pool.", "fc_norm.")
_PARTS = {BIAS: (bias_names,), BIAS_NORM: (bias_names, scale_names), CORE: (core_names,)}


def travelling(model: VisionTransformer, policy: Policy, scope: str, *, personal: str = NONE) -> list[str]:
    """State-dict names that site and server exchange, in state-dict order.

    Parameters
    ----------
    model
        A model of `models.vit.build_vit`, made as its scope wants it (`models.light.lighten`).
    policy
        The key and stem policy.
    scope
        One of the table's, with a number for n: ``"last-2-blocks"``.
    personal
        What each site has for itself (`medveil.personal`): ``norms`` stay at home.

    Raises
    ------
    ConfigError
        The scope is unknown, or asks for more blocks than the model has.
    """
    home = set(norm_names(model)) if personal == NORMS else set()
    return [name for name in _shared(model, policy, scope) if name not in home]


def _shared(model: VisionTransformer, policy: Policy, scope: str) -> list[str]:
    stem = [*stem_that_travels(model), *tail_names(model)] if policy.stem_travels and scope == "full" else []
    return _ordered(model, [*stem, *_trunk(model, scope), *head_names(model)])


def trainable(model: VisionTransformer, policy: Policy, scope: str) -> list[str]:
    """Names of the parameters a site trains, in state-dict order.

    Raises
    ------
    ConfigError
        As for `travelling`.
    """
    at_home = stem_names(model) if policy.train == "local" else []
    # A decoder's tail is thrown away in the end, and trains at home beside a frozen stem too.
    at_home += [] if policy.stem_travels else tail_names(model)
    parameters = {name for name, _ in model.named_parameters()}
    return [name for name in _ordered(model, [*_shared(model, policy, scope), *at_home]) if name in parameters]


def set_trainable(model: VisionTransformer, policy: Policy, scope: str) -> list[str]:
    """Let gradients flow to what `trainable` names and to nothing else; returns those names."""
    names = trainable(model, policy, scope)
    chosen = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return names


def tensors(model: VisionTransformer | Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Copies of named tensors on the CPU, in the order of the names, of a model or of its tensors by name.

    Raises
    ------
    FederationError
        The model has no tensor of a name.
    """
    state = _state(model)
    copies = {}
    for name in names:
        if name not in state:
            raise FederationError(f"the model has no tensor '{name}'")
        copies[name] = state[name].detach().to(device="cpu", copy=True)
    return copies


def load_tensors(
    model: VisionTransformer | Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    *,
    expected: Iterable[str] | None = None,
) -> None:
    """Copy tensors into the model, all of them or, when one does not fit, none.

    Parameters
    ----------
    model
        The model they go into, or its own tensors by name, where they are at hand: a model takes long to list them.
    given
        Tensors by state-dict name.
    expected
        The names that must be given, all of them and no other; None takes any the model has.

    Raises
    ------
    FederationError
        A name is missing or unknown, or a shape or type differs.
    """
    state = _state(model)
    if expected is not None:
        wanted = set(expected)
        _refuse_names(wanted - set(given), "is missing")
        _refuse_names(set(given) - wanted, "was not expected")
    _refuse_names(set(given) - set(state), "is unknown to the model")
    for name, tensor in given.items():
        own = state[name]
        if tensor.shape != own.shape or tensor.dtype != own.dtype:
            raise FederationError(
                f"tensor '{name}' is {tensor.dtype} {tuple(tensor.shape)} where the model has "
                f"{own.dtype} {tuple(own.shape)}"
            )
    with torch.no_grad():
        for name, tensor in given.items():
            state[name].copy_(tensor)


def _state(model: VisionTransformer | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return model if isinstance(model, Mapping) else model.state_dict()


def _refuse_names(names: set[str], problem: str) -> None:
    if names:
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise FederationError(f"tensor '{min(names)}' {problem}{more}")


def _trunk(model: VisionTransformer, scope: str) -> list[str]:
    names = trunk_names(model)
    if scope == "full":
        return names
    if scope == "head":
        return []
    if scope in _PARTS:
        chosen = {name for part in _PARTS[scope] for name in part(model)}
        return [name for name in names if name in chosen]
    found = _LAST.fullmatch(scope)
    if found is None:
        raise ConfigError(
            f"is '{scope}'", where="train.scope", cure=f"full, head, {', '.join(_PARTS)}, or for example last-2-blocks"
        )
    count, depth = int(found.group(1)), len(model.blocks)
    if count > depth:
        raise ConfigError(f"is '{scope}'", where="train.scope", cure=f"the model has {depth} blocks")
    last = tuple(f"blocks.{index}." for index in range(depth - count, depth))
    return [name for name in names if name.startswith((*last, *_AFTER_BLOCKS))]


def _ordered(model: VisionTransformer, names: Iterable[str]) -> list[str]:
    chosen = set(names)
    return [name for name in model.state_dict() if name in chosen]
