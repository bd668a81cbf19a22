"""Detectors of anomalies against scikit-learn's own numbers and cases that can be counted by hand."""

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ebm_lab.energies import Quadratic
from ebm_lab.evaluation.anomalies import average_precision, detection, detectors

F64 = torch.float64


def test_average_precision_by_hand():
    # anomalies at 3 and 1, normal at 2 and 0: precision 1 at 3, 2/3 at 1
    assert average_precision(torch.tensor([2.0, 0.0]), torch.tensor([3.0, 1.0])) == pytest.approx(5 / 6)
    # all equal: the share of anomalies
    assert average_precision(torch.zeros(3), torch.zeros(1)) == pytest.approx(1 / 4)


def test_average_precision_is_that_of_scikit_learn(generator):
    normal = torch.randint(0, 9, (200,), generator=generator).double()  # with many ties
    anomalies = torch.randint(3, 12, (30,), generator=generator).double()
    labels = [0] * 200 + [1] * 30
    expected = average_precision_score(labels, torch.cat([normal, anomalies]).numpy())
    assert average_precision(normal, anomalies) == pytest.approx(expected, abs=1e-12)


def test_the_right_energy_is_as_good_as_the_distance_that_it_is(generator):
    """E = ½ xᵀPx with the precision of the training events orders as the Mahalanobis distance does."""
    scale = torch.tensor([1.0, 5.0], dtype=F64)
    train, normal = (scale * torch.randn(n, 2, generator=generator, dtype=F64) for n in (500, 300))
    anomalies = 3 * torch.randn(50, 2, generator=generator, dtype=F64)
    train = train - train.mean(0)
    energy = Quadratic((2,)).double()
    energy.set_precision(torch.linalg.inv(train.T @ train / len(train)))
    found = {m.name: m for m in detection(energy, train, normal, anomalies)}
    assert found["auroc_anomalies"].value == pytest.approx(
        found["auroc_anomalies_mahalanobis"].value, abs=1e-9
    )
    assert found["ap_anomalies"].value == pytest.approx(found["ap_anomalies_mahalanobis"].value, abs=1e-9)
    scores = energy(torch.cat([normal, anomalies])).detach().numpy()
    assert found["auroc_anomalies"].value == pytest.approx(roc_auc_score([0] * 300 + [1] * 50, scores))


def test_each_detector_puts_a_far_event_above_a_near_one(generator):
    train = torch.randn(300, 2, generator=generator, dtype=F64)
    scores = detectors(train, torch.tensor([[0.0, 0.0], [6.0, -6.0]], dtype=F64))
    assert set(scores) == {"_knn", "_iforest", "_mahalanobis"}
    for found in scores.values():
        assert found[1] > found[0]
    expected = (train - 6 * torch.tensor([1.0, -1.0], dtype=F64)).norm(dim=1).sort().values[4]
    assert scores["_knn"][1].item() == pytest.approx(expected.item())
