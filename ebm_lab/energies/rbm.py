"""The restricted Boltzmann machine, its hidden units summed out."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from ebm_lab.domains import BINARY
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.path import AnnealingPath
from ebm_lab.energies.states import CHUNK, binary_states, check_terms
from ebm_lab.errors import UserError


class RBM(Energy):
    """F(v) = -aᵀv - Σ_j softplus(b_j + W_jᵀv): the free energy of E(v, h) = -aᵀv - bᵀh - vᵀWh.

    p(v) = Σ_h exp(-E(v, h)) / Z over v, h of {0, 1}. Given one layer the units of the other are independent,
    p(h_j = 1 | v) = σ(b_j + W_jᵀv) and p(v_i = 1 | h) = σ(a_i + W_i h): block Gibbs is exact.

    Args:
        shape: shape of one event; it is flattened into visible units.
        num_hidden: hidden units.
        scale: standard deviation of the weights at the start; biases start at 0.

    Raises:
        ValueError: for no hidden unit or a negative scale.
    Cost: visible · hidden operations an event.
    Reference: Smolensky 1986; Hinton, A practical guide to training restricted Boltzmann machines, 2010
        (scale .01); Salakhutdinov & Murray, On the quantitative analysis of deep belief networks, ICML 2008.
    """

    domains = BINARY

    def __init__(self, shape: tuple[int, ...], *, num_hidden: int = 500, scale: float = 0.01) -> None:
        super().__init__()
        if num_hidden < 1 or scale < 0:
            raise ValueError(
                f"num_hidden must be at least 1 and scale at least 0, got {num_hidden} and {scale}"
            )
        self.shape = tuple(shape)
        num_visible = math.prod(self.shape)
        self.weight = nn.Parameter(torch.zeros(num_visible, num_hidden))
        self.visible_bias = nn.Parameter(torch.zeros(num_visible))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))
        if scale:
            nn.init.normal_(self.weight, std=scale)

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """The free energy F(v)."""
        return self.free_energy(x, self.hidden_logits(x))

    def free_energy(
        self, x: Float[Tensor, "batch *shape"], hidden_logits: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, " batch"]:
        """F(v) where the logits of the hidden units are known already."""
        return -(x.flatten(1) @ self.visible_bias) - softplus(hidden_logits).sum(1)

    def joint_energy(
        self, x: Float[Tensor, "batch *shape"], hidden: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, " batch"]:
        """E(v, h) = -aᵀv - bᵀh - vᵀWh."""
        visible = x.flatten(1)
        return -(visible @ self.visible_bias) - (self.hidden_logits(x) * hidden).sum(1)

    def hidden_logits(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch hidden"]:
        """log odds of p(h_j = 1 | v): b + vᵀW."""
        return torch.addmm(self.hidden_bias, x.flatten(1), self.weight)

    def visible_logits(self, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch *shape"]:
        """log odds of p(v_i = 1 | h): a + W h."""
        return torch.addmm(self.visible_bias, hidden, self.weight.T).view(-1, *self.shape)

    @property
    def num_terms(self) -> int:
        """Terms of the sum behind `log_partition`: 2^(smaller layer), or 1 without couplings."""
        return 2 ** min(self.weight.shape) if self.weight.any() else 1

    @torch.no_grad()
    def log_partition(self) -> Float[Tensor, ""]:
        """log Z in float64, by the sum over all states of the smaller layer.

        log Σ_h exp(bᵀh + Σ_i softplus(a_i + W_i h)), or the same with the layers exchanged.

        Raises:
            ValueError: for more than 25 units in the smaller layer, unless W = 0.
        Cost: 2^(smaller layer) · visible · hidden operations; 784-20 takes some ten seconds on one core.
        """
        a, b, weight = (p.double() for p in (self.visible_bias, self.hidden_bias, self.weight))
        if self.num_terms == 1:
            return softplus(a).sum() + softplus(b).sum()
        if len(a) < len(b):
            a, b, weight = b, a, weight.T
        check_terms(self.num_terms)
        sums = [(h @ b + softplus(a + h @ weight.T).sum(1)).logsumexp(0) for h in _states(len(b), b.device)]
        return torch.stack(sums).logsumexp(0)

    def path_from(self, base_bias: Float[Tensor, " visible"], beta: float) -> "RBM":
        """The machine at β on the path from independent units to this one, itself an RBM, without gradients.

            F_β(v) = -((1 - β) a₀ + β a)ᵀ v - Σ_j softplus(β (b_j + W_jᵀ v))

        At β = 0, log Z = Σ_i softplus(a₀_i) + hidden · log 2, which `log_partition` knows; at β = 1 it is
        this machine. Block Gibbs is exact at every β.

        Args:
            base_bias: a₀, log odds of the visible units at β = 0, best those of the data's means.
            beta: β in [0, 1].

        Reference: Salakhutdinov & Murray 2008, section 4.1, with a base of as many hidden units, of bias 0.
        """
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must lie in [0, 1], got {beta}")
        bias = (1 - beta) * base_bias.flatten() + beta * self.visible_bias
        values = {"weight": beta * self.weight, "visible_bias": bias, "hidden_bias": beta * self.hidden_bias}
        between = RBM(self.shape, num_hidden=1, scale=0.0)
        for name, value in values.items():
            setattr(between, name, nn.Parameter(value.detach(), requires_grad=False))
        return between.eval()

    def annealing_path(self, noise: nn.Module) -> "RBMPath":
        """From the fitted Bernoulli noise to this machine.

        Raises:
            UserError: for noise without log odds.
        """
        if not hasattr(noise, "logits"):
            raise UserError(f"an RBM is annealed from noise=bernoulli, the run has {type(noise).__name__}")
        return RBMPath(self, noise.logits)


class RBMPath(AnnealingPath):
    """From independent sites to an RBM through the machines between, on each of which block Gibbs is exact.

    Args:
        machine: the RBM at β = 1.
        base_bias: log odds of the sites at β = 0.

    Reference: Salakhutdinov & Murray 2008, section 4.1.
    """

    def __init__(self, machine: RBM, base_bias: Float[Tensor, "*shape"]) -> None:
        self.machine = machine
        self.base_bias = base_bias
        self.log_z_start = float(self(0.0).log_partition())

    def __call__(self, beta: float) -> RBM:
        """The machine at β; the given one at β = 1."""
        return self.machine if beta == 1 else self.machine.path_from(self.base_bias, beta)

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent sites."""
        return torch.bernoulli(self.base_bias.sigmoid().expand(num, *self.machine.shape), generator=generator)

    def weigh(
        self, x: Float[Tensor, "batch *shape"], beta: float
    ) -> Callable[[float], Float[Tensor, " batch"]]:
        """β' -> F_β(v) - F_β'(v): one product with W for any number of β', and no machine is built."""
        visible = x.flatten(1)
        start, own = visible @ self.base_bias.flatten(), visible @ self.machine.visible_bias
        logits = self.machine.hidden_logits(x)

        def free_energy(at: float) -> Float[Tensor, " batch"]:
            return -((1 - at) * start + at * own) - softplus(at * logits).sum(1)

        before = free_energy(beta)
        return lambda next_beta: before - free_energy(next_beta)


def _states(num: int, device: torch.device) -> Iterator[Float[Tensor, "states num"]]:
    for numbers in torch.arange(2**num, device=device).split(CHUNK // 4):
        yield binary_states(num, numbers)
