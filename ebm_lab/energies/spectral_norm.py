"""Spectral normalisation whose power iteration moves with the optimizer and never with a forward."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

STILL = 0  # power iterations of a forward in training mode


def normalise(network: nn.Module, *, but: nn.Module) -> None:
    """Divide the weight of every convolution and linear map by its largest singular value, in place.

    W / σ(W) with σ(W) = uᵀWv, W the kernel reshaped to (out, in · height · width) and u, v its leading
    singular vectors by power iteration. It is the norm of the reshaped kernel that is 1, not that of the
    convolution, which may be larger: the circular kernel [1, 1, 1] on 8 pixels has norm 3, reshaped √3.

    Other than with torch alone, a forward in training mode leaves u and v as they are: the energy of the
    chains, of both phases of a loss and of all micro-batches of a step is then one function.
    `advance_power_iteration` moves them.

    Args:
        network: its convolutions and linear maps are normalised.
        but: the layer that is left as it is: the last, which sets the scale of the energy.

    Reference: Miyato, Kataoka, Koyama & Yoshida 2018, Spectral Normalization for Generative Adversarial
    Networks, arXiv 1802.05957, algorithm 1.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m is not but]
    for layer in layers:
        parametrizations.spectral_norm(layer)
        layer.parametrizations.weight[0].n_power_iterations = STILL


@torch.no_grad()
def advance_power_iteration(module: nn.Module, num_iterations: int = 1) -> None:
    """Move u and v of every normalised layer toward its weight: u ← Wv / ‖Wv‖, then v ← Wᵀu / ‖Wᵀu‖.

    Called once after each optimizer step, as `Objective` does; it leaves all other modules alone.
    """
    for layer in module.modules():
        if norm := _norm(layer):
            training, norm.n_power_iterations = norm.training, num_iterations
            norm.train()(layer.parametrizations.weight.original)
            norm.n_power_iterations = STILL
            norm.train(training)


def _norm(layer: nn.Module) -> nn.Module | None:
    """The spectral norm that `normalise` gave to a layer; torch's own always iterate at least once."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    norm = layer.parametrizations.weight[0]
    return norm if getattr(norm, "n_power_iterations", None) == STILL else None
