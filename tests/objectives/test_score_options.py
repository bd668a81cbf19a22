"""Options of the score family: each reaches the loss, which is the pure one on the same draws."""

import functools
import itertools
import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import Built, build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import Batch
from ebm_lab.data.point_sets import random_gaussian
from ebm_lab.draws import normal_like, signs_like, uniform
from ebm_lab.energies import VarianceExploding, VariancePreserving
from ebm_lab.errors import UserError
from ebm_lab.objectives.approximate_diagonal import approximate_diagonal_loss
from ebm_lab.objectives.boundary import weighted_loss
from ebm_lab.objectives.curvature_propagation import curvature_propagation_loss
from ebm_lab.objectives.diffclf import level_classification_loss, level_logits
from ebm_lab.objectives.dsm import denoising_loss, variance_reduced_denoising_loss
from ebm_lab.objectives.dual_score_matching import dual_score_loss
from ebm_lab.objectives.explicit_score_matching import explicit_loss
from ebm_lab.objectives.fd_dsm import finite_difference_denoising_loss
from ebm_lab.objectives.fd_ssm import finite_difference_loss
from ebm_lab.objectives.ladder_objective import noised
from ebm_lab.objectives.multiscale_dsm import multiscale_denoising_loss
from ebm_lab.objectives.ncsn import conditional_denoising_loss
from ebm_lab.objectives.ratio_matching import ratio_matching_loss
from ebm_lab.objectives.score_matching import implicit_loss
from ebm_lab.objectives.score_sde import diffusion_loss
from ebm_lab.objectives.shifted_nce import shifted_loss
from ebm_lab.objectives.slices import draw_slices
from ebm_lab.objectives.ssm import sliced_loss

F64 = torch.float64
DIM, NUM, WIDTH = 3, 5, 4
LEVELS = torch.tensor([0.5, 1.0, 2.0], dtype=F64)
EXPLODING = VarianceExploding(0.05, 8.0)  # of the config
LADDER = ("ladder.smallest=0.5", "ladder.largest=2.0", "ladder.num_levels=3")
OWN_DATA = {
    "nonnegative_score_matching": "nonnegative",
    "unit_score_matching": "unit",
    "ratio_matching": "boltzmann",
}
OWN_OPTIONS = {"ncsn": LADDER, "dual_score_matching": LADDER, "diffclf": LADDER}


def composed(*overrides: str) -> Built:
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=["logger=none", "output_dir=x", *overrides]))


def made(objective: str, *options: str, dim: int = DIM):
    """The objective in float64 with an energy that is nowhere flat, and events."""
    own = (*OWN_OPTIONS.get(objective, ()), *options)
    options = [option if "@" in option else f"objective.{option}" for option in own]  # sde@... is a group's
    data = [f"data={OWN_DATA.get(objective, 'gaussian')}", f"data.dim={dim}", "data.num_train=200"]
    network = [] if objective == "ratio_matching" else [f"energy.width={WIDTH}", "energy.depth=2"]
    built = composed(f"objective={objective}", *data, *network, *options)
    method = built.objective.double()
    for parameter in method.energy.parameters():
        torch.nn.init.normal_(parameter) if not parameter.any() else None
    return method, built.data.val_x[:NUM].double()


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@functools.cache
def both(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The objective's loss, and the one that is written out for the case."""
    method, x = made(*case.split())
    with method.drawing_from(draws()):
        loss = method.loss(Batch(x))
    return loss.detach(), CASES[case](method.energy, x, draws()).detach()


# --- each loss written out: the draws in their order, the option's number in its place ----------------------


def sliced(variance_reduced=True, slices="rademacher", num=1, sigma=0.0):
    def loss(energy, x, g):
        x = noisy(x.repeat_interleave(num, 0), sigma, g)
        return sliced_loss(energy, x, draw_slices(slices, x, g), variance_reduced)

    return loss


def differenced(epsilon=0.1, slices="rademacher", num=1, sigma=0.0):
    def loss(energy, x, g):
        x = noisy(x.repeat_interleave(num, 0), sigma, g)
        return finite_difference_loss(energy, x, draw_slices(slices, x, g), epsilon / math.sqrt(DIM))

    return loss


def noisy(x, sigma, g):
    return x + sigma * normal_like(x, g) if sigma else x


def denoised(pure, sigma=0.1):
    return lambda energy, x, g: pure(energy, x, normal_like(x, g), sigma)


def denoised_by_differences(sigma=0.1, epsilon=0.05):
    def loss(energy, x, g):
        z, v = normal_like(x, g), normal_like(x, g)
        v = v / v.square().sum(1, keepdim=True).sqrt()  # of length 1
        return finite_difference_denoising_loss(energy, x, z, v, sigma, epsilon)

    return loss


def explicit(sigma):
    def loss(energy, x, g):
        covariance = random_gaussian(DIM).covariance + sigma**2 * torch.eye(DIM, dtype=F64)
        y = noisy(x, sigma, g)
        return explicit_loss(energy, y, -torch.linalg.solve(covariance, y.T).T)

    return loss


def propagated(num=1, sigma=0.0):
    def loss(energy, x, g):
        x = noisy(x.repeat_interleave(num, 0), sigma, g)
        signs = [signs_like(torch.empty(len(x), WIDTH, dtype=F64), g) for _ in range(2)]  # two hidden layers
        return curvature_propagation_loss(energy, x, signs)

    return loss


def multiscale(sigma_at, target=0.1):
    def loss(energy, x, g):
        sigma = sigma_at(uniform((NUM,), x, g))
        return multiscale_denoising_loss(energy, x, normal_like(x, g), sigma, target)

    return loss


def at_levels(energy, x, g):
    """Every level with weight σ²: w = 1."""
    sigma = LEVELS[torch.randint(3, (NUM,), generator=g)]
    return conditional_denoising_loss(energy, x, normal_like(x, g), sigma)


def along_a_diffusion(sde, weighting="variance", smallest=1e-3):
    def loss(energy, x, g):
        t = smallest + (1 - smallest) * uniform((NUM,), x, g)
        return diffusion_loss(energy, x, normal_like(x, g), t, sde, weighting)

    return loss


def dual(weight):
    def loss(energy, x, g):
        sigma = 0.5 * 4 ** uniform((NUM,), x, g)
        return dual_score_loss(energy, x, normal_like(x, g), sigma, weight)

    return loss


def classified(weight):
    def loss(energy, x, g):
        levels = torch.randint(3, (NUM,), generator=g)
        z, sigma = normal_like(x, g), LEVELS[levels]
        logits = level_logits(energy, noised(x, sigma, z), LEVELS)
        matching = conditional_denoising_loss(energy, x, z, sigma)
        return matching + weight * level_classification_loss(logits, levels)

    return loss


def weighted(weight_and_slope):
    return lambda energy, x, g: weighted_loss(energy, x, *weight_and_slope(x))


def flipped(num):
    return lambda energy, x, g: ratio_matching_loss(energy, x, torch.randint(DIM, (NUM, num), generator=g))


CASES = {
    "ssm variance_reduced=true": sliced(),
    "ssm variance_reduced=false": sliced(variance_reduced=False),
    "ssm slices=gaussian": sliced(slices="gaussian"),
    "ssm slices=sphere": sliced(slices="sphere"),
    "ssm num_slices=3": sliced(num=3),
    "ssm sigma=0.5": sliced(sigma=0.5),
    "fd_ssm epsilon=0.1": differenced(),
    "fd_ssm epsilon=1.5": differenced(epsilon=1.5),
    "fd_ssm slices=gaussian": differenced(slices="gaussian"),
    "fd_ssm slices=sphere": differenced(slices="sphere"),
    "fd_ssm num_slices=3": differenced(num=3),
    "fd_ssm sigma=0.5": differenced(sigma=0.5),
    "dsm variance_reduced=false": denoised(denoising_loss),
    "dsm variance_reduced=true": denoised(variance_reduced_denoising_loss),
    "dsm sigma=0.5": denoised(denoising_loss, 0.5),
    "fd_dsm epsilon=0.05": denoised_by_differences(),
    "fd_dsm epsilon=1.5": denoised_by_differences(epsilon=1.5),
    "fd_dsm sigma=0.5": denoised_by_differences(sigma=0.5),
    "score_matching sigma=0": lambda energy, x, g: implicit_loss(energy, x),
    "score_matching sigma=0.5": lambda energy, x, g: implicit_loss(energy, noisy(x, 0.5, g)),
    "explicit_score_matching sigma=0": explicit(0.0),
    "explicit_score_matching sigma=0.5": explicit(0.5),
    "approximate_diagonal sigma=0": lambda energy, x, g: approximate_diagonal_loss(energy, x),
    "approximate_diagonal sigma=0.5": lambda energy, x, g: approximate_diagonal_loss(
        energy, noisy(x, 0.5, g)
    ),
    "curvature_propagation num_draws=1": propagated(),
    "curvature_propagation num_draws=3": propagated(num=3),
    "curvature_propagation sigma=0.5": propagated(sigma=0.5),
    "shifted_nce scale=0.1": lambda energy, x, g: shifted_loss(energy, x, 0.1 * signs_like(x, g)),
    "shifted_nce scale=0.7": lambda energy, x, g: shifted_loss(energy, x, 0.7 * signs_like(x, g)),
    "multiscale_dsm spacing=geometric": multiscale(lambda u: 0.05 * 60**u),
    "multiscale_dsm spacing=linear": multiscale(lambda u: 0.05 + 2.95 * u),
    "multiscale_dsm smallest=0.3": multiscale(lambda u: 0.3 * 10**u),
    "multiscale_dsm largest=0.5": multiscale(lambda u: 0.05 * 10**u),
    "multiscale_dsm sigma=0.4": multiscale(lambda u: 0.05 * 60**u, target=0.4),
    "ncsn": at_levels,
    "score_sde weighting=variance": along_a_diffusion(EXPLODING),
    "score_sde weighting=likelihood": along_a_diffusion(EXPLODING, "likelihood"),
    "score_sde smallest_time=0.4": along_a_diffusion(EXPLODING, smallest=0.4),
    "score_sde sde@objective.sde=vp": along_a_diffusion(VariancePreserving()),
    "dual_score_matching level_weight=0": dual(0.0),
    "dual_score_matching level_weight=1": dual(1.0),
    "dual_score_matching level_weight=3": dual(3.0),
    "diffclf classification_weight=0": classified(0.0),
    "diffclf classification_weight=1": classified(1.0),
    "diffclf classification_weight=3": classified(3.0),
    "nonnegative_score_matching weight=square": weighted(lambda x: (x**2, 2 * x)),
    "nonnegative_score_matching weight=linear": weighted(lambda x: (x, torch.ones_like(x))),
    "nonnegative_score_matching weight=clipped clip=0.4": weighted(
        lambda x: (x.clamp(max=0.4), (x < 0.4).double())
    ),
    "unit_score_matching weight=square": weighted(lambda x: ((x - x**2) ** 2, 2 * (x - x**2) * (1 - 2 * x))),
    "unit_score_matching weight=linear": weighted(lambda x: (0.5 - (x - 0.5).abs(), (0.5 - x).sign())),
    "unit_score_matching weight=clipped clip=0.2": weighted(
        lambda x: ((0.5 - (x - 0.5).abs()).clamp(max=0.2), (x < 0.2).double() - (x > 0.8).double())
    ),
    "ratio_matching num_flips=null": lambda energy, x, g: ratio_matching_loss(energy, x),
    "ratio_matching num_flips=1": flipped(1),
    "ratio_matching num_flips=2": flipped(2),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_the_pure_one_on_the_same_draws(case):
    loss, expected = both(case)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", sorted({case.split()[0] for case in CASES}))
def test_no_two_settings_have_one_loss(objective):
    """Else the comparison above would not tell them apart."""
    losses = {case: both(case)[1].item() for case in CASES if case.split()[0] == objective}
    for one, other in itertools.combinations(losses, 2):
        assert losses[one] != pytest.approx(losses[other], rel=1e-6), (one, other)


def test_flips_of_all_sites_are_not_drawn():
    """As many flips as sites are each site once, whatever the generator says."""
    method, x = made("ratio_matching", f"num_flips={DIM}")
    torch.testing.assert_close(method.loss(Batch(x)), ratio_matching_loss(method.energy, x))


@pytest.mark.parametrize(("data", "sigma"), [("gaussian", 0.0), ("digits", 0.35)])
def test_dequantised_images_alone_are_noised_unless_told_otherwise(data, sigma):
    method = composed("objective=ssm", "objective.sigma=null", f"data={data}").objective
    assert method.sigma == sigma
    x = torch.zeros(100, 50)  # 4 standard errors of 5000 draws' deviation are 4 %
    assert method.corrupted(x).std().item() == pytest.approx(sigma, rel=0.04)


def test_the_jumps_of_dequantised_images_are_refused():
    with pytest.raises(
        UserError, match="SlicedScoreMatching on dequantised images needs objective.sigma > 0"
    ):
        composed("objective=ssm", "objective.sigma=0", "data=digits")


@pytest.mark.parametrize("objective", ["score_matching", "nonnegative_score_matching", "unit_score_matching"])
@pytest.mark.parametrize(("chunk_size", "num_chunks"), [("null", 0), ("4", 2)])
def test_chunks_are_as_large_as_asked(objective, chunk_size, num_chunks):
    """A chunk of less than all six coordinates is one rebuilt node of the loss's graph."""
    method, x = made(objective, f"chunk_size={chunk_size}", dim=6)
    nodes, todo = set(), [method.loss(Batch(x)).grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            todo += [following for following, _ in node.next_functions]
    assert sum("Rebuilt" in node.name() for node in nodes) == num_chunks
