"""A Vision Transformer that learns without labels: it sees some patches of an image, and a decoder tells the others.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022. The encoder is the run's ViT without its
classifier, and is given the visible patches alone; that is what makes it fast. The decoder is a few small blocks of
timm's. It is attached to the ViT under the name ``decoder``, so that what is learned bears the names it has in any
other run: stem, blocks and norm of the encoder are those of a model that classifies.

**Hidden images.** c_j[i] = s_i x_{pi[j]}[rho[i]] moves three more tensors than a stem has: the decoder's table of
positions (its rows follow pi) and its last layer (its rows are pixels of a patch, and follow rho and s as the columns
of the patch embedding do). Which patches are visible is drawn in the order of the plain image and moved by pi
(`models.patches`). The decoder meets its tokens in the order they were drawn in, not in that of the image, so that it
does the same sums on hidden images as on plain ones. The squared error of a pixel is that of the pixel it was, whatever
its sign: loss, gradients and steps are those of training on plain images. A pixel less its patch's *mean* is not, where
some pixels of a patch are negated: the mean of negated pixels is another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from medveil.pretraining import MaskedConfig
from models.config import ModelConfig
from models.exported import refuse_other_classes
from models.mimetic import STEP, sines_of
from models.patches import how_many_stay, leaving_out
from models.sizes import skeleton
from models.vit import build_vit
from models.without_storage import without_storage

if TYPE_CHECKING:
    from models.vits import VisionTransformer

DECODER = "decoder"
_SOME_CLASSES = 2
_RATIO = 4.0
_STD = 0.02
_EPSILON = 1e-6
# Beside the encoder's, whose first numbers would else be the decoder's too.
_APART = 0x4D4145


class Decoder(nn.Module):
    """Tells the pixels of the patches an encoder did not see.

    Parameters
    ----------
    width
        The encoder's.
    grid
        Patches of an image, rows and columns.
    numbers
        Of a patch, L = C*B*B.
    prefix
        Class and register tokens of the encoder.
    config
        Its own sizes.
    """

    def __init__(self, *, width: int, grid: tuple[int, int], numbers: int, prefix: int, config: MaskedConfig) -> None:
        from timm.models.vision_transformer import Block  # noqa: PLC0415 - models.vit makes timm ready

        super().__init__()
        own, self._prefix = config.decoder_width, prefix
        self.embed = nn.Linear(width, own)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, own))
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1], own))
        blocks = [
            Block(own, config.decoder_heads, mlp_ratio=_RATIO, qkv_bias=True) for _ in range(config.decoder_depth)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(own, eps=_EPSILON)
        self.out = nn.Linear(own, numbers)
        if not self.pos_embed.is_meta:
            self._begin(grid)

    def forward(self, seen: Tensor, rows: Tensor) -> Tensor:
        """Say the pixels of the patches that were not seen.

        Parameters
        ----------
        seen
            The encoder's tokens (B, prefix + visible, D): class and register tokens, then the visible patches.
        rows
            int64 (B, N): where the patches lie in the image, the visible ones first, in the order of `seen`.

        Returns
        -------
        Tensor
            (B, N - visible, L).
        """
        tokens = self.embed(seen)
        prefix, visible = self._prefix, seen.shape[1] - self._prefix
        masked = self.mask_token.expand(len(rows), rows.shape[1] - visible, -1).to(tokens.dtype)
        patches = torch.cat([tokens[:, prefix:], masked], dim=1) + self.pos_embed[0][rows]
        whole = torch.cat([tokens[:, :prefix].to(patches.dtype), patches], dim=1)
        for block in self.blocks:
            whole = block(whole)
        said: Tensor = self.out(self.norm(whole[:, prefix + visible :]))
        return said

    def _begin(self, grid: tuple[int, int]) -> None:
        for each in self.modules():
            if isinstance(each, nn.Linear):
                nn.init.trunc_normal_(each.weight, std=_STD)
                nn.init.zeros_(each.bias)
        nn.init.normal_(self.mask_token, std=_STD)
        sines = np.rint(sines_of(*grid, self.pos_embed.shape[-1]) / STEP) * STEP
        with torch.no_grad():
            self.pos_embed.copy_(torch.from_numpy(sines)[None])


def build_model(run: RunConfig) -> VisionTransformer:
    """The model a run begins with: a ViT, and for masked autoencoding one with a decoder in place of its classifier.

    Where nothing trains it is the whole model of a weights file, its classifier too.

    Raises
    ------
    ConfigError, StorageError, FormatError
        As `models.vit.build_vit`.
    """
    config = from_mapping(ModelConfig, run.model, where="model")
    masked = run.masked
    if run.evaluated is not None:
        refuse_other_classes(config.pretrained, run.classes)
    if masked is None:
        return build_vit(config, seed=run.seed, whole=run.evaluated is not None)
    model = build_vit(replace(config, classes=_SOME_CLASSES), seed=run.seed)
    return _with_decoder(model, masked, seed=run.seed)


def outline(config: ModelConfig, masked: MaskedConfig | None) -> VisionTransformer:
    """The same without storage for a single weight; errors as `models.sizes.skeleton`."""
    if masked is None:
        return skeleton(config)
    model = skeleton(replace(config, classes=_SOME_CLASSES))
    with without_storage():
        return _with_decoder(model, masked, seed=0)


def _with_decoder(model: VisionTransformer, config: MaskedConfig, *, seed: int) -> VisionTransformer:
    _refuse_others(model)
    model.reset_classifier(0)
    embed: Any = model.patch_embed
    numbers = embed.proj.in_channels * embed.patch_size[0] * embed.patch_size[1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed ^ _APART)
        model.decoder = Decoder(
            width=model.embed_dim,
            grid=embed.grid_size,
            numbers=numbers,
            prefix=model.num_prefix_tokens,
            config=config,
        )
    return model


def _refuse_others(model: Any) -> None:
    """Refuse an architecture whose blocks are told where patches lie: leaving some out would tell them wrong."""
    from timm.models.vision_transformer import VisionTransformer  # noqa: PLC0415 - models.vit makes timm ready

    if type(model) is not VisionTransformer:
        problem = f"is a {type(model).__name__}, whose blocks cannot know which patches masked autoencoding leaves out"
        raise ConfigError(problem, where="model.name", cure="one of timm's VisionTransformer, or task=single-label")


def check_mask(patches: int, masked: MaskedConfig, *, where: str = "pretrain") -> None:
    """Refuse a mask that leaves nothing to see, or nothing to tell (ConfigError)."""
    if patches < 2 or how_many_stay(patches, masked.mask) == patches:
        problem = f"'mask' {masked.mask:g} of {patches} patches leaves none to tell"
        raise ConfigError(problem, where=where, cure="a larger mask, larger images, or smaller patches")


def reconstruction_losses(model: Any, x: Tensor, rows: Tensor, config: MaskedConfig) -> Tensor:
    """The mean squared error of each image's masked pixels.

    Parameters
    ----------
    model
        A model of `build_model` with a decoder.
    x
        Images as the model reads them (B, C, H, W).
    rows
        int64 (B, N): all patches of each image, those that are visible first (`models.patches.draw_rows`, of which
        nothing is left out).
    config
        How many are visible, and which pixels are told.

    Returns
    -------
    Tensor
        (B,), float32 or float64.
    """
    visible = how_many_stay(rows.shape[1], config.mask)
    with leaving_out(model) as kept:
        kept.rows = rows[:, :visible]
        seen = model.forward_features(x)
    said = model.decoder(seen, rows)
    hidden = rows[:, visible:, None].expand(-1, -1, said.shape[-1])
    wanted = patches_of(x, model.patch_embed.patch_size[0]).gather(1, hidden)
    if config.normalise_pixels:
        wanted = (wanted - wanted.mean(-1, keepdim=True)) / (wanted.var(-1, keepdim=True) + _EPSILON).sqrt()
    exact = said.float() if said.dtype == torch.bfloat16 else said
    losses: Tensor = (exact - wanted.to(exact.dtype)).square().mean(dim=(1, 2))
    return losses


def patches_of(x: Tensor, patch: int) -> Tensor:
    """Images (B, C, H, W) as their patches (B, N, C*B*B), in the orders of a patch embedding."""
    images, channels, height, width = x.shape
    cut = x.reshape(images, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(images, -1, channels * patch * patch)
