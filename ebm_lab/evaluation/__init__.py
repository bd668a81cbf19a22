"""Numbers about a trained energy: pure functions of (energy, samples, data)."""

from ebm_lab.evaluation.divergences import (
    fisher_divergence,
    grid_entropy,
    grid_fisher_divergence,
    grid_kl,
    median_bandwidth,
    median_bandwidths,
    mmd,
    negative_log_likelihood,
)
from ebm_lab.evaluation.energies import energy_gap, evaluate_in_chunks
from ebm_lab.evaluation.measurement import Measurement, from_json, mean_and_error, to_json
from ebm_lab.evaluation.quadrature import Grid, LogPartition, NotIntegrable, log_partition

__all__ = [
    "Grid",
    "LogPartition",
    "Measurement",
    "NotIntegrable",
    "energy_gap",
    "evaluate_in_chunks",
    "fisher_divergence",
    "from_json",
    "grid_entropy",
    "grid_fisher_divergence",
    "grid_kl",
    "log_partition",
    "mean_and_error",
    "median_bandwidth",
    "median_bandwidths",
    "mmd",
    "negative_log_likelihood",
    "to_json",
]
