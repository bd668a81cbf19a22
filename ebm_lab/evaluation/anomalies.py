"""How well an energy tells anomalies from normal events, beside classical detectors on the same split."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import Energy
from ebm_lab.evaluation.energies import evaluate_in_chunks
from ebm_lab.evaluation.measurement import Measurement
from ebm_lab.evaluation.ood import auroc

NEIGHBOURS = 5


def detection(
    model: Energy,
    train: Float[Tensor, "num *shape"],
    normal: Float[Tensor, "num *shape"],
    anomalies: Float[Tensor, "num *shape"],
) -> Iterator[Measurement]:
    """AUROC and average precision of E, and of three detectors that are fitted to the training events.

    Args:
        model: low energy means normal.
        train: events that it was trained on.
        normal: held-out events of their kind.
        anomalies: events of another.
    """
    x = torch.cat([normal, anomalies.to(normal)])
    scores = {"": evaluate_in_chunks(model, x).cpu()} | detectors(train.cpu(), x.cpu())
    for name, found in scores.items():
        value, error = auroc(-found[: len(normal)], -found[len(normal) :])
        note = f"anomalies above normal test events by {NOTES[name]}"
        yield Measurement(f"auroc_anomalies{name}", value, error, "", note)
        precision = average_precision(found[: len(normal)], found[len(normal) :])
        note = f"average precision of the same; {len(anomalies) / len(x):.3f} by chance"
        yield Measurement(f"ap_anomalies{name}", precision, None, "", note)


NOTES = {
    "": "E",
    "_knn": f"the distance to the {NEIGHBOURS}th nearest training event",
    "_iforest": "an isolation forest",
    "_mahalanobis": "the Mahalanobis distance to the training events",
}


def detectors(
    train: Float[Tensor, "num *shape"], x: Float[Tensor, "batch *shape"]
) -> dict[str, Float[Tensor, " batch"]]:
    """Scores of each event, higher for anomalies, by scikit-learn's detectors at their usual settings.

    Reference: Ramaswamy, Rastogi & Shim 2000 (distance to the k-th neighbour); Liu, Ting & Zhou 2008 (100
        trees of 256 events); Mahalanobis 1936, with the pseudo-inverse of the empirical covariance.
    """
    from sklearn.covariance import EmpiricalCovariance  # takes a second to import
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    known, asked = train.flatten(1).double().numpy(), x.flatten(1).double().numpy()
    distances, _ = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(known).kneighbors(asked)
    found = {
        "_knn": distances[:, -1],
        "_iforest": -IsolationForest(random_state=0).fit(known).score_samples(asked),
        "_mahalanobis": EmpiricalCovariance().fit(known).mahalanobis(asked),
    }
    return {name: torch.from_numpy(scores).contiguous() for name, scores in found.items()}


def average_precision(normal: Float[Tensor, " first"], anomalies: Float[Tensor, " second"]) -> float:
    """Σ over anomalies of the precision at their score, divided by their number; equal scores come together.

    With n⁺(t) and n(t) the anomalies and all events of a score of at least t: mean over anomalies a of
    n⁺(t_a) / n(t_a).
    """
    thresholds = anomalies.double()
    above = _at_least(anomalies.double(), thresholds)
    return float((above / (above + _at_least(normal.double(), thresholds))).mean())


def _at_least(values: Tensor, thresholds: Tensor) -> Tensor:
    return len(values) - torch.searchsorted(values.sort().values, thresholds, right=False).double()
