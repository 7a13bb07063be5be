"""Masked autoencoding learns on hidden images what it learns on plain ones, and only where it can."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from crypto.base import PLAIN, ImageCipher, Reading
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SimulatedKey
from fl_client.batches import generator
from fl_client.config import TrainConfig
from fl_client.leaving import EVERYTHING, Leaving
from fl_client.masked import LARGEST_LOSS, reconstructed
from fl_client.optimizers import make_optimizers
from fl_client.site_model import follow, patch_order
from fl_client.training import RoundPlan, train_round
from medveil.config import to_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from medveil.pretraining import MASKED, MaskedConfig
from models.autoencoder import _with_decoder, build_model, patches_of
from models.config import ModelConfig
from models.policy import ORTHOGONAL, Policy
from models.stem import restore, stem_names, tail_names, trunk_names, unrotate
from models.travel import load_tensors, tensors, trainable, travelling
from models.vit import normalise

FP64 = TrainConfig(batch_size=8, lr=3e-3, epochs=2, precision="fp64", lr_warmup=0.1, clip=0.5)
SMALL = MaskedConfig(mask=0.75, decoder_width=16, decoder_depth=1, decoder_heads=2)
SITES = ("a", "b")
LOCAL, TWIN = Policy("per-site", "adapted", "local"), Policy("none", "public", "local")
FROZEN = Policy("per-site", "adapted", "frozen")


@dataclass(frozen=True)
class Held:
    images: np.ndarray
    reading: Reading = PLAIN

    @property
    def labels(self) -> np.ndarray:
        return np.zeros(len(self.images), np.int64)

    def batch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        made: np.ndarray = self.images[indices]
        return made


def run_of(masked: MaskedConfig = SMALL, **model: object) -> RunConfig:
    torch.set_num_threads(1)
    sizes = {"image_size": 16, "patch": 4, "channels": 1, "width": 24, "depth": 2, "heads": 2, **model}
    return RunConfig(task=MASKED, pretrain=to_mapping(masked), model=to_mapping(ModelConfig(**sizes)), seed=1)


def images_of(site: str, n: int = 20) -> np.ndarray:
    rng = np.random.default_rng(SITES.index(site))
    rows = np.add.outer(np.arange(16), rng.integers(-8, 8, n)).T[:, None, :, None] * 8
    made: np.ndarray = np.clip(rows + rng.integers(0, 90, (n, 1, 16, 16)), 0, 255).astype(np.uint8)
    return made


def cipher_of(site: str, scheme: str = "block-pixel", *, negate: bool = True) -> ImageCipher:
    config = CipherConfig(scheme=scheme, block=4, negate=negate)
    return make_cipher(config, SimulatedKey(3, site), channels=1, height=16, width=16)


def moved_back(model: VisionTransformer, cipher: ImageCipher) -> None:
    if cipher.stem_rule == ORTHOGONAL:
        turn = cipher.stem_rotation()
        unrotate(model, matrix=turn.matrix, pi=turn.pi)
    else:
        moves = cipher.stem_permutation()
        restore(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)


def federated(
    run: RunConfig, config: TrainConfig, policy: Policy, ciphers: dict[str, ImageCipher], *, rounds: int = 2
) -> dict[str, dict[str, torch.Tensor]]:
    """Each site's model, in the plain images' domain, after rounds of training and one mean of what travels a round."""
    model = build_model(run).double()
    public = tensors(model, model.state_dict())
    names, trains = travelling(model, policy, "full"), trainable(model, policy, "full")
    shared, own = tensors(model, names), {}
    for round_ in range(1, rounds + 1):
        sent = []
        for site in SITES:
            load_tensors(model, public)
            if site in own:
                load_tensors(model, own[site])
            elif site in ciphers:
                follow(model, ciphers[site])
            load_tensors(model, shared)
            part = Held(images_of(site))
            if site in ciphers:
                part = Held(ciphers[site].encrypt(part.images), ciphers[site].reading)
            pi = patch_order(ciphers[site]) if site in ciphers else None
            plan = RoundPlan(
                round=round_, rounds=rounds, seed=5, rng=generator(5, site, round_), pi=pi, masked=run.masked
            )
            train_round(model, part, config, plan, trainable=trains)
            sent.append(tensors(model, names))
            own[site] = tensors(model, [name for name in public if name not in names])
        shared = {name: sum(each[name] for each in sent) / len(sent) for name in names}
    found = {}
    for site in SITES:
        load_tensors(model, {**own[site], **shared})
        if site in ciphers:
            moved_back(model, ciphers[site])
        found[site] = tensors(model, public)
    return found


def apart(a: dict[str, dict[str, torch.Tensor]], b: dict[str, dict[str, torch.Tensor]]) -> float:
    return max(float((a[site][name] - b[site][name]).abs().max()) for site in a for name in a[site])


@pytest.mark.parametrize("switch", [{}, {"optimizer": "muon"}, {"ema": 0.9}])
def test_hospitals_learn_together_on_hidden_images_what_they_learn_on_plain_ones(switch: dict[str, object]) -> None:
    """12 steps a site in two rounds, a mean after each, a key per site: trunk, stems and tails, to 1e-12."""
    config = replace(FP64, **switch)  # type: ignore[arg-type]
    ciphers = {site: cipher_of(site) for site in SITES}
    plain = federated(run_of(), config, TWIN, {})
    assert apart(federated(run_of(), config, LOCAL, ciphers), plain) <= 1e-12
    start = build_model(run_of()).double().state_dict()
    for names in (stem_names, tail_names, trunk_names):
        moved = max(float((plain["a"][n] - start[n]).abs().max()) for n in names(build_model(run_of())))
        assert moved > 1e-3, "the run must have trained"


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("vit_medium_patch16_reg4_gap_256", replace(SMALL, mask=0.4)),
        ("vit_base_patch16_siglip_224", replace(SMALL, decoder_depth=2)),
    ],
)
def test_the_same_with_register_tokens_or_none_and_with_other_masks(name: str, masked: MaskedConfig) -> None:
    run = run_of(masked, name=name, depth=1)
    ciphers = {site: cipher_of(site) for site in SITES}
    assert apart(federated(run, FP64, LOCAL, ciphers), federated(run, FP64, TWIN, {})) <= 1e-12


def test_a_frozen_stem_stays_the_public_one_and_the_tail_learns_at_home() -> None:
    ciphers = {site: cipher_of(site) for site in SITES}
    run = run_of(init="mimetic")
    made, start = federated(run, FP64, FROZEN, ciphers), build_model(run).double()
    for name in stem_names(start):
        assert torch.equal(made["a"][name], start.state_dict()[name])
    assert not torch.equal(made["a"]["decoder.out.weight"], made["b"]["decoder.out.weight"])


@pytest.mark.parametrize("change", ["masks in the order of the hidden image", "tail unmoved"])
def test_equality_is_lost_without_either_half(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ciphers = {site: cipher_of(site) for site in SITES}
    plain = federated(run_of(), FP64, TWIN, {}, rounds=1)
    if change == "tail unmoved":
        monkeypatch.setattr("models.stem._tail_pixels", lambda model: ())
    else:
        monkeypatch.setattr(f"{__name__}.patch_order", lambda cipher: None)
    assert apart(federated(run_of(), FP64, LOCAL, ciphers, rounds=1), plain) > 1e-4


def test_normalised_pixels_commute_without_negation_and_not_with_it() -> None:
    run = run_of(replace(SMALL, normalise_pixels=True))
    plain = federated(run, FP64, TWIN, {}, rounds=1)
    kept, negated = (
        federated(run, FP64, LOCAL, {site: cipher_of(site, negate=negate) for site in SITES}, rounds=1)
        for negate in (False, True)
    )
    assert apart(kept, plain) <= 1e-12
    assert apart(negated, plain) > 1e-4


def test_an_orthogonal_key_gives_the_same_but_for_rounding_of_ciphertexts_under_sgd() -> None:
    config = replace(FP64, optimizer="sgd", lr=1e-2)
    ciphers = {site: cipher_of(site, "orthogonal", negate=False) for site in SITES}
    plain = federated(run_of(), config, TWIN, {}, rounds=1)
    assert apart(federated(run_of(), config, LOCAL, ciphers, rounds=1), plain) < 1e-4


def test_the_encoder_sees_the_visible_patches_alone() -> None:
    model, met = build_model(run_of()), []
    model.blocks[0].register_forward_pre_hook(lambda _, given: met.append(given[0].shape[1]))
    plan = RoundPlan(round=1, rounds=1, seed=0, rng=generator(0, "x"), masked=SMALL)
    train_round(model, Held(images_of("a")), replace(FP64, precision="fp32"), plan, trainable=["norm.weight"])
    assert set(met) == {1 + 4}, "a class token and a quarter of 16 patches"


def test_the_loss_is_the_mean_squared_error_of_masked_pixels_and_falls() -> None:
    model, part = build_model(run_of()).double(), Held(images_of("a"))
    with torch.no_grad():
        model.decoder.out.weight.zero_()
    rng = {"rng": generator(0, "m"), "pi": None}
    found = reconstructed(model, part, FP64, SMALL, **rng)  # type: ignore[arg-type]
    drawn = generator(0, "m").random((20, 16)).argsort(axis=1, kind="stable")[:, 4:]
    pixels = (2.0 * part.images - 255) / 255
    by_hand = [
        np.mean([pixels[i, 0, 4 * (p // 4) : 4 * (p // 4) + 4, 4 * (p % 4) : 4 * (p % 4) + 4] ** 2 for p in drawn[i]])
        for i in range(20)
    ]
    np.testing.assert_allclose(found, by_hand, rtol=1e-12)
    names = [name for name, _ in model.named_parameters()]
    plan = RoundPlan(round=1, rounds=1, seed=0, rng=generator(0, "x"), masked=SMALL)
    result = train_round(model, part, replace(FP64, epochs=12), plan, trainable=names)
    assert result.accuracy is None
    assert reconstructed(model, part, FP64, SMALL, **rng).mean() < 0.5 * found.mean()  # type: ignore[arg-type]


def test_patches_are_in_the_orders_of_a_patch_embedding() -> None:
    model = build_model(run_of(channels=3))
    x = normalise(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)))
    projection = model.patch_embed.proj
    by_hand = patches_of(x, 4) @ projection.weight.flatten(1).T + projection.bias
    torch.testing.assert_close(by_hand, model.patch_embed(x))


def test_a_model_whose_blocks_know_where_patches_lie_is_refused() -> None:
    class Rotary(VisionTransformer):
        """As EVA and DINOv3 are: another class than the one whose patches can be left out."""

    model = Rotary(img_size=16, patch_size=4, in_chans=1, embed_dim=24, depth=1, num_heads=2)
    with pytest.raises(ConfigError, match="is a Rotary, whose blocks cannot know which patches"):
        _with_decoder(model, SMALL, seed=0)


def test_weight_decay_spares_the_decoders_positions_and_mask_token() -> None:
    model = build_model(run_of())
    parameters = dict(model.named_parameters())
    groups = make_optimizers(model, parameters, FP64)[0].param_groups
    spared = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert {id(parameters[f"decoder.{name}"]) for name in ("pos_embed", "mask_token")} <= spared
    assert id(parameters["decoder.out.weight"]) not in spared


def test_what_leaves_of_a_loss_is_bounded_and_told_in_steps_of_its_root() -> None:
    losses = np.full(47, 0.0225)
    assert Leaving(EVERYTHING).reconstructed("test", losses) == {
        "test-loss": pytest.approx(0.0225),
        "test-n": 47.0,
    }
    told = Leaving(10).reconstructed("test", losses)
    assert told == {"test-loss": pytest.approx(0.25**2), "test-n": 40.0}
    assert np.isnan(Leaving(10).reconstructed("test", losses[:39])["test-loss"])
    model = build_model(run_of()).double()
    with torch.no_grad():
        model.decoder.out.bias.fill_(1e6)
    found = reconstructed(model, Held(images_of("a")), FP64, SMALL, rng=generator(0, "m"), pi=None)
    assert found.max() == LARGEST_LOSS
