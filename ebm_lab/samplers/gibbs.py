"""Single-site Gibbs sampling of discrete events, of any energy."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.draws import uniform
from ebm_lab.samplers.kernel import ExactKernel, Info, State, checked_energies
from ebm_lab.samplers.moves import moves_of

SCANS = ("systematic", "random")


class Gibbs(ExactKernel):
    """Gibbs sampling: sites one after another are drawn from their law given all others.

        p(x_i = c | others) ∝ exp(-E(x with x_i = c) / T)

    It leaves exp(-E/T) exactly invariant and rejects nothing. A systematic scan takes the sites in their
    order from a start that is drawn in every step, the same for all events, so that short runs favour no
    site; a random scan draws every site of every event by itself.

    Args:
        num_sites: site updates per step; None: as many as there are sites, a sweep.
        scan: systematic or random.
        domain: binary or categorical.
        temperature: T, positive.

    Raises:
        ValueError: a number outside of its range, or an unknown word.
        FloatingPointError: an energy that is not finite.
    Cost: an energy per site update (categorical: one per class), and one at the start; no gradient.
    Notes: a step of one update satisfies detailed balance, a systematic one of several only invariance.
    Reference: Geman & Geman 1984, Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of
        images, IEEE PAMI.
    """

    def __init__(
        self,
        num_sites: int | None = None,
        scan: str = "systematic",
        domain: str = "binary",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(temperature)
        if num_sites is not None and (isinstance(num_sites, bool) or num_sites < 1):
            raise ValueError(f"num_sites must be at least 1, or null for a sweep, got {num_sites!r}")
        if scan not in SCANS:
            raise ValueError(f"scan must be one of {', '.join(SCANS)}, got {scan!r}")
        self.num_sites = num_sites
        self.scan = scan
        self.moves = moves_of(domain)
        self.domains = frozenset({domain})

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies."""
        with torch.no_grad():
            return State(x.detach(), checked_energies(self, energy(x)), None, 0)

    @torch.no_grad()
    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Int[Tensor, "updates batch"], Float[Tensor, "updates batch"]] | None = None,
    ) -> tuple[State, Info]:
        """The updates of one step; `draw` is (sites, u)."""
        x, energies = state.x, state.energy
        sites, u = draw if draw is not None else self.draw(x, generator)
        for site, u_site in zip(sites, u, strict=True):
            x, energies = self.moves.resampled(energy, x, energies, site, self._temperature, u_site)
        after = State(x, checked_energies(self, energies, "move to"), None, state.step + 1)
        return after, Info(state.energy, None, None, None)

    def draw(
        self, x: Float[Tensor, "batch *shape"], generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "updates batch"], Float[Tensor, "updates batch"]]:
        """The sites of one step of chains at x, and a uniform for each."""
        total = self.moves.num_sites(x)
        num = self.num_sites or total
        at = {"generator": generator, "device": x.device}
        if self.scan == "random":
            sites = torch.randint(total, (num, len(x)), **at)
        else:
            first = torch.randint(total, (1,), **at)
            order = (first + torch.arange(num, device=x.device)) % total
            sites = order[:, None].expand(num, len(x))
        return sites, uniform((num, len(x)), x, generator)
