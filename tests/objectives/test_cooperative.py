"""Cooperative training: what both players share, and where the generator stands still."""

import functools

import pytest
import torch
from pytorch_lightning import Trainer

from ebm_lab.callbacks import Budget
from ebm_lab.data.batch import Batch
from ebm_lab.energies import Quadratic
from ebm_lab.errors import UserError
from ebm_lab.generators import MLPGenerator
from ebm_lab.noise import StandardGaussian
from ebm_lab.objectives import CooperativeTraining, GaussianTruth, Optimization, Parts
from ebm_lab.objectives.cooperative import reconstruction_loss
from ebm_lab.samplers import Langevin

F64 = torch.float64


def optimization(**options) -> Optimization:
    return Optimization(algorithm=functools.partial(torch.optim.SGD), lr=0.01, **options)


def objective(dim=1, step_size=0.1, micro_batches=(1, 1), **options) -> CooperativeTraining:
    parts = Parts(
        Quadratic((dim,)), Langevin(step_size), StandardGaussian((dim,)),
        optimization(micro_batches=micro_batches[0]),
    )  # fmt: skip
    return CooperativeTraining(
        parts,
        generator=MLPGenerator((dim,), latent_dim=dim, depth=0),
        generator_optimizer=optimization(micro_batches=micro_batches[1]),
        **options,
    )


def test_reconstruction_sums_over_features_and_teaches_the_generator_only():
    proposed = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=F64, requires_grad=True)
    refined = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=F64, requires_grad=True)
    loss = reconstruction_loss(proposed, refined)
    assert loss.item() == pytest.approx(3.5, abs=1e-12)
    loss.backward()
    torch.testing.assert_close(proposed.grad, (proposed - refined).detach())
    assert refined.grad is None


class Batches:
    """An endless loader of one batch."""

    def __iter__(self):
        while True:
            yield Batch(torch.ones(8, 1))

    def __len__(self):
        return 2**40


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_refined_events_are_drawn_once_an_iteration_for_both_players(micro_batches):
    """K evaluations of each chain and 2 of the loss; the generator's turn takes none, and none are left."""
    method = objective(num_steps=4, micro_batches=(micro_batches,) * 2)
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Budget(iterations=3)],
    )  # fmt: skip
    trainer.fit(method, Batches())
    assert method.energy_evaluations == 3 * (4 * 8 + 2 * 8)
    assert len(method._refined) == 0


class Sized:
    """What `check` asks of data."""

    domain, batch_size = "real", 8


def test_players_must_split_a_batch_alike():
    with pytest.raises(UserError, match="micro_batches=2 and objective.generator_optimizer.micro_batches=4"):
        objective(micro_batches=(2, 4)).check(Sized())
    with pytest.raises(ValueError, match="without noise a latent has no posterior"):
        objective(generator_noise=0.0)


VARIANCE, STEPS = 1.5, {"num_steps": 5, "generator_noise": 0.5}
INFERRED = {"inference_steps": 40, "inference_step_size": 0.3}
KEPT = {"inference_steps": 0}


def generator_slope(method, matrix: float) -> tuple[float, float]:
    """Mean and standard error over batches of d/dA ‖x̂ - A z‖² at A."""
    method.network.set_map(torch.tensor([[matrix]], dtype=F64))
    slopes = []
    for _ in range(12):
        batch = Batch(torch.zeros(1000, 1, dtype=F64))  # of the batch the generator sees its size only
        method.energy_loss(batch)
        loss = method.generator_loss(batch)
        slopes.append(torch.autograd.grad(loss, method.network.network[0].weight)[0].squeeze())
    slopes = torch.stack(slopes)
    return slopes.mean().item(), (slopes.std() / len(slopes) ** 0.5).item()


def test_with_inferred_latents_the_generator_rests_at_the_law_of_the_chains():
    """A² + σ² = the data's variance is stationary (4 standard errors), .8 and 1.25 times that A are not."""
    method, matrix = objective(**STEPS, **INFERRED).double(), (VARIANCE - 0.25) ** 0.5
    method.place(GaussianTruth(torch.tensor([[VARIANCE]], dtype=F64)), 1.0)
    mean, error = generator_slope(method, matrix)
    assert abs(mean) < 4 * error and error < 0.02
    assert generator_slope(method, 0.8 * matrix)[0] < -6 * error
    assert generator_slope(method, 1.25 * matrix)[0] > 6 * error


def test_with_kept_latents_the_generator_shrinks_as_the_chains_forget():
    """E[x̂ | z] = (1 - hλ)^K A z, so the slope is 2 A (1 - (1 - hλ)^K), and only A = 0 rests."""
    method, precision = objective(**STEPS, **KEPT).double(), 1.2
    method.energy.set_precision(torch.tensor([[precision]], dtype=F64))
    for matrix in (0.0, 0.7, 1.1):
        mean, error = generator_slope(method, matrix)
        assert abs(mean - 2 * matrix * (1 - (1 - 0.1 * precision) ** 5)) < 4 * error and error < 0.03


def test_each_way_has_its_own_truth():
    """Kept: K steps from N(0, σ²) end with the data's variance; inferred: the kernel leaves it as it is."""
    truth = GaussianTruth(torch.tensor([[0.9]], dtype=F64))
    kept, inferred = objective(**STEPS, **KEPT), objective(**STEPS, **INFERRED)
    precision, variance = kept.true_precision(truth).item(), 0.25
    for _ in range(5):
        variance = (1 - 0.1 * precision) ** 2 * variance + 0.2
    assert variance == pytest.approx(0.9, abs=1e-9)
    expected = (1 - (1 - 0.2 / 0.9) ** 0.5) / 0.1
    assert inferred.true_precision(truth).item() == pytest.approx(expected, abs=1e-12)
    assert kept.known_truth(truth)["trace(C)/d"].item() == pytest.approx(0.25)
    assert inferred.known_truth(truth)["trace(C)/d"].item() == pytest.approx(0.9)
    for method in (kept, inferred):
        method.double().place(truth, 1.0)
        for name, value in method.known_truth(truth).items():
            assert method.learned(truth)[name].item() == pytest.approx(value.item(), abs=1e-9)
    assert not kept.claims_likelihood() and inferred.claims_likelihood()
    assert "latents were kept" in kept.notes[0] and inferred.notes == ()
