"""Muon whose matrix products run in the precision of the parameters where bfloat16 has no units.

torch's Muon rounds every update to bfloat16 for Newton-Schulz. GPUs gain by it; on a processor without such units its
products took some fifteen times as long as those in float32, longer than the rest of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from models.timm_import import OPTIMIZERS, import_timm

import_timm(OPTIMIZERS)

from timm.optim.muon import zeropower_via_newtonschulz  # noqa: E402 - import_timm comes first

OF_ADAMW = 0.2
"""Root mean square of AdamW's steps (Liu et al., arXiv 2502.16982, section 2.2)."""


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` scaled to AdamW's steps, its Newton-Schulz in the parameters' own precision on a CPU.

    Parameters
    ----------
    groups
        Groups of matrices, as `torch.optim.Muon` takes them.
    lr, momentum, ns_steps
        As there.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, momentum: float, ns_steps: int) -> None:
        super().__init__(
            groups, lr=lr, momentum=momentum, nesterov=True, ns_steps=ns_steps, adjust_lr_fn="match_rms_adamw"
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take one step; every parameter with a gradient is a matrix."""
        if any(p.device.type != "cpu" for group in self.param_groups for p in group["params"]):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum: torch.Tensor = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = zeropower_via_newtonschulz(
            gradient.lerp(momentum, group["momentum"]),
            group["ns_steps"],
            [group["ns_coefficients"]],
            eps=group["eps"],
            dtype=parameter.dtype,
        )
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * OF_ADAMW * max(parameter.shape) ** 0.5)
