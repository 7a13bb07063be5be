from __future__ import annotations

import itertools

import pytest

from medveil.errors import PolicyError
from models.policy import INITS, KEYS, POLICIES, TRAINS, Policy, check_policy, resolve_policy

TABLE = {
    ("none", "public"): {"averaged", "local"},
    ("none", "secret"): {"local"},
    ("shared", "public"): {"averaged"},
    ("shared", "adapted"): {"frozen", "local"},
    ("shared", "secret"): {"frozen", "local"},
    ("per-site", "public"): {"local"},
    ("per-site", "adapted"): {"frozen", "local"},
    ("per-site", "secret"): {"frozen", "local"},
}
BLOCK_PIXEL = {"scheme": "block-pixel", "stem_rule": "signed-permutation"}
NONE = {"scheme": "none", "stem_rule": "identity"}
ORTHOGONAL = {"scheme": "orthogonal", "stem_rule": "orthogonal"}
AES = {"scheme": "aes-ctr", "stem_rule": None}
WITHOUT_RULE = ("aes-ctr", "per-block", "etc", "pixel-wise", "pixel-wise-fresh")


def fitting(policy):
    return NONE if policy.keys == "none" else BLOCK_PIXEL


@pytest.mark.parametrize("combination", list(itertools.product(KEYS, INITS, TRAINS)), ids="+".join)
def test_the_design_table_and_nothing_else(combination):
    policy = Policy(*combination)
    if policy.train in TABLE.get((policy.keys, policy.init), set()):
        assert policy in POLICIES
        assert resolve_policy(*combination) == policy
        assert policy.note
        check_policy(policy, **fitting(policy))
        return
    assert policy not in POLICIES
    with pytest.raises(PolicyError):
        resolve_policy(*combination)
    with pytest.raises(PolicyError):
        check_policy(policy, **fitting(policy))


def test_thirteen_policies_in_nine_rows():
    assert len(POLICIES) == len(set(POLICIES)) == 13
    rows = [(keys, init, train) for (keys, init), trains in TABLE.items() for train in [sorted(trains)]]
    assert len(rows) + 1 == 9  # none + public is two rows: FedAvg and FedPer


@pytest.mark.parametrize(
    ("combination", "says"),
    [
        (("shared", "adapted", "averaged"), "publishes the key"),
        (("per-site", "adapted", "averaged"), "publishes the key"),
        (("shared", "secret", "averaged"), "is no secret"),
        (("none", "secret", "averaged"), "is no secret"),
        (("per-site", "public", "averaged"), "a mean of them to none"),
        (("none", "adapted", "local"), "nothing to adapt to"),
        (("none", "adapted", "frozen"), "nothing to adapt to"),
        (("shared", "public", "frozen"), "never fits hidden images"),
        (("per-site", "public", "frozen"), "never fits hidden images"),
        (("shared", "public", "local"), "share one domain"),
        (("none", "public", "frozen"), "only costs accuracy"),
        (("none", "secret", "frozen"), "only costs accuracy"),
    ],
)
def test_every_refusal_has_its_reason_and_its_cure(combination, says):
    with pytest.raises(PolicyError) as caught:
        resolve_policy(*combination)
    assert says in caught.value.problem
    assert caught.value.cure
    assert " + ".join(combination) in caught.value.where


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (("none",), ("none", "public", "averaged")),
        (("shared",), ("shared", "public", "averaged")),
        (("per-site",), ("per-site", "adapted", "local")),
        (("shared", "adapted"), ("shared", "adapted", "local")),
        (("none", "secret"), ("none", "secret", "local")),
        (("per-site", "public"), ("per-site", "public", "local")),
        (("per-site", None, "frozen"), ("per-site", "adapted", "frozen")),
        (("none", None, "local"), ("none", "public", "local")),
    ],
)
def test_an_unset_stem_follows_the_keys(given, wanted):
    assert resolve_policy(*given) == Policy(*wanted)


@pytest.mark.parametrize(
    ("combination", "where"),
    [
        (("one-each", None, None), "keys.policy"),
        (("none", "fresh", None), "stem.init"),
        (("none", None, "always"), "stem.train"),
    ],
)
def test_unknown_words_are_refused_by_field(combination, where):
    with pytest.raises(PolicyError) as caught:
        resolve_policy(*combination)
    assert caught.value.where == where


@pytest.mark.parametrize("scheme", WITHOUT_RULE)
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_schemes_without_a_stem_rule_refuse_adapted_and_only_that(policy, scheme):
    described = {"scheme": scheme, "stem_rule": None}
    if policy.keys == "none":
        with pytest.raises(PolicyError, match="needs a key"):
            check_policy(policy, **described)
    elif policy.init == "adapted":
        reason = f"no stem can follow the key of scheme '{scheme}': a patch embedding treats all blocks alike"
        with pytest.raises(PolicyError, match=reason) as caught:
            check_policy(policy, **described)
        assert caught.value.cure
    else:
        check_policy(policy, **described)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_an_orthogonal_scheme_goes_with_the_policies_of_a_signed_permutation(policy):
    if policy.keys != "none":
        check_policy(policy, **ORTHOGONAL)
        return
    with pytest.raises(PolicyError, match="needs a key"):
        check_policy(policy, **ORTHOGONAL)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_key_needs_a_scheme_and_a_scheme_a_key(policy):
    wrong = BLOCK_PIXEL if policy.keys == "none" else NONE
    with pytest.raises(PolicyError):
        check_policy(policy, **wrong)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_twins_are_plaintext_policies_of_the_table(policy):
    twin = policy.twin
    if twin is None:
        assert policy.keys != "none"
        return
    assert twin.keys == "none"
    assert twin in POLICIES
    assert twin.train == policy.train
    assert twin.stem_travels == policy.stem_travels


def test_the_twin_of_adapted_local_is_fedper():
    assert Policy("per-site", "adapted", "local").twin == Policy("none", "public", "local")
    assert Policy("per-site", "secret", "local").twin is None
    assert Policy("shared", "public", "averaged").twin is None


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_no_stem_that_knows_a_key_or_secret_travels(policy):
    assert policy.stem_travels == (policy.train == "averaged")
    if policy.init != "public" or policy.keys == "per-site":
        assert not policy.stem_travels


def test_the_one_policy_whose_updates_give_the_key_away_says_so():
    warned = [policy for policy in POLICIES if policy.warning is not None]
    assert warned == [Policy("shared", "public", "averaged")]
    assert "78 % of in-block places were found within one pixel (chance 12 %, one trial of ours)" in warned[0].warning
    assert "key material" in warned[0].warning
    assert "key away" in warned[0].note
    # It is the only one that lets a stem that learned under a key out of a site.
    assert warned == [policy for policy in POLICIES if policy.stem_travels and policy.keys != "none"]
