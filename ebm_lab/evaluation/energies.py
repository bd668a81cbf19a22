"""Energies of many events, and how far the model's samples lie from the data in energy."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.energy import Energy, frozen
from ebm_lab.evaluation.measurement import mean_and_error


def evaluate_in_chunks(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"], chunk_size: int = 16384
) -> Float[Tensor, " batch"]:
    """function(x) as float64, a chunk of events at a time, without gradients and (a module) frozen."""
    modules = [function] if isinstance(function, nn.Module) else []
    with torch.no_grad(), frozen(*modules):
        return torch.cat([function(chunk).double() for chunk in x.split(chunk_size)])


def energy_gap(
    energy: Energy, x: Float[Tensor, "data *shape"], x_model: Float[Tensor, "samples *shape"]
) -> tuple[float, float]:
    """Mean E(x) over data minus mean E(x_model) over samples, and its standard error.

    Zero in expectation where the samples follow the data's law; negative where the samples are worse than
    data. It says nothing about modes that the samples miss. The error √(s²_x/n + s²_model/m) takes
    the samples as independent: draws along one chain are not, and their error is larger.
    """
    data_mean, data_error = mean_and_error(evaluate_in_chunks(energy, x, chunk_size=1024))
    model_mean, model_error = mean_and_error(evaluate_in_chunks(energy, x_model, chunk_size=1024))
    return data_mean - model_mean, math.hypot(data_error, model_error)
