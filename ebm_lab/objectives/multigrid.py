"""Multi-grid MCMC: an energy a resolution, whose short chains start at the samples of the coarser one."""

from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.domains import check_domain
from ebm_lab.energies import Energy
from ebm_lab.errors import UserError
from ebm_lab.noise import Gaussian
from ebm_lab.objectives.known_truth import GaussianImagesTruth, GaussianTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics, check_chain_length
from ebm_lab.objectives.objective import Objective, Parts, Player, fit_parts
from ebm_lab.objectives.short_run import short_run_precision
from ebm_lab.samplers import Chains, Kernel, Langevin, run_chains

Shape = tuple[int, int, int]


def pool(x: Float[Tensor, "batch channels height width"], shape: Shape) -> Tensor:
    """Images on a coarser grid: the mean over blocks of pixels.

    Args:
        x: images.
        shape: (channels, height, width) of the coarser ones, whose edges divide those of x.
    """
    block = x.shape[-2] // shape[-2], x.shape[-1] // shape[-1]
    return x if block == (1, 1) else avg_pool2d(x, block)


def upsample(x: Float[Tensor, "batch channels height width"], shape: Shape) -> Tensor:
    """Images on a finer grid, each pixel a block of its value: `pool` of it is x."""
    rows, columns = shape[-2] // x.shape[-2], shape[-1] // x.shape[-1]
    return x.repeat_interleave(rows, -2).repeat_interleave(columns, -1)


class MultiGrid(Objective):
    """One energy a grid: negatives are K kernel steps from the upsampled negatives of the grid below.

        x₀ = mean image of a draw from the noise, 1 x 1
        x_g = K kernel steps on E_g from upsample(x_{g-1}),  g = 1, ..., G
        loss = Σ_g  E_g(pool_g(x)) - E_g(x_g)

    Each energy learns what its own grid adds: coarse structure is in place where its chains start, so that
    they are short where a short run from noise would be long. As in short-run MCMC what is learned is the
    map from x₀ to x_G, and samples are made by it; exp(-E_G) is not the density of the data. The run's
    energy is that of the full grid.

    Args:
        grids: energies of the coarser grids by names of one's own, each with the shape of its images; None
            leaves a grid out. Edges must divide those of the next.
        num_steps: K, kernel steps on each grid, the same in training and in generation.
        energy_penalty: α of α (mean E(x)² + mean E(x_g)²) on each grid; 0 is off.

    Raises:
        ValueError: for shapes that are no grids of one image, or a number out of range.
    Cost: K forwards and input gradients, and one parameter gradient on two batches, on every grid; with edges
        that double the coarser grids add a third of the pixels.
    Notes: 1. In the paper the chains of training start at the mean image of the training image itself. Here
        all start at mean images of the run's noise, which is fitted to the data, so that training and
        generation run the same map. 2. The paper's grids are of 4, 16 and 64 pixels an edge; here edges
        double. 3. One kernel, with one step, serves all grids; the mean over a block is less noisy than a
        pixel, so the coarser grid may ask for the smaller step. 4. The losses are added to share an
        optimizer; the gradient of each energy is that of its own.
    Reference: Gao, Lu, Zhou, Zhu & Wu 2018, Learning Generative ConvNets via Multi-grid Modeling and
        Sampling, CVPR, arXiv 1709.08868, algorithm 1.
    """

    domains = frozenset({"image"})
    trains_by_sampling = True
    truth = GaussianImagesTruth
    truth_overrides = (
        "energy@objective.grids.quarter=quadratic",
        "energy@objective.grids.half=quadratic",
        "objective.num_steps=10",  # so short that the root lies far from the truth
        # As little more variance in the mean image as such data can have: at the 200 times that of details
        # of the usual data its precision drowns in the optimizer's noise.
        "data.density.smallest=0.3",
        "data.density.largest=0.3",
    )
    notes = (
        "Multi-grid learns the chains from grid to grid, which match moments of their own samples: judge the "
        "samples; exp(-E) of the full grid is not the data's density, whatever the divergences below say.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        grids: Mapping[str, Energy | None],
        num_steps: int = 30,
        energy_penalty: float = 0.0,
    ) -> None:
        super().__init__(parts)
        check_chain_length(num_steps, energy_penalty)
        coarse = [energy for energy in grids.values() if energy is not None]
        self.coarse = nn.ModuleList(sorted(coarse, key=lambda energy: energy.shape[-1]))
        _check_grids([tuple(energy.shape) for energy in self.energies])
        for energy in self.coarse:
            energy.register_forward_pre_hook(self._count_evaluations)
        self.num_steps = num_steps
        self.energy_penalty = energy_penalty

    @property
    def energies(self) -> list[Energy]:
        """One a grid, the coarsest first, the run's energy last."""
        return [*self.coarse, self.energy]

    def players(self) -> dict[str, Player]:
        """All energies, one player."""
        return {"energy": Player(self.loss, nn.ModuleList(self.energies), self.optimization)}

    def check(self, data: InMemoryData) -> None:
        """The coarser energies must take images too."""
        super().check(data)
        for energy in self.coarse:
            check_domain("energy", energy, data.domain)
            self.sampler.check(energy)

    def fit_densities(self, x: Float[Tensor, "num *shape"], label: Tensor | None = None) -> None:
        """Fit the noise and the base terms, each to events of its own grid."""
        fit_parts(self.noise, x, label)
        for energy in self.energies:
            fit_parts(energy, pool(x, energy.shape), label)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogates of all grids, added."""
        loss = torch.zeros((), device=batch.x.device)
        for energy, chains in self._chains(len(batch.x), self.sampler, self.generator):
            x = pool(batch.x, energy.shape)
            phases = likelihood_surrogate(energy, x, chains.x, self.energy_penalty)
            loss = loss + phases.loss
            seen = chain_metrics(phases, chains, self.sampler)
            self.record(**seen, **{f"energy_gap_{energy.shape[-1]}": seen["energy_gap"]})
        return loss

    def claims_likelihood(self) -> bool:
        """Never: exp(-E) is not the law that was trained."""
        return False

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """From grid to grid, K steps of the training kernel on each, whatever `kernel` says."""
        for _, chains in self._chains(num, self.sampler.freeze(), generator):
            x = chains.x
        return x

    def _chains(
        self, num: int, kernel: Kernel, generator: torch.Generator
    ) -> Iterator[tuple[Energy, Chains]]:
        """Each grid's energy and its chains, the coarsest first."""
        x = pool(self.noise.sample(num, generator), (self.energy.shape[0], 1, 1))
        for energy in self.energies:
            start = upsample(x, energy.shape)
            chains = run_chains(kernel, energy, start, self.num_steps, generator)
            yield energy, chains
            x = chains.x

    def answer(self, truth: GaussianTruth) -> list[Float[Tensor, "pixels pixels"]]:
        """The precision of each grid at which K steps from its start end with the law of the pooled data.

        Where the grids below are right, a start has the data's own variance in coarse directions and none in
        the others. That is exact for a covariance that commutes with the mean over blocks.
        """
        if not isinstance(self.sampler, Langevin) or self.sampler.temperature != 1:
            raise UserError("multigrid has a closed form for sampler=langevin at temperature 1 only")
        if not isinstance(self.noise, Gaussian):
            raise UserError("multigrid has a closed form for noise=gaussian only")
        below, precisions = (self.energy.shape[0], 1, 1), []
        for energy in self.energies:
            data = self._pooled(truth, energy.shape)
            coarse = self._pooled(truth, below)
            spread = _matrix(lambda x, shape=energy.shape: upsample(x, shape), below)
            start = spread.T @ coarse.covariance @ spread
            precisions.append(self._root(data, start))
            below = energy.shape
        return precisions

    def _root(self, data: GaussianTruth, start: Float[Tensor, "pixels pixels"]) -> Tensor:
        """In each direction of the data the λ of a short run from the variance that the start has there."""
        if not torch.allclose(data.covariance @ start, start @ data.covariance):
            raise UserError("multigrid has a closed form for data=gaussian_images only")
        variances, vectors = torch.linalg.eigh(data.covariance)
        of_start = (vectors.T @ start @ vectors).diagonal().clamp(min=0)
        h = self.sampler.step_size(0)
        roots = [
            short_run_precision(float(m), h, self.num_steps, float(s))
            for m, s in zip(variances, of_start, strict=True)
        ]
        return vectors @ torch.diag(torch.stack(roots).to(variances)) @ vectors.T

    def _pooled(self, truth: GaussianTruth, shape: Shape) -> GaussianTruth:
        """The law of the data on a coarser grid."""
        means = _matrix(lambda x: pool(x, shape), self.energy.shape)
        return GaussianTruth(means.T @ truth.covariance @ means)

    def known_truth(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """The numbers of every grid."""
        return self._by_grid([truth.expected(precision) for precision in self.answer(truth)])

    def learned(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of the trained energies."""
        return self._by_grid([truth.learned(energy) for energy in self.energies])

    def _by_grid(self, numbers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {
            f"{name}, grid {energy.shape[-1]}": value
            for energy, found in zip(self.energies, numbers, strict=True)
            for name, value in found.items()
        }

    def place(self, truth: GaussianTruth, factor: float) -> dict[nn.Parameter, Tensor]:
        """Every grid at `factor` times its precision; the direction in which all of them grow."""
        direction: dict[nn.Parameter, Tensor] = {}
        for energy, precision in zip(self.energies, self.answer(truth), strict=True):
            direction |= truth.place(energy, factor * precision)
        return direction


def _matrix(function: Callable[[Tensor], Tensor], shape: Shape) -> Float[Tensor, "inputs outputs"]:
    """A linear map of images as a matrix that flattened images are multiplied with from the left."""
    num = shape[0] * shape[1] * shape[2]
    return function(torch.eye(num, dtype=torch.float64).view(num, *shape)).flatten(1)


def _check_grids(shapes: list[tuple[int, ...]]) -> None:
    for coarse, fine in zip(shapes, shapes[1:], strict=False):
        nested = len(coarse) == len(fine) == 3 and coarse[0] == fine[0] and coarse != fine
        if not nested or fine[1] % coarse[1] or fine[2] % coarse[2]:
            raise ValueError(
                f"a grid of {list(coarse)} does not divide one of {list(fine)}: set objective.grids.*.shape "
                "to [channels, height, width] with edges that divide those of the next, or a grid to null"
            )
