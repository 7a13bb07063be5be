"""Which images a kept model reads, and when it may leave as a model of plain images.

A stem in a key's domain can be moved back by the key (`models.stem.restore`). Whether what then lies open is safe is
another matter, and follows from where the stem began:

- *adapted*: it began as the public stem moved by the key; moved back, it is what training on plain images gives, and
  holds nothing of the key. This is the one that is restored. (Not under ``orthogonal`` where Adam trained it: its steps
  are taken along the axes of the key's matrix, so what it learned shows them.)
- *public* under a key: it began unmoved and learned hidden images. Moved back, its columns are the public ones in the
  key's order, and matching the two gives the key.
- *secret*: it is what keeps a server from matching the updates it was sent. Open in any domain, they could be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from crypto.base import ImageCipher
from crypto.cipher import make_cipher
from crypto.config import config_of_run
from crypto.keys import Key
from fl_client.export.kept import KeptModel
from medveil.config import from_mapping
from medveil.errors import KeyMaterialError, PolicyError
from models.config import ModelConfig
from models.policy import ORTHOGONAL, Policy
from models.stem import restore, unrotate
from models.travel import load_tensors
from models.vit import build_vit

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_SEALED = "--hidden exports it sealed, for use with the key"


class Ring(Protocol):
    """Keys that open what was hidden or sealed under them: a `crypto.keyring.Keyring`, or a simulated site's key."""

    def __iter__(self) -> Iterator[Key]:
        """The keys, newest first."""

    def find(self, fingerprint: str) -> Key:
        """The key of a fingerprint (KeyMaterialError where it is none of them)."""


class Keys(Protocol):
    """The keys of a site: its own, and the one all sites hold, if it has that."""

    @property
    def own(self) -> Ring:
        """Its own."""

    @property
    def shared(self) -> Ring | None:
        """That of all sites."""


def model_of(kept: KeptModel) -> VisionTransformer:
    """The kept model as it is, float32, on the CPU, in evaluation mode; it needs no weights file."""
    run = kept.run
    values = {**run.model, "pretrained": "false", "init": "default", "mean": None, "std": None}
    values |= {"channels": run.channels, "classes": len(run.classes), "image_size": kept.facts["padded"][0]}
    model = build_vit(from_mapping(ModelConfig, values, where="model"), seed=0)
    bias = kept.tensors.get("patch_embed.proj.bias")
    if bias is not None and model.patch_embed.proj.bias is None:
        # Folding a checkpoint's mean into the patch embedding made it.
        model.patch_embed.proj.bias = nn.Parameter(torch.zeros_like(bias))
    load_tensors(model, kept.tensors, expected=model.state_dict())
    return model.eval()


def cipher_of(kept: KeptModel, keys: Keys) -> ImageCipher:
    """The cipher of the images a kept model reads (KeyMaterialError where the site no longer holds its key)."""
    run = kept.run
    key = key_of(run.keys, kept.facts["fingerprint"], keys)
    return make_cipher(
        config_of_run(run.cipher), key, channels=run.channels, height=run.image_size, width=run.image_size
    )


def key_of(policy: str, fingerprint: str, keys: Keys) -> Key | None:
    """The site's key of a fingerprint, by who holds the run's keys; None where there are none.

    Raises
    ------
    KeyMaterialError
        The site does not hold it, or no longer.
    """
    if policy == "none":
        return None
    ring = keys.own if policy == "per-site" else keys.shared
    if ring is None:
        cure = "set 'shared_key' to its file"
        raise KeyMaterialError(f"is of a run with the shared key {fingerprint}", cure=cure)
    return ring.find(fingerprint)


def check_restorable(kept: KeptModel) -> None:
    """Refuse to lay open what would give away more than a model; see the module.

    Raises
    ------
    PolicyError
        With the reason.
    """
    run = kept.run
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    problem = _why_not(policy, kept)
    if problem is not None:
        raise PolicyError(problem, where=f"policy {policy}", cure=_SEALED)


def restored(kept: KeptModel, cipher: ImageCipher) -> VisionTransformer:
    """The model moved to plain images: its logits on them are the kept model's on their ciphertexts.

    Raises
    ------
    PolicyError
        As `check_restorable`.
    """
    check_restorable(kept)
    model = model_of(kept)
    if kept.run.keys == "none":
        return model
    if cipher.stem_rule == ORTHOGONAL:
        turn = cipher.stem_rotation()
        unrotate(model, matrix=turn.matrix, pi=turn.pi)
    else:
        moves = cipher.stem_permutation()
        restore(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)
    return model


def _why_not(policy: Policy, kept: KeptModel) -> str | None:
    if policy.init == "secret":
        return "its stem was drawn in secret, and whoever has it can match the updates a server was sent"
    if kept.facts["hidden_source"] is not None:
        fingerprint = kept.facts["hidden_source"]["fingerprint"]
        return f"it learned images another party hid under {fingerprint}, and no key here moves it to plain ones"
    if policy.keys == "none":
        return None
    if policy.init == "public":
        return "its stem began public and learned hidden images: moved to plain ones it would give the key away"
    if kept.facts["stem_rule"] == ORTHOGONAL and policy.train == "local" and kept.run.train["optimizer"] != "sgd":
        return "Adam trained its stem along the axes of the key's matrix, and what it learned shows them"
    return None
