"""What NCE claims, and what it does not once its classifier is sure."""

import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import Batch
from ebm_lab.errors import UserError
from ebm_lab.objectives import GaussianTruth


def built(*overrides):
    schema.register()
    small = ["objective=nce", "logger=none", "data.num_train=300", "output_dir=x", "energy.width=8"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=[*small, *overrides])).objective


@pytest.fixture(scope="module")
def nce():
    return built()


def test_noise_that_cannot_have_made_the_data_is_refused():
    with pytest.raises(UserError, match="no density at .* training events.*choose a wider noise"):
        built("noise=uniform")  # on [-1, 1]², and the data reach 2


@pytest.mark.parametrize("objective", ["nce", "self_normalised", "ranking_nce", "telescoping"])
def test_noise_that_cannot_have_made_held_out_data_is_refused(objective):
    """Bins that end at the training events: of a thousand others some lie outside."""
    with pytest.raises(UserError, match="no density at .* of 1000 held-out events.*a larger noise.margin"):
        built(f"objective={objective}", "noise=histograms", "noise.margin=1e-3", "data.num_val=800",
              "data.num_test=200")  # fmt: skip


@pytest.mark.parametrize(("accuracy", "claims"), [(0.989, True), (0.991, False)])
def test_a_saturated_classifier_claims_no_likelihood_and_says_what_helps(nce, accuracy, claims):
    nce.accuracy.fill_(accuracy)
    assert nce.claims_likelihood() == claims
    assert nce.log_z() == (pytest.approx(nce.log_normaliser.item()) if claims else None)
    assert len(nce.notes) == (0 if claims else 1)
    if not claims:
        assert "saturated (accuracy 0.9910)" in nce.notes[0]
        assert "noise=mixture" in nce.notes[0]


def test_the_running_accuracy_starts_at_the_first_batch_and_averages_the_last_hundred(nce):
    batch = Batch(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)))
    nce.train()
    nce.accuracy.fill_(0.5)
    nce.iteration = 0
    nce.loss(batch)
    first = nce.accuracy.item()
    assert first == pytest.approx(float(nce.metrics["accuracy"]))
    nce.iteration = 1
    nce.loss(batch)
    assert nce.accuracy.item() == pytest.approx(0.99 * first + 0.01 * float(nce.metrics["accuracy"]))


def test_with_noise_on_the_data_the_truth_is_the_noised_one(nce):
    nce.sigma = 1.0
    known = nce.known_truth(GaussianTruth(torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))))
    nce.sigma = 0.0
    # Σ + I = diag(2, 5): mean precision .35, mean log precision -log(10)/2, log Z = log 2π + log(10)/2
    assert known["trace(P)/d"].item() == pytest.approx(0.35, abs=1e-12)
    assert known["logdet(P)/d"].item() == pytest.approx(-math.log(10) / 2, abs=1e-12)
    assert known["log Z"].item() == pytest.approx(math.log(2 * math.pi) + math.log(10) / 2, abs=1e-12)


def test_the_noised_data_meet_the_classifier(nce):
    nce.sigma = 0.7
    x = torch.zeros(20_000, 2)
    noised = nce.corrupted(x)
    nce.sigma = 0.0
    assert torch.equal(nce.corrupted(x), x)
    # the standard error of a variance of 40 000 normals is s² √(2/n)
    assert noised.var().item() == pytest.approx(0.49, abs=4 * 0.49 * math.sqrt(2 / 40_000))
