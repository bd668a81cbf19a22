"""Multi-grid: chains from grid to grid, each a short run from its own start, and the law that they leave."""

import functools
import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import haar_images
from ebm_lab.data.batch import Batch
from ebm_lab.energies import Quadratic
from ebm_lab.errors import UserError
from ebm_lab.noise import Gaussian, StandardGaussian
from ebm_lab.objectives import GaussianImagesTruth, MultiGrid, Optimization, Parts
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.multigrid import pool, upsample
from ebm_lab.samplers import MALA, Langevin, run_chains

F64 = torch.float64
SHAPES = [(1, 2, 2), (1, 4, 4), (1, 8, 8)]
LAW = haar_images(8)
TRUTH = GaussianImagesTruth(LAW.covariance)


def objective(shapes=SHAPES, noise=None, sampler=None, **options) -> MultiGrid:
    """Quadratic energies on the grids, the noise fitted to draws of LAW."""
    *coarse, full = shapes
    optimization = Optimization(algorithm=functools.partial(torch.optim.SGD), lr=0.1)
    parts = Parts(Quadratic(full), sampler or Langevin(0.1), noise or Gaussian(full, ridge=0.0), optimization)
    grids = {str(number): shape and Quadratic(shape) for number, shape in enumerate(coarse)}
    method = MultiGrid(parts, grids=grids, **{"num_steps": 10, **options}).double()
    if isinstance(method.noise, Gaussian) and full == SHAPES[-1]:
        method.noise.fit(draws(20_000, seed=1))
    return method


def draws(num: int, seed: int = 0) -> torch.Tensor:
    return LAW.sample(num, torch.Generator().manual_seed(seed), F64)


@pytest.mark.parametrize(
    ("coarse", "fine"), [((1, 2, 2), (1, 8, 8)), ((3, 1, 1), (3, 7, 7)), ((2, 3, 2), (2, 6, 8))]
)
def test_pooling_undoes_upsampling_and_is_its_adjoint(coarse, fine, generator):
    """pool(upsample(x)) = x, and ⟨pool(x), y⟩ = ⟨x, upsample(y)⟩ over the pixels of a block."""
    x = torch.randn(4, *fine, generator=generator, dtype=F64)
    y = torch.randn(4, *coarse, generator=generator, dtype=F64)
    torch.testing.assert_close(pool(upsample(y, fine), coarse), y, rtol=1e-14, atol=1e-14)
    pixels = fine[1] * fine[2] / (coarse[1] * coarse[2])
    torch.testing.assert_close((pool(x, coarse) * y).sum(), (x * upsample(y, fine)).sum() / pixels)


def test_each_grid_has_the_gradient_of_a_short_run_from_its_own_start():
    """Loop by hand with the same draws, the start of each grid the samples of the one before."""
    method, x = objective(), draws(50)
    with method.drawing_from(torch.Generator().manual_seed(7)):
        loss = method.loss(Batch(x))
    names = [name for name, _ in method.named_parameters()]
    found = torch.autograd.grad(loss, list(method.parameters()), allow_unused=True)
    generator = torch.Generator().manual_seed(7)
    below = method.noise.sample(50, generator).mean((2, 3), keepdim=True)
    expected = {}
    for energy, side in zip((*method.coarse, method.energy), (2, 4, 8), strict=True):
        start = below.repeat_interleave(side // below.shape[-1], 2).repeat_interleave(
            side // below.shape[-1], 3
        )
        below = run_chains(method.sampler, energy, start, 10, generator).x
        pooled = x.unfold(2, 8 // side, 8 // side).unfold(3, 8 // side, 8 // side).mean((-2, -1))
        alone = likelihood_surrogate(energy, pooled, below).loss
        gradients = torch.autograd.grad(alone, list(energy.parameters()))
        expected |= {id(p): g for p, g in zip(energy.parameters(), gradients, strict=True)}
        gap = method.metrics[f"energy_gap_{side}"]
        torch.testing.assert_close(gap, alone.detach())
    for name, parameter, gradient in zip(names, method.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, expected[id(parameter)], msg=name)


def test_at_the_root_chains_end_with_the_law_of_every_grid():
    """Cov <- (1 - hP) Cov (1 - hP) + 2h, K times from the upsampled law of the grid below, for all grids."""
    method = objective()
    spreads = [
        torch.kron(*[torch.eye(n, dtype=F64).repeat_interleave(r, 0)] * 2)
        for n, r in ((1, 2), (2, 2), (4, 2))
    ]
    pooled = [TRUTH.covariance]
    for spread in reversed(spreads):
        pooled.insert(0, spread.T @ pooled[0] @ spread / 16)
    assert pooled[0].item() == pytest.approx(1.5)  # v_0, of the mean image
    for grid, precision in enumerate(method.answer(TRUTH)):
        covariance = spreads[grid] @ pooled[grid] @ spreads[grid].T
        kept = torch.eye(len(precision), dtype=F64) - 0.1 * precision
        for _ in range(10):
            covariance = kept @ covariance @ kept + 0.2 * torch.eye(len(precision), dtype=F64)
        torch.testing.assert_close(covariance, pooled[grid + 1], rtol=1e-8, atol=1e-8)
        # and it is not the precision of the data: the details had but ten steps to spread
        assert (precision - torch.linalg.inv(pooled[grid + 1])).abs().max() > 0.02


def test_samples_of_a_trained_run_have_the_data_s_law_whatever_kernel_is_asked_for(generator):
    """Variances of the 64 Haar directions within 4.5 standard errors, 1 false alarm in 2000."""
    method, num = objective(), 4_000
    method.place(TRUTH, 1.0)
    x = method.generate(num, MALA(0.5), 0, generator).flatten(1)
    variances, vectors = torch.linalg.eigh(TRUTH.covariance)
    ratio = (x @ vectors).square().mean(0) / variances
    assert ((ratio - 1).abs() < 4.5 * math.sqrt(2 / num)).all()
    method.place(TRUTH, 0.5)
    wide = method.generate(num, MALA(0.5), 0, generator).flatten(1)
    assert wide.square().mean() > 1.2 * x.square().mean()


def test_all_grids_are_one_player_and_their_evaluations_count():
    method = objective()
    assert set(method.players()["energy"].module.parameters()) == set(method.parameters())
    method.loss(Batch(draws(5)))
    assert method.energy_evaluations == 3 * (5 * 10 + 10)


def compose(*overrides: str):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=["objective=multigrid", "logger=none", *overrides])


def test_base_terms_are_fitted_to_the_pooled_data():
    built = build(compose("data=digits", "objective.grids.half=null"))
    method, x = built.objective, built.data.train_x
    assert [tuple(energy.shape) for energy in method.energies] == [(1, 2, 2), (1, 8, 8)]
    for energy, of_grid in zip(
        method.energies, (x.unfold(2, 4, 4).unfold(3, 4, 4).mean((-2, -1)), x), strict=True
    ):
        torch.testing.assert_close(energy.base.density.mean, of_grid.mean(0))


@pytest.mark.parametrize(
    ("data", "edges"), [("digits", (2, 4, 8)), ("mnist", (7, 14, 28)), ("cifar10", (8, 16, 32))]
)
def test_grids_follow_the_image(data, edges):
    cfg = compose(f"data={data}", "output_dir=x")
    shapes = [cfg.objective.grids.quarter.shape, cfg.objective.grids.half.shape, cfg.energy.shape]
    assert [tuple(shape[1:]) for shape in shapes] == [(edge, edge) for edge in edges]


def test_what_are_no_grids_is_refused():
    for shapes in (
        [(1, 3, 3), (1, 8, 8)],
        [(3, 4, 4), (1, 8, 8)],
        [(1, 8, 8), (1, 8, 8)],
        [(16,), (1, 8, 8)],
    ):
        with pytest.raises(ValueError, match="does not divide one of"):
            objective(shapes)
    with pytest.raises(
        UserError, match=r"objective: a grid of \[1, 2, 2\] does not divide one of \[1, 5, 5\]"
    ):
        build(
            compose(
                "data=digits", "objective.grids.quarter.shape=[1,2,2]", "objective.grids.half.shape=[1,5,5]"
            )
        )
    for options, message in (
        ({"sampler": MALA(0.1)}, "for sampler=langevin at temperature 1 only"),
        ({"noise": StandardGaussian((1, 8, 8))}, "for noise=gaussian only"),
    ):
        with pytest.raises(UserError, match=message):
            objective(**options).answer(TRUTH)
    mixed = torch.linspace(0.5, 1.5, 64, dtype=F64).diag()
    with pytest.raises(UserError, match="for data=gaussian_images only"):
        objective().answer(GaussianImagesTruth(mixed))
