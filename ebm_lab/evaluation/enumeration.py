"""log Z of a small binary energy, by the sum over all of its events."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.energies import Energy
from ebm_lab.evaluation.energies import evaluate_in_chunks
from ebm_lab.evaluation.partition import LogPartition
from ebm_lab.evaluation.quadrature import placement

MAX_BITS = 20
CHUNK = 8192  # events at a time


def binary_events(
    num_bits: int, numbers: Int[Tensor, " num"], dtype: torch.dtype = torch.float64
) -> Float[Tensor, "num bits"]:
    """Events of {0, 1}^bits by their numbers: coordinate i holds bit i."""
    return (numbers[:, None] >> torch.arange(num_bits, device=numbers.device) & 1).to(dtype)


def enumerated_log_partition(energy: Energy) -> LogPartition:
    """log Z = log Σ_x exp(-E(x)) over x of {0, 1}^d, summed in float64; exact, whatever the energy.

    Events take dtype and device of the energy's parameters or buffers.

    Raises:
        ValueError: for more than 20 bits, or an energy that is not a number somewhere.
    Cost: 2^d energies.
    """
    num_bits = math.prod(energy.shape)
    if num_bits > MAX_BITS:
        raise ValueError(
            f"an event has {num_bits} bits: log Z is enumerated up to {MAX_BITS} (a million terms), estimate "
            "it by annealing instead (log_z=ais)"
        )
    dtype, device = placement(energy)
    sums = []
    for numbers in torch.arange(2**num_bits, device=device).split(CHUNK):
        events = binary_events(num_bits, numbers, dtype).view(-1, *energy.shape)
        sums.append(torch.logsumexp(-evaluate_in_chunks(energy, events), 0))
    log_z = torch.stack(sums).logsumexp(0).item()
    if not math.isfinite(log_z):
        raise ValueError(f"log Z is {log_z} by enumeration: check the energy")
    return LogPartition(log_z, 0.0, math.inf, "either", f"the sum over all 2^{num_bits} events")
