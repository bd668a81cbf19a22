"""The loop that runs pairs of coupled chains until they meet, and the unbiased estimate that they leave."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ebm_lab.energies.energy import frozen
from ebm_lab.samplers.coupled_kernels import CoupledKernel, joined
from ebm_lab.samplers.kernel import Info


class CoupledChains(NamedTuple):
    """What pairs of coupled chains leave, detached: a signed measure, and when each pair met.

    Attributes:
        x: events.
        weights: w_i of either sign, summing to 1, so that E[Σ_i w_i h(x_i)] is the mean of h under the
            kernel's stationary law.
        meeting_times: τ of each pair, in steps of its first chain; of a capped pair the cap, which τ exceeds.
        capped: pairs that had not met when the cap came.
        acceptance: mean acceptance probability over steps and chains; None without an accept step.
    """

    x: Float[Tensor, "num *shape"]
    weights: Float[Tensor, " num"]
    meeting_times: Int[Tensor, " batch"]
    capped: Bool[Tensor, " batch"]
    acceptance: Float[Tensor, ""] | None


def run_coupled_chains(
    kernel: CoupledKernel,
    energy: Callable[[Tensor], Tensor],
    start: Float[Tensor, "batch *shape"],
    generator: torch.Generator | None,
    *,
    burn_in: int,
    num_steps: int,
    max_steps: int,
) -> CoupledChains:
    """H_{k:m} of one pair of chains from each event, averaged over the pairs.

        X₀ = Y₀ = start;  X₁ ~ K(X₀);  (X_{t+1}, Y_t) ~ K̄(X_t, Y_{t-1});  τ = min {t >= 1: X_t = Y_{t-1}}
        H_{k:m} = 1/(m-k+1) Σ_{t=k}^{m} h(X_t)
                  + Σ_{t=k+1}^{τ-1} min(1, (t-k)/(m-k+1)) (h(X_t) - h(Y_{t-1}))

    Its mean is that of h under the stationary law of K, from any start and for any k <= m. Where the sum is
    cut at t = `max_steps` it telescopes to E h(X_{max_steps}): the cap leaves the bias of so many steps of K.

    Args:
        kernel: the coupled kernel.
        energy: x -> E(x), shape (batch,); frozen meanwhile.
        start: where both chains of each pair start; left unchanged.
        generator: source of all randomness, on the device of `start`.
        burn_in: k, steps before the average.
        num_steps: m, last step of the average; each first chain takes at least as many.
        max_steps: steps of the first chain after which a pair that has not met is given up.

    Raises:
        ValueError: unless 0 <= burn_in <= num_steps, 1 <= num_steps and num_steps <= max_steps.
    Cost: max(m, τ) steps of the first and τ - 1 of the second chain of each pair. Pairs that are done take no
        more. It waits for the device in every step.
    Reference: Glynn & Rhee 2014; Jacob, O'Leary & Atchadé 2020, arXiv 1708.03625, section 2.
    """
    _check_steps(burn_in, num_steps, max_steps)
    measure = _SignedMeasure(burn_in, num_steps)
    meeting_times = torch.full(start.shape[:1], max_steps, device=start.device)
    apart = torch.arange(len(start), device=start.device)
    acceptances: list[Tensor] = []
    with frozen(energy):
        y = kernel.init(energy, start.detach())
        measure.add(0, y.x)  # X₀
        x, info = kernel.step(energy, y, generator)
        single = x.rows(apart[:0])
        for step in range(1, max_steps + 1):
            _note(acceptances, info)
            met = (x.x == y.x).flatten(1).all(1)
            meeting_times[apart[met]] = step
            single, apart, x, y = joined(single, x.rows(met)), apart[~met], x.rows(~met), y.rows(~met)
            measure.add(step, single.x, x.x, y.x)
            if step >= num_steps:
                single = single.rows(apart[:0])
            if step == max_steps or len(single.x) + len(apart) == 0:
                break
            info = None
            if len(single.x):
                single, info = kernel.step(energy, single, generator)
            if len(apart):
                _note(acceptances, info)
                x, y, info = kernel.step_pair(energy, x, y, generator)
    capped = torch.zeros_like(meeting_times, dtype=torch.bool)
    capped[apart] = True
    acceptance = torch.cat(acceptances).mean() if acceptances else None
    return CoupledChains(*measure.averaged_over(len(start)), meeting_times, capped, acceptance)


class _SignedMeasure:
    """Events and their weights in H_{k:m}, gathered step by step."""

    def __init__(self, burn_in: int, num_steps: int) -> None:
        self.burn_in = burn_in
        self.num_steps = num_steps
        self.length = num_steps - burn_in + 1
        self.events: list[Tensor] = []
        self.weights: list[Tensor] = []

    def add(self, step: int, met: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> None:
        """X_t of the pairs that have met, and X_t and Y_{t-1} of those that are apart."""
        average = 1 / self.length if self.burn_in <= step <= self.num_steps else 0.0
        correction = min(1.0, max(0, step - self.burn_in) / self.length)
        self._add(met, average)
        if x is not None and y is not None:
            self._add(x, average + correction)
            self._add(y, -correction)

    def averaged_over(self, num_pairs: int) -> tuple[Tensor, Tensor]:
        """All events and their weights in the mean over the pairs."""
        return torch.cat(self.events), torch.cat(self.weights) / num_pairs

    def _add(self, x: Tensor, weight: float) -> None:
        if weight and len(x):
            self.events.append(x)
            self.weights.append(x.new_full((len(x),), weight))


def _note(acceptances: list[Tensor], info: Info | None) -> None:
    if info is not None and info.acceptance is not None:
        acceptances.append(info.acceptance)


def _check_steps(burn_in: int, num_steps: int, max_steps: int) -> None:
    if not 0 <= burn_in <= num_steps or num_steps < 1:
        raise ValueError(
            f"coupled chains need 0 <= burn_in <= num_steps and num_steps >= 1, got {burn_in} and {num_steps}"
        )
    if max_steps < num_steps:
        raise ValueError(f"max_steps must be at least num_steps={num_steps}, got {max_steps}")
