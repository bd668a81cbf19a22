"""What NCE claims, and what it does not once its classifier is sure."""

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import Batch


@pytest.fixture(scope="module")
def nce():
    schema.register()
    overrides = ["objective=nce", "logger=none", "data.num_train=300", "output_dir=x", "energy.width=8"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=overrides)).objective


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
