"""Contrastive divergence with the term that it neglects: how the chain depends on the parameters."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.optimize import brentq
from torch import Tensor

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.energies import Energy
from ebm_lab.energies.energy import frozen
from ebm_lab.errors import UserError
from ebm_lab.objectives.known_truth import GaussianTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics, check_chain_length
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.objectives.persistent_chains import PersistentChains
from ebm_lab.samplers import Augmentation, Langevin, run_chains

SIGNS = {"published": 1.0, "exact": -1.0}


def energy_of_samples(energy: Energy, x_model: Float[Tensor, "num *shape"]) -> Float[Tensor, ""]:
    """mean E_θ̄(x_model(θ)): a gradient flows through the samples, none into the energy that judges them."""
    with frozen(energy):
        return energy(x_model).mean()


def log_neighbour_distance(x: Float[Tensor, "num *shape"], neighbour: int = 1) -> Float[Tensor, ""]:
    """mean log ρ_i, ρ_i the distance of event i to its k-th nearest neighbour among the others.

    Raises:
        ValueError: for fewer than k + 1 events.
    Cost: num² distances; the gradient goes through these pairs alone.
    """
    flat = x.flatten(1)
    if len(flat) <= neighbour:
        raise ValueError(
            f"a neighbour of rank {neighbour} takes at least {neighbour + 1} events, got {len(flat)}"
        )
    with torch.no_grad():
        distances = torch.cdist(flat, flat).fill_diagonal_(math.inf)
        index = distances.kthvalue(neighbour, 1).indices
    return (flat - flat[index]).square().sum(1).log().mean() / 2


def nearest_neighbour_entropy(x: Float[Tensor, "num *shape"], neighbour: int = 1) -> Float[Tensor, ""]:
    """H ≈ d mean log ρ_i + log V_d + ψ(n) - ψ(k) in nats, V_d the volume of the unit ball.

    Consistent for independent draws of a density; its bias is of the order of the density's change within ρ.
    With x = x(θ) its gradient is that of the entropy of x, as E tr ∂ẋ/∂x.

    Reference: Kozachenko & Leonenko 1987, Probl. Inf. Transm. 23; for k > 1 Goria et al. 2005,
        J. Nonparametr. Stat. 17.
    """
    num, dim = len(x), x[0].numel()
    log_ball = dim / 2 * math.log(math.pi) - math.lgamma(dim / 2 + 1)
    counts = torch.digamma(x.new_tensor([num, float(neighbour)]))
    return dim * log_neighbour_distance(x, neighbour) + log_ball + counts[0] - counts[1]


class ImprovedContrastiveDivergence(Objective):
    """CD-k and a term for the law q_θ of its own samples, through the last Langevin step.

    With x⁻ = x_k(θ) the k-th step from x_{k-1}, held constant, and θ̄ = θ without gradient:

        mean E_θ(x) - mean E_θ(x⁻) ± T KL(q_θ ‖ p_θ̄),    T KL = E[E_θ̄(x_k(θ))] - T H(q_θ) + const

    kl_sign=published adds the term, as the paper and its code do: it makes samples of low energy and far
    apart. kl_sign=exact subtracts it: contrastive divergence is KL(p_data ‖ p_θ) - KL(q_θ ‖ p_θ), and this is
    the sign of its derivative. Both have the truth as a fixed point where the kernel is exact.

    Args:
        num_steps: k, Langevin steps.
        num_chains: chains in a replay buffer, from which they start; None starts them at the data.
        restart_fraction: probability that a chain of the buffer starts anew from the noise.
        augment: random transforms of the buffer's images before they move on; None for none.
        kl_sign: published or exact.
        neighbour: k, rank of the neighbour whose distance measures the entropy.
        entropy_weight: w of H = w mean log ρ / T + const; None is T d, which makes H the entropy.
        energy_penalty: α of α (mean E(x)² + mean E(x_model)²); 0 is off.

    Raises:
        ValueError: for a number out of its range, an unknown sign, a sampler that is not Langevin, or no
            entropy_weight where the sampler has no temperature.
    Cost: as CD-k, a backward through the gradient of the last step (about 9 forwards), and num² distances.
    Notes: 1. Chain and derivative agree for k = 1 from the data only; the dependence of earlier steps is left
        out, as published. 2. The paper's code measures 128 chains against 100 of the buffer, with the weight
        0.3; here neighbours are among the chains, with gradients at both ends. 3. Two equal samples have no
        log distance: the loss is then not finite and the run stops. 4. The paths of neighbours differ by
        their noise, so gradients of log ρ spread as 1/ρ; in one or two dimensions they have no variance for
        k = 1: take k > 1, and clip.
    Reference: Du, Li, Tenenbaum & Mordatch 2021, arXiv 2012.01316, eqs. 5-8; the sign of the exact derivative
        is Hinton 2002, Training Products of Experts by Minimizing Contrastive Divergence, eq. 5.
    """

    needs_second_derivatives = True
    trains_by_sampling = True
    truth_overrides = (  # with equal variances neighbours give the exact gradient of the entropy
        "data.density.smallest=0.5",
        "data.density.largest=0.5",
        "objective.neighbour=15",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        num_steps: int = 10,
        num_chains: int | None = None,
        restart_fraction: float = 0.0,
        augment: Augmentation | None = None,
        kl_sign: str = "published",
        neighbour: int = 1,
        entropy_weight: float | None = None,
        energy_penalty: float = 0.0,
    ) -> None:
        super().__init__(parts)
        check_chain_length(num_steps, energy_penalty)
        if kl_sign not in SIGNS:
            raise ValueError(f"kl_sign must be published or exact, got {kl_sign!r}")
        if neighbour < 1:
            raise ValueError(f"neighbour must be at least 1, got {neighbour}")
        if not isinstance(parts.sampler, Langevin):
            raise ValueError("the gradient flows through a Langevin step: choose sampler=langevin")
        if entropy_weight is None and parts.sampler.temperature is None:
            raise ValueError(
                "the entropy's weight is T d, and with a clip, a clamp or T=0 the sampler has no T: set "
                "objective.entropy_weight, 0.3 in the paper's code"
            )
        if entropy_weight is not None and entropy_weight < 0:
            raise ValueError(f"entropy_weight must not be negative, got {entropy_weight}")
        self.num_steps = num_steps
        self.kl_sign = kl_sign
        self.neighbour = neighbour
        self.minimal_batch = neighbour + 1
        self.entropy_weight = entropy_weight
        self.energy_penalty = energy_penalty
        self.chains = (
            None
            if num_chains is None
            else PersistentChains(
                parts.sampler,
                parts.noise,
                lambda: self.generator,
                num_steps=num_steps,
                num_chains=num_chains,
                num_jumps=0,
                restart_fraction=restart_fraction,
                augment=augment,
            )
        )
        if num_chains is None and (restart_fraction or augment is not None):
            raise ValueError("restart_fraction and augment are about a buffer: set num_chains")

    def check(self, data: InMemoryData) -> None:
        """The buffer must hold a batch of chains."""
        super().check(data)
        if self.chains is not None:
            self.chains.check(data)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and its chains, and the term of the chains' own law."""
        start, slots = self._start(batch.x)
        chains = run_chains(self.sampler, self.energy, start, self.num_steps - 1, self.generator)
        z = self.normal_like(start)
        x_model = self.sampler.step_with_graph(self.energy, chains.x, self.num_steps - 1, z)
        watched = {} if self.chains is None else self.chains.write(slots, x_model)
        phases = likelihood_surrogate(self.energy, batch.x, x_model, self.energy_penalty)
        sampled = energy_of_samples(self.energy, x_model)
        distance = log_neighbour_distance(x_model, self.neighbour)
        self.record(**chain_metrics(phases, chains, self.sampler), **watched, log_distance=distance)
        return phases.loss + SIGNS[self.kl_sign] * (sampled - self._weight(x_model) * distance)

    def _start(self, x: Tensor) -> tuple[Float[Tensor, "batch *shape"], Int[Tensor, " batch"] | None]:
        return (x, None) if self.chains is None else self.chains.buffer.draw(len(x))

    def _weight(self, x: Tensor) -> float:
        """w of mean log ρ: of T H where none is given."""
        return self.sampler.temperature * x[0].numel() if self.entropy_weight is None else self.entropy_weight

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """The precision at which the expected gradient vanishes, with the entropy of the samples exact."""
        if self.entropy_weight is not None:
            raise UserError("improved_cd has a closed form for objective.entropy_weight=null only")
        if self.chains is not None and self.chains.restart_fraction:
            raise UserError("improved_cd has a closed form for objective.restart_fraction=0 only")
        return truth.map_eigenvalues(self._root)

    def _root(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        h, T, m = self.sampler.step_size(0), self.sampler.temperature, float(variance)
        unbiased = float(self.sampler.gaussian_precision(variance))
        last, sign = self.num_steps - 1, SIGNS[self.kl_sign]

        def slope(precision: float) -> float:
            stationary = T / (precision * (1 - h * precision / 2))
            decay = (1 - h * precision) ** (2 * last)
            before = stationary if self.chains is not None else stationary + decay * (m - stationary)
            return expected_slope(precision, m, before, h, T, sign)

        return variance.new_tensor(brentq(slope, 0.5 * unbiased, min(2 * unbiased, 1 / h)))

    def watch_chains(self, generator: torch.Generator) -> dict[str, float | Tensor]:
        """R̂ and effective draws of the buffer's energies."""
        return {} if self.chains is None else self.chains.mixing(self.energy, generator)

    def chain_state(self) -> dict[str, Any]:
        """The buffer's chains, ages, restarts; nothing where chains start at the data."""
        return {} if self.chains is None else self.chains.state_dict()

    def load_chain_state(self, state: dict[str, Any]) -> None:
        """Keep them until the buffer is made."""
        if self.chains is not None:
            self.chains.load_state_dict(state)


def expected_slope(
    precision: float, variance: float, before: float, step_size: float, temperature: float, sign: float
) -> float:
    """d/dλ of the loss on E = λx²/2 and data of variance m, from the variance v before the last step.

    v' = (1 - hλ)² v + 2hT has the derivative ∂v' = -2h (1 - hλ) v, and T KL(N(0, v') ‖ p_θ̄) the derivative
    ½ (λ - T/v') ∂v': together ½ (m - v') ± ½ (λ - T/v') ∂v'.
    """
    decay = 1 - step_size * precision
    after = decay**2 * before + 2 * step_size * temperature
    return 0.5 * (variance - after) - sign * (precision - temperature / after) * step_size * decay * before
