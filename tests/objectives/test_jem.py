"""The hybrid loss and what it leaves out, in numbers that a person can derive."""

import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import Batch
from ebm_lab.energies import ClassifierEnergy, NetworkClassifier
from ebm_lab.errors import UserError
from ebm_lab.objectives.calibration import accuracy, expected_calibration_error
from ebm_lab.objectives.jem import jem_loss
from ebm_lab.objectives.labelled_truth import ClassesTruth

SMALL = ["logger=none", "output_dir=x", "data.num_train=300", "data.batch_size=16"]


def made(*overrides: str):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=["objective=jem", *SMALL, *overrides]))


@pytest.fixture
def built():
    return made("data=gaussian_classes")


class Linear(ClassifierEnergy):
    """f(x) = W x + b on the line: E(x) = -log Σ_y exp(w_y x + b_y)."""

    def __init__(self, slopes, heights):
        super().__init__((1,), num_classes=len(slopes))
        self.slopes = torch.nn.Parameter(torch.tensor(slopes, dtype=torch.float64))
        self.heights = torch.nn.Parameter(torch.tensor(heights, dtype=torch.float64))

    def class_logits(self, x):
        return x * self.slopes + self.heights


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


# --- the loss ------------------------------------------------------------------------------------------


def test_the_loss_of_two_logits_by_hand():
    # Logits (0, log 3) everywhere at x = 0: log p(0 | x) = -log 4, log p(1 | x) = -log(4/3), E = -log 4.
    # With w_1 = 1: logits (0, log 3 + x), at x = log 2 E = -log 7, p = (1/7, 6/7).
    energy = Linear([0.0, 1.0], [0.0, math.log(3)])
    x, label, x_model = column(0, math.log(2)), torch.tensor([0, 1]), column(0.0)
    cross_entropy = (math.log(4) + math.log(7 / 6)) / 2
    gap = -(math.log(4) + math.log(7)) / 2 + math.log(4)
    squares = (math.log(4) ** 2 + math.log(7) ** 2) / 2 + math.log(4) ** 2
    for weight, penalty in ((1.0, 0.0), (0.5, 0.0), (0.5, 0.1)):
        hybrid = jem_loss(energy, x, label, x_model, weight, penalty)
        expected = cross_entropy + weight * (gap + penalty * squares)
        assert hybrid.loss.item() == pytest.approx(expected, abs=1e-12)
        assert hybrid.cross_entropy.item() == pytest.approx(cross_entropy, abs=1e-12)


def test_its_gradient_is_that_of_the_joint_where_the_model_is_sampled_exactly():
    # -mean log p(x, y) = mean E(x, y) + log Z, whose gradient has the same second phase: Σ_y p(y | x) ∇ f_y.
    energy = Linear([0.4, -1.0, 0.2], [0.3, -0.1, 0.0])
    x, label, x_model = column(0.5, -1.0, 2.0, 0.1), torch.tensor([0, 2, 1, 1]), column(0.3, -0.8)
    parameters = [energy.slopes, energy.heights]
    hybrid = torch.autograd.grad(jem_loss(energy, x, label, x_model).loss, parameters)
    joint = torch.autograd.grad(energy(x, label=label).mean() - energy(x_model).mean(), parameters)
    for a, b in zip(hybrid, joint, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_no_gradient_flows_through_the_chains():
    energy = Linear([0.4, -1.0], [0.3, -0.1])
    x, label = column(0.5, -1.0), torch.tensor([0, 1])
    through = jem_loss(energy, x, label, column(1.0, -2.0) * energy.slopes[0]).loss
    fixed = jem_loss(energy, x, label, column(0.4, -0.8)).loss
    (a,), (b,) = (torch.autograd.grad(loss, energy.slopes) for loss in (through, fixed))
    torch.testing.assert_close(a, b)


def test_the_density_sees_what_the_classes_do_not():
    # A number added to all logits of an event leaves the cross entropy and shifts the gap of the energies.
    x, label, x_model = column(0.5, -1.0), torch.tensor([0, 1]), column(2.0)
    plain, tilted = Linear([0.4, -1.0], [0.3, -0.1]), Linear([3.4, 2.0], [0.3, -0.1])  # c(x) = 3 x
    before, after = (jem_loss(energy, x, label, x_model) for energy in (plain, tilted))
    torch.testing.assert_close(after.cross_entropy, before.cross_entropy)
    shift = -3 * (x.mean() - x_model.mean())
    torch.testing.assert_close(after.loss, before.loss + shift)


@pytest.mark.parametrize("x_model", [None, column(5.0)])
def test_without_weight_the_loss_is_the_cross_entropy(x_model):
    energy = Linear([0.4, -1.0], [0.3, -0.1])
    hybrid = jem_loss(energy, column(0.5), torch.tensor([1]), x_model, weight=0.0)
    assert torch.equal(hybrid.loss.detach(), hybrid.cross_entropy) and hybrid.phases is None


# --- the method ----------------------------------------------------------------------------------------


def test_a_network_learns_its_classes_from_the_data_and_the_seed(built):
    energies = [made("data=gaussian_classes", f"seed={seed}").objective.energy for seed in (0, 1)]
    assert isinstance(built.objective.energy, NetworkClassifier)
    assert built.objective.energy.num_classes == 3
    assert torch.equal(built.objective.energy.head.weight, energies[0].head.weight)
    assert not torch.equal(built.objective.energy.head.weight, energies[1].head.weight)


def test_a_classifier_alone_makes_no_chains_and_costs_one_evaluation_an_event():
    objective = made("data=gaussian_classes", "objective.generative_weight=0").objective
    batch = Batch(torch.randn(16, 2), torch.arange(16) % 3)
    objective.loss(batch)
    assert objective.chain_state() == {} and objective.energy_evaluations == 16
    assert not objective.claims_likelihood() and "classifier alone" in objective.notes[0]
    assert objective.metrics.keys() == {"cross_entropy", "accuracy"}


def test_the_hybrid_counts_its_evaluations_and_keeps_its_chains(built):
    objective = built.objective
    with objective.uncounted():
        assert objective.energy_evaluations == 0
    objective.loss(Batch(torch.randn(16, 2), torch.arange(16) % 3))
    # 20 steps of 16 chains, logits of 16 events, energies of 16 events and 16 chains
    assert objective.energy_evaluations == 16 * (20 + 1 + 2)
    assert objective.chain_state()["ages"].sum() == 16 * 20
    assert objective.claims_likelihood() and objective.notes == ()


def test_conditional_samples_start_at_their_class_and_follow_its_energy(built):
    objective, truth = built.objective, ClassesTruth.of(built.data)
    samples = objective.conditional_samples(500, built.evaluation.kernel, 0, torch.Generator().manual_seed(0))
    # No step but the jump x + σ² s(x), σ = .03: the fitted Gaussians, whose deviations are below 1.2, so that
    # 4 standard errors of a mean of 500 are .21
    assert samples.shape == (3, 500, 2)
    torch.testing.assert_close(samples.mean(1), objective.noise.means, rtol=0, atol=0.21)
    posed = made(*ClassesTruth.posed(2))
    posed.objective.place(truth, 1.0)
    generator = torch.Generator().manual_seed(0)
    moved = posed.objective.conditional_samples(2000, posed.evaluation.kernel, 200, generator)
    # p(x | y) itself, slightly sharpened by the jump; s_y / √2000 = .022 for the widest class
    torch.testing.assert_close(moved.mean(1).double(), truth.density.means, rtol=0, atol=0.1)
    torch.testing.assert_close(moved.std(1).mean(1).double(), truth.density.scales, rtol=0.05, atol=0)


def test_measurements_of_the_true_posterior(built):
    truth = ClassesTruth.of(built.data)
    posed = made(*ClassesTruth.posed(2), "objective.sigma=0")
    posed.objective.place(truth, 1.0)
    found = posed.objective.measurements(posed.data)
    # Calibrated by construction: accuracy and mean confidence agree within errors.
    logits = posed.objective.energy.logits(posed.data.test_x)
    share, error, _, _ = found["accuracy"]
    assert abs(share - logits.softmax(1).amax(1).mean().item()) < 4 * error
    ece, ece_error, _, _ = found["ece"]
    assert ece < math.sqrt(15 / len(logits)) and 0 < ece_error < 0.01
    loss = torch.nn.functional.cross_entropy(logits, posed.data.test_labels)
    assert found["cross_entropy"][0] == pytest.approx(loss.item(), abs=1e-5)


def test_what_cannot_classify_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="Quadratic has no last linear map"):
        made("data=gaussian_classes", "energy=quadratic")
    with pytest.raises(UserError, match="generative_weight must not be negative"):
        made("data=gaussian_classes", "objective.generative_weight=-1")


# --- calibration ---------------------------------------------------------------------------------------


def test_ece_by_hand():
    confidence = torch.tensor([0.95, 0.85, 0.75, 0.65], dtype=torch.float64)
    correct = torch.tensor([True, True, False, True])
    value, error = expected_calibration_error(confidence, correct, num_bins=10)
    assert value == pytest.approx(0.325, abs=1e-12)
    # the four differences .05, .15, .75, .35 about their mean
    assert error == pytest.approx(math.sqrt((0.275**2 + 0.175**2 + 0.425**2 + 0.025**2) / 4) / 2, abs=1e-12)


def test_a_bin_averages_before_it_takes_the_difference():
    confidence = torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64)
    correct = torch.tensor([True, False, True, False])
    assert expected_calibration_error(confidence, correct, 2)[0] == pytest.approx(0.25)  # |.5 - .75|
    assert expected_calibration_error(confidence, correct, 4)[0] == pytest.approx(0.25)  # (0 + |.5 - 1|) / 2
    # bins are closed below: .5 and .4 are of two, (|1 - .5| + |0 - .4|) / 2
    below = torch.tensor([0.5, 0.4], dtype=torch.float64)
    assert expected_calibration_error(below, correct[:2], 2)[0] == pytest.approx(0.45)


def test_ece_is_that_of_torchmetrics():
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits = 2 * torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    label = torch.randint(5, (500,), generator=torch.Generator().manual_seed(1))
    confidence, predicted = logits.softmax(1).max(1)
    ours, _ = expected_calibration_error(confidence, predicted == label, 15)
    theirs = multiclass_calibration_error(logits.softmax(1), label, num_classes=5, n_bins=15)
    assert ours == pytest.approx(theirs.item(), abs=1e-6)


def test_accuracy_has_the_error_of_a_share():
    share, error = accuracy(torch.tensor([True] * 9 + [False]))
    assert share == pytest.approx(0.9) and error == pytest.approx(math.sqrt(0.09 / 10))
