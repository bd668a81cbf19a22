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
from ebm_lab.evaluation.partition import LogPartition, from_log_weights
from ebm_lab.evaluation.quadrature import Grid, NotIntegrable, Quadrature, log_partition, normalise

__all__ = [
    "Grid",
    "LogPartition",
    "Measurement",
    "NotIntegrable",
    "Quadrature",
    "energy_gap",
    "evaluate_in_chunks",
    "fisher_divergence",
    "from_json",
    "from_log_weights",
    "grid_entropy",
    "grid_fisher_divergence",
    "grid_kl",
    "log_partition",
    "mean_and_error",
    "median_bandwidth",
    "median_bandwidths",
    "mmd",
    "negative_log_likelihood",
    "normalise",
    "to_json",
]
