"""Adam with an l1 penalty by its proximal map: numbers that are not needed become exactly zero."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class SoftThresholdAdam(torch.optim.Adam):
    """Adam, then θ ← sign(θ) max(|θ| - lr · l1, 0): the proximal step of lr · l1 · ‖θ‖₁.

    Decoupled from the adaptive scale, as AdamW's decay is: a number stays at 0 while its gradient is on
    average below l1 of its own root mean square. Where the learning rate falls to 0, so does the threshold.

    Args:
        params: parameters or groups of them; all are thresholded.
        l1: threshold over the learning rate, at least 0.
        adam: what `torch.optim.Adam` takes.

    Raises:
        ValueError: a negative l1.
    Reference: Duchi & Singer, Efficient online and batch learning using forward backward splitting, JMLR
        2009; here with Adam in the place of the gradient step.
    """

    def __init__(self, params: Iterable[Any], *, l1: float, **adam: Any) -> None:
        if not l1 >= 0:
            raise ValueError(f"l1 must be at least 0, got {l1}")
        super().__init__(params, **adam)
        self.l1 = l1

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Adam's step and the threshold."""
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                shrunk = (parameter.abs() - group["lr"] * self.l1).clamp(min=0)
                parameter.copy_(parameter.sign() * shrunk)
        return loss
