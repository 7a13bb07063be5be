"""Which stem goes with which keys, and what may leave the site.

A policy is `keys` x `stem.init` x `stem.train`. Nine rows are offered, some with two ways to train:

========  =======  =============  ================================================
keys      init     train          note
========  =======  =============  ================================================
none      public   averaged       plain FedAvg: the baseline
none      public   local          FedPer: the plaintext twin of adapted and local
none      secret   local          shows what secrecy alone gives
shared    public   averaged       the model lives in the cipher's domain, and its
                                  updates give much of the key away
shared    adapted  frozen, local  equals plaintext; the server knows no key
shared    secret   frozen, local  all sites hold one stem, the server none
per-site  public   local          each site's stem learns its own key's domain
per-site  adapted  frozen, local  equals plaintext; each site has its own key
per-site  secret   frozen, local  one trunk must serve unrelated embeddings
========  =======  =============  ================================================

Everything else is refused with its reason. Training on hidden images equals training on plain ones only while no
random mask meets single tokens or features: attention, projection and position dropout, timm's PatchDropout and CutMix
would break it. `ModelConfig` and the training configuration offer none of them, so no policy has to refuse them;
patches that training leaves out are drawn in the order of the plain image (`models.patches`).

The equality is exact for schemes that a stem follows by a signed permutation. For orthogonal matrices it holds but for
rounding: with a frozen stem under any optimiser, with a local one under SGD, because Adam steps axis by axis.

FedPer is Arivazhagan et al., "Federated Learning with Personalization Layers", 2019, with the first layers at home in
place of the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medveil.errors import PolicyError

KEYS = ("none", "shared", "per-site")
INITS = ("public", "adapted", "secret")
TRAINS = ("averaged", "local", "frozen")
SIGNED_PERMUTATION = "signed-permutation"
ORTHOGONAL = "orthogonal"
FOLLOWED = (SIGNED_PERMUTATION, ORTHOGONAL)
"""Ways of hiding that a stem can follow; see `models.stem`."""


@dataclass(frozen=True)
class Policy:
    """Who holds which key, how a stem starts, and where it trains."""

    keys: str
    init: str
    train: str

    @property
    def note(self) -> str:
        """One clause for tables."""
        return _NOTES[self]

    @property
    def warning(self) -> str | None:
        """What whoever chooses the policy must know beforehand, as a sentence; None where there is no such thing."""
        return _WARNINGS.get(self)

    @property
    def twin(self) -> Policy | None:
        """The plaintext policy whose training this one equals, or None where the table has none; see the module."""
        if self.keys == "none":
            return self
        if self.init == "adapted" and self.train == "local":
            return Policy("none", "public", "local")
        return None

    @property
    def stem_travels(self) -> bool:
        """Whether the stem is part of what sites send."""
        return self.train == "averaged"

    def __str__(self) -> str:
        return f"{self.keys} + {self.init} + {self.train}"


_NOTES = {
    Policy("none", "public", "averaged"): "plain FedAvg: the baseline",
    Policy("none", "public", "local"): "FedPer on plaintext: the twin of adapted + local",
    Policy("none", "secret", "local"): "shows what secrecy alone gives",
    Policy("shared", "public", "averaged"): "the model lives in the cipher's domain; updates give much of the key away",
    Policy("shared", "adapted", "frozen"): "one key; equals plaintext with a frozen stem",
    Policy("shared", "adapted", "local"): "one key; equals plaintext FedPer",
    Policy("shared", "secret", "frozen"): "all sites hold one stem, the server none",
    Policy("shared", "secret", "local"): "all sites start from one stem, the server has none",
    Policy("per-site", "public", "local"): "each site's stem learns its own key's domain",
    Policy("per-site", "adapted", "frozen"): "a key per site; equals plaintext with a frozen stem",
    Policy("per-site", "adapted", "local"): "a key per site; equals plaintext FedPer",
    Policy("per-site", "secret", "frozen"): "one trunk serves unrelated, fixed embeddings",
    Policy("per-site", "secret", "local"): "one trunk serves unrelated embeddings that learn",
}
_WARNINGS = {
    Policy("shared", "public", "averaged"): (
        "the stem travels and learns images in the key's order: from its updates alone, without any image, 78 % of "
        "in-block places were found within one pixel (chance 12 %, one trial of ours). Updates and checkpoints of this "
        "policy are key material"
    ),
}
POLICIES: tuple[Policy, ...] = tuple(_NOTES)
"""All policies offered, in the order of the table."""

_REASONS: tuple[tuple[Callable[[Policy], bool], str, str], ...] = (
    (
        lambda policy: policy.init == "adapted" and policy.train == "averaged",
        "an adapted stem that travels publishes the key: its columns and rows match the public weights",
        "set stem.train to local or frozen",
    ),
    (
        lambda policy: policy.init == "secret" and policy.train == "averaged",
        "a secret stem that travels is no secret",
        "set stem.train to local or frozen",
    ),
    (
        lambda policy: policy.keys == "none" and policy.init == "adapted",
        "without a key there is nothing to adapt to",
        "set stem.init to public",
    ),
    (
        lambda policy: policy.keys == "per-site" and policy.train == "averaged",
        "each site's stem belongs to its own key's domain, and a mean of them to none",
        "set stem.train to local",
    ),
    (
        lambda policy: policy.keys != "none" and policy.train == "frozen",
        "a public stem that never trains never fits hidden images",
        "set stem.init to adapted",
    ),
    (
        lambda policy: policy.keys == "shared",
        "sites with one key share one domain, so a public stem is learned together",
        "set stem.train to averaged, or stem.init to adapted to keep the stem at home",
    ),
    (
        lambda _: True,
        "a stem that never trains only costs accuracy where nothing is hidden",
        "set stem.train to local, or train.scope to head or last-n-blocks to keep a public stem fixed",
    ),
)


def resolve_policy(keys: str, init: str | None = None, train: str | None = None) -> Policy:
    """Fill what is unset and check the result.

    An unset stem follows the keys: `none` and `shared` give public and averaged, `per-site` gives adapted and local.
    With only `init` set, `train` is averaged where a public stem may be, and local otherwise.

    Raises
    ------
    PolicyError
        A word is unknown, or the combination is not offered; the reason is given.
    """
    if init is None:
        init = "adapted" if keys == "per-site" else "public"
    if train is None:
        train = "averaged" if init == "public" and keys != "per-site" else "local"
    policy = Policy(keys, init, train)
    _check_offered(policy)
    return policy


def check_policy(policy: Policy, *, scheme: str, stem_rule: str | None) -> None:
    """Refuse a policy that would publish a key or cannot work with a cipher scheme.

    Parameters
    ----------
    policy
        The policy.
    scheme
        Name of the cipher scheme; ``"none"`` hides nothing.
    stem_rule
        How a stem follows the scheme's key: ``"signed-permutation"``, ``"orthogonal"``, ``"identity"``, or None where
        there is no way.

    Raises
    ------
    PolicyError
        With the reason and what would be right.
    """
    _check_offered(policy)
    if policy.keys == "none" and scheme != "none":
        raise _refusal(policy, f"scheme '{scheme}' needs a key", "set keys.policy to shared or per-site")
    if policy.keys != "none" and scheme == "none":
        cure = "set keys.policy to none, or choose a cipher.scheme"
        raise _refusal(policy, "scheme 'none' hides nothing a key could open", cure)
    if policy.init == "adapted" and stem_rule not in FOLLOWED:
        raise _refusal(
            policy,
            f"no stem can follow the key of scheme '{scheme}': a patch embedding treats all blocks alike, and the "
            "scheme does not",
            "set stem.init to public or secret, or cipher.scheme to block-pixel or orthogonal",
        )


def _check_offered(policy: Policy) -> None:
    for value, allowed, name in (
        (policy.keys, KEYS, "keys.policy"),
        (policy.init, INITS, "stem.init"),
        (policy.train, TRAINS, "stem.train"),
    ):
        if value not in allowed:
            raise PolicyError(f"is '{value}'", where=name, cure=f"one of {', '.join(allowed)}")
    if policy not in _NOTES:
        raise _refusal(policy, *_why_not(policy))


def _why_not(policy: Policy) -> tuple[str, str]:
    """The first reason that holds against a policy outside the table, and what would be right."""
    return next((problem, cure) for holds, problem, cure in _REASONS if holds(policy))


def _refusal(policy: Policy, problem: str, cure: str) -> PolicyError:
    return PolicyError(problem, where=f"policy {policy}", cure=cure)
