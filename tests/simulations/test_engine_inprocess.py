"""Whole federations in one process: repeatable, equal to their twins, and nothing private on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Message

from crypto.keys import SimulatedKey
from fl_client.app import app as client_app
from fl_client.data.stored import StoredPart
from fl_client.simulated_host import _simulated_site, simulated_site
from fl_client.stems import StemVault
from fl_server import checkpoints
from medveil.contract import ARRAYS
from medveil.errors import ConfigError, PolicyError
from medveil.wire import Tensors
from simulations.arms import ARMS, as_experiment
from simulations.config import ExperimentConfig
from simulations.engines import inprocess
from simulations.plan import Plan, make_plan
from simulations.predictions import load_predictions

Tiny = Callable[..., ExperimentConfig]
Known = Callable[[ExperimentConfig], "Ran"]
STEM = ("patch_embed.", "pos_embed")
pytestmark = pytest.mark.usefixtures("fresh_sites")


@dataclass(frozen=True)
class Ran:
    plan: Plan
    tensors: Tensors
    initial: Tensors
    summary: dict
    seen: list[set[str]]

    def vault(self, site: str) -> StemVault:
        subkey = SimulatedKey(self.plan.sites.seed, site).subkey("state")
        return StemVault(self.plan.out / "sites" / site / "stems", run=self.plan.run.run, subkey=subkey)

    def probabilities(self) -> np.ndarray:
        found = load_predictions(self.plan.out)
        return np.concatenate([found[site].probabilities for site in sorted(found)])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Run an experiment once for all tests of this file that ask for the same."""
    found: dict[str, Ran] = {}

    def ran(config: ExperimentConfig) -> Ran:
        said = repr(config)
        if said not in found:
            _simulated_site.cache_clear()
            found[said] = run(config, tmp_path_factory.mktemp("known") / "run")
        return found[said]

    return ran


def run(config: ExperimentConfig, out: Path) -> Ran:
    """Run an experiment, noting the names of the tensors in every message."""
    torch.set_num_threads(1)
    seen: list[set[str]] = []

    def overheard(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        records = [each.content.array_records for each in (message, reply) if each.has_content()]
        seen.extend(set(each[ARRAYS]) for each in records if ARRAYS in each)
        return reply

    plan = make_plan(config, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inprocess, "client_app", overheard)
        inprocess.run_inprocess(plan)
    newest = checkpoints.load_newest(out / "checkpoints", run=plan.run.run)
    assert newest is not None
    assert newest.round == plan.run.rounds
    initial = _simulated_site(plan.run.to_json(), plan.sites.to_json(), 0, inprocess.RUN_ID).bench.public
    public = {name: tensor.numpy() for name, tensor in initial.items()}
    return Ran(plan, newest.tensors, public, json.loads((out / "summary.json").read_text()), seen)


def after_round(ran: Ran, round_: int) -> Tensors:
    """What the server had averaged then."""
    return checkpoints.load(ran.plan.out / "checkpoints" / f"round-{round_:04d}.json").tensors


def equal(a: Tensors, b: Tensors) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def is_stem(name: str) -> bool:
    return name.startswith(STEM)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tiny: Tiny, tmp_path: Path) -> None:
    first, again = (run(tiny("train.mixup=0.4"), tmp_path / name) for name in "ab")
    assert first.plan.run.run != again.plan.run.run
    assert equal(first.tensors, again.tensors)
    np.testing.assert_array_equal(first.probabilities(), again.probabilities())
    for round_ in (1, 2):
        assert equal(after_round(first, round_), after_round(again, round_))
    other = run(tiny("train.mixup=0.4", "seed=1", "rounds=1"), tmp_path / "c")
    assert not equal(after_round(first, 1), after_round(other, 1))


def test_hidden_images_and_adapted_stems_equal_their_plaintext_twin(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("rounds=3")
    hidden = run(as_experiment(base, ARMS["per-site-adapted"], 0), tmp_path / "hidden")
    plain = run(as_experiment(base, ARMS["fedper"], 0), tmp_path / "plain")
    assert hidden.plan.run.cipher["negate"]
    assert hidden.plan.run.cipher["scheme"] == "block-pixel"
    assert plain.plan.run.cipher["scheme"] == "none"
    moved = 0.0
    for name, tensor in plain.tensors.items():
        np.testing.assert_allclose(hidden.tensors[name], tensor, rtol=0, atol=2e-4, err_msg=name)
        moved = max(moved, float(np.abs(tensor - plain.initial[name]).max()))
    assert moved > 20 * 2e-4, "training moved too little for the comparison to mean anything"
    np.testing.assert_allclose(hidden.probabilities(), plain.probabilities(), atol=1e-3)
    np.testing.assert_array_equal(hidden.probabilities().argmax(1), plain.probabilities().argmax(1))
    # The twin on another seed is not close: the tolerance tells runs apart.
    other = run(as_experiment(base, ARMS["fedper"], 1), tmp_path / "other")
    assert max(float(np.abs(other.tensors[n] - plain.tensors[n]).max()) for n in plain.tensors) > 1e-2


def test_in_double_precision_the_twins_differ_by_the_rounding_of_the_wire(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("train.precision=fp64")
    hidden = run(as_experiment(base, ARMS["per-site-adapted"], 0), tmp_path / "hidden")
    plain = run(as_experiment(base, ARMS["fedper"], 0), tmp_path / "plain")
    for name, tensor in plain.tensors.items():
        np.testing.assert_allclose(hidden.tensors[name], tensor, rtol=2e-7, atol=2e-8, err_msg=name)
    np.testing.assert_allclose(hidden.probabilities(), plain.probabilities(), atol=1e-6)


@pytest.mark.parametrize("arm", ["fedper", "per-site-adapted", "per-site-secret", "per-site-public", "shared-secret"])
def test_a_stem_at_home_never_travels(tiny: Tiny, known: Known, arm: str) -> None:
    ran = known(as_experiment(tiny("rounds=1", "stem.warmup=2"), ARMS[arm], 0))
    assert len(ran.seen) == 2 * 2 + 2
    for names in [*ran.seen, set(ran.tensors)]:
        assert names
        assert not any(is_stem(name) for name in names)
    for site in ("site-1", "site-2"):
        vault = ran.vault(site)
        assert vault.rounds() == [0, 1]
        found = vault.load(before=2)
        assert found is not None
        assert all(is_stem(name) for name in found[1])
        assert {"pos_embed", "patch_embed.proj.weight"} <= set(found[1])
        for sealed in vault.folder.iterdir():
            assert sealed.stat().st_mode & 0o077 == 0
            assert ran.initial["pos_embed"].tobytes()[:64] not in sealed.read_bytes()


@pytest.mark.parametrize("arm", ["plain", "shared-public"])
def test_an_averaged_stem_travels_and_nothing_is_sealed(tiny: Tiny, tmp_path: Path, arm: str) -> None:
    ran = run(as_experiment(tiny("rounds=1"), ARMS[arm], 0), tmp_path)
    assert set(ran.tensors) == set(ran.initial)
    assert not list(tmp_path.glob("sites/*/stems"))


def test_sites_of_one_run_have_stems_of_their_own(tiny: Tiny, known: Known) -> None:
    ran = known(as_experiment(tiny("rounds=1"), ARMS["per-site-adapted"], 0))
    stems = [found[1] for site in ("site-1", "site-2") if (found := ran.vault(site).load(before=1))]
    assert len(stems) == 2
    weights = [stem["patch_embed.proj.weight"].numpy() for stem in stems]
    public = ran.initial["patch_embed.proj.weight"]
    assert not np.array_equal(weights[0], weights[1])
    for weight in weights:
        assert not np.array_equal(weight, public)
        # Adapting moves and signs columns: the multiset of magnitudes stays.
        np.testing.assert_array_equal(np.sort(np.abs(weight), None), np.sort(np.abs(public), None))


def test_local_only_sends_nothing_that_counts_and_centralised_is_one_site(tiny: Tiny, tmp_path: Path) -> None:
    alone = run(as_experiment(tiny(), ARMS["local-only"], 0), tmp_path / "alone")
    assert alone.plan.experiment.server.strategy == "local-only"
    assert set(alone.summary["sites"]) == {"site-1", "site-2"}
    first, second = (np.load(tmp_path / "alone" / "sites" / s / "predictions.npz") for s in ("site-1", "site-2"))
    assert not set(first["ids"]) & set(second["ids"])
    together = run(as_experiment(tiny("rounds=1"), ARMS["centralised"], 0), tmp_path / "together")
    assert list(together.summary["sites"]) == ["site-1"]
    assert together.summary["n"] == alone.summary["n"]
    assert not equal(after_round(alone, 1), together.tensors)


@pytest.mark.parametrize("keys", ["none", "per-site"])
def test_only_the_head_trains(tiny: Tiny, tmp_path: Path, keys: str) -> None:
    ran = run(tiny("rounds=1", "train.scope=head", f"keys.policy={keys}", "stem.train=null"), tmp_path)
    assert set(ran.tensors) == {"head.weight", "head.bias"}
    assert not equal(ran.tensors, {name: ran.initial[name] for name in ran.tensors})
    assert all(names == set(ran.tensors) for names in ran.seen)


def test_only_the_last_block_and_the_head_train(tiny: Tiny, tmp_path: Path) -> None:
    ran = run(tiny("rounds=1", "train.scope=last-1-blocks"), tmp_path)
    moved = {name for name, tensor in ran.tensors.items() if not np.array_equal(tensor, ran.initial[name])}
    assert moved
    assert all(name.startswith(("blocks.1.", "norm.", "head.")) for name in ran.tensors)
    assert any(name.startswith("blocks.1.") for name in moved)
    found = ran.vault("site-1").load(before=2)
    assert found is not None


@pytest.mark.parametrize("scope", ["some", "last-0-blocks", "last-9-blocks"])
def test_a_scope_that_is_none_is_refused(tiny: Tiny, tmp_path: Path, scope: str) -> None:
    with pytest.raises(ConfigError):
        run(tiny(f"train.scope={scope}"), tmp_path)


def test_deltas_give_what_weights_give(tiny: Tiny, known: Known) -> None:
    """Within a round but for the rounding of one subtraction and one addition in fp32; later rounds train on that."""
    plain, delta = (after_round(known(tiny(*settings)), 1) for settings in ((), ("kind=delta",)))
    assert set(plain) == set(delta)
    for name, tensor in plain.items():
        np.testing.assert_allclose(delta[name], tensor, rtol=1e-6, atol=2e-7)


def test_wires(tiny: Tiny, known: Known, tmp_path: Path) -> None:
    plain, delta = known(tiny()), known(tiny("kind=delta"))
    half = run(tiny("wire=bf16"), tmp_path / "bf16")
    both = run(tiny("wire=bf16", "kind=delta"), tmp_path / "both")
    for name, tensor in plain.tensors.items():
        # Taking the base off and adding it again rounds twice in fp32, and the next round trains on that.
        np.testing.assert_allclose(delta.tensors[name], tensor, atol=4e-6)
        np.testing.assert_allclose(half.tensors[name], tensor, atol=0.02)
        np.testing.assert_allclose(both.tensors[name], tensor, atol=0.02)
    assert not equal(half.tensors, plain.tensors)
    # Every array of a message also carries a header of about 128 bytes.
    headers = 128 * len(plain.tensors) * 4
    for halved in (half, both):
        assert 2 * (halved.summary["bytes_up"] - headers) == pytest.approx(
            plain.summary["bytes_up"] - headers, rel=0.02
        )


def test_views_on_the_fly_and_stored(tiny: Tiny, tmp_path: Path) -> None:
    fly = run(tiny("data.views=0", "data.augment=light"), tmp_path / "fly")
    again = run(tiny("data.views=0", "data.augment=light"), tmp_path / "again")
    stored = run(tiny("rounds=1", "data.views=3", "data.augment=light", "train.epochs=3"), tmp_path / "stored")
    assert equal(fly.tensors, again.tensors)
    assert not list((tmp_path / "fly").glob("sites/site-1/stores/*/train.sealed"))
    one, three = (run(tiny("rounds=1", "train.epochs=3"), tmp_path / "one"), stored)
    assert not equal(one.tensors, three.tensors)
    sizes = [next(r.plan.out.glob("sites/site-1/stores/*/train.sealed")).stat().st_size for r in (one, three)]
    assert sizes[1] == 3 * sizes[0]


@pytest.mark.parametrize("views", [0, 1])
def test_the_control_runs_with_a_nonce_for_each_image(tiny: Tiny, tmp_path: Path, views: int) -> None:
    settings = ("data.views=0", "data.augment=light") if views == 0 else ()
    ran, again = (run(as_experiment(tiny("rounds=1", *settings), ARMS["aes-ctr"], 0), tmp_path / name) for name in "ab")
    assert ran.plan.run.cipher == {"scheme": "aes-ctr", "block": 4, "negate": False, "derivation": 2}
    assert equal(ran.tensors, again.tensors)
    test = simulated_site(ran.plan.run, ran.plan.sites, 0).store.part("test")
    assert isinstance(test, StoredPart)
    assert test.nonces is not None
    nonces = test.nonces.view(0)
    assert len(np.unique(nonces, axis=0)) == len(nonces) == len(test)


@pytest.mark.parametrize("scheme", ["per-block", "etc", "orthogonal", "pixel-wise", "pixel-wise-fresh"])
def test_every_scheme_trains_from_its_store(tiny: Tiny, tmp_path: Path, scheme: str) -> None:
    settings = (f"cipher.scheme={scheme}", "keys.policy=shared", "stem.init=public", "stem.train=averaged")
    ran = run(tiny("rounds=1", *settings), tmp_path)
    assert ran.summary["thief"]["wrong_key"] is not None
    stored = simulated_site(ran.plan.run, ran.plan.sites, 0).store.part("train").batch([0])
    assert stored.dtype == (np.uint16 if scheme == "orthogonal" else np.uint8)
    assert not equal(ran.tensors, {name: ran.initial[name] for name in ran.tensors})


def test_an_orthogonal_key_and_its_stem_train_by_sgd_as_plaintext_does(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("cipher.scheme=orthogonal", "train.optimizer=sgd", "train.lr=0.05")
    hidden = run(as_experiment(base, ARMS["per-site-adapted"], 0), tmp_path / "hidden")
    plain = run(as_experiment(base, ARMS["fedper"], 0), tmp_path / "plain")
    assert (hidden.plan.run.cipher["scheme"], plain.plan.run.cipher["scheme"]) == ("orthogonal", "none")
    moved = max(float(np.abs(tensor - plain.initial[name]).max()) for name, tensor in plain.tensors.items())
    off = max(float(np.abs(hidden.tensors[name] - tensor).max()) for name, tensor in plain.tensors.items())
    assert off < 0.01 * moved
    np.testing.assert_allclose(hidden.probabilities(), plain.probabilities(), atol=1e-3)
    raw = run(as_experiment(base, ARMS["per-site-public"], 0), tmp_path / "raw")
    assert max(float(np.abs(raw.tensors[n] - t).max()) for n, t in plain.tensors.items()) > 0.1 * moved


def test_a_fitted_stem_leaves_the_federation_the_public_start(tiny: Tiny, known: Known) -> None:
    fitted, raw = (
        known(as_experiment(tiny("rounds=1", f"stem.warmup={steps}"), ARMS["per-site-secret"], 0)) for steps in (2, 0)
    )
    stems = [found[1] for ran in (fitted, raw) if (found := ran.vault("site-1").load(before=1))]
    assert not np.array_equal(stems[0]["patch_embed.proj.weight"].numpy(), stems[1]["patch_embed.proj.weight"].numpy())
    assert not equal(fitted.tensors, raw.tensors)
    # What the server sent first is the public model either way: the incoming model of round 1.
    hashes = [
        {row["model_hash"] for row in json.loads((r.plan.out / "manifest.json").read_text())["sites"]}
        for r in (fitted, raw)
    ]
    assert hashes[0] == hashes[1]


def test_fedprox_pulls_towards_the_average(tiny: Tiny, known: Known, tmp_path: Path) -> None:
    average = known(tiny())
    free = run(tiny("server.strategy=fedprox", "server.proximal_mu=0"), tmp_path / "free")
    held = run(tiny("server.strategy=fedprox", "server.proximal_mu=10"), tmp_path / "held")
    assert equal(free.tensors, average.tensors)

    def travelled(ran: Ran) -> float:
        return sum(float(np.square(tensor - ran.initial[name]).sum()) for name, tensor in ran.tensors.items())

    assert travelled(held) < 0.9 * travelled(free)


def test_mixup_weights_sgd_and_smoothing_run_and_repeat(tiny: Tiny, tmp_path: Path) -> None:
    settings = (
        "rounds=1",
        "train.optimizer=sgd",
        "train.lr=0.05",
        "train.mixup=0.3",
        "train.class_weights=balanced",
        "train.label_smoothing=0.1",
        "data.partition.kind=dirichlet",
        "data.partition.alpha=0.7",
    )
    ran, again = (run(tiny(*settings), tmp_path / name) for name in "ab")
    assert equal(ran.tensors, again.tensors)
    assert not equal(ran.tensors, run(tiny(*settings, "train.class_weights=none"), tmp_path / "c").tensors)


def test_policies_that_publish_a_key_are_refused_before_anything_is_run(tiny: Tiny, tmp_path: Path) -> None:
    for settings in (("keys.policy=per-site", "stem.train=averaged"), ("keys.policy=shared", "stem.init=secret")):
        with pytest.raises(PolicyError):
            run(tiny(*settings, *(["stem.train=averaged"] if "shared" in settings[0] else [])), tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.json").exists()
    for scheme in ("aes-ctr", "per-block", "etc"):
        with pytest.raises(PolicyError, match=f"no stem can follow the key of scheme '{scheme}'"):
            make_plan(tiny(f"cipher.scheme={scheme}", "cipher.negate=false"), tmp_path / scheme)
