"""Norms of normalised layers, and when their power iteration moves."""

import math

import hydra
import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.callbacks import Budget
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import ResNet, advance_power_iteration, score
from ebm_lab.samplers import HMC, Langevin, run_chains


def resnet() -> ResNet:
    torch.manual_seed(0)
    return ResNet((1, 5, 6), channels=(4, 6), spectral_norm=True).double()


def buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    found = {name: buffer.clone() for name, buffer in module.named_buffers() if name.endswith(("._u", "._v"))}
    assert found
    return found


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)


def test_norm_of_every_reshaped_kernel_but_the_last_is_1():
    energy = resnet()
    advance_power_iteration(energy, 2000)
    layers = [m for m in energy.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 1 + 2 * 2 + 1 + 1  # first, two blocks of two, one shortcut, last
    for layer in layers[:-1]:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        torch.testing.assert_close(norm.item(), 1.0, rtol=1e-9, atol=0)
    assert not parametrize.is_parametrized(layers[-1])


def test_norm_of_the_convolution_is_not_that_of_the_kernel():
    # Circular [1, 1, 1] on 8 pixels, reshaped to (1, 3): the row has norm √3, the circulant matrix 3.
    layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False).double()
    nn.init.ones_(layer.weight)
    operator = layer(torch.eye(8, dtype=torch.float64)[:, None])[:, 0].T
    assert torch.linalg.matrix_norm(operator, ord=2).item() == pytest.approx(3)
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(math.sqrt(3))


def test_a_move_is_one_power_iteration():
    energy = resnet()
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    layer = energy.network[1].branch[1]
    matrix = layer.parametrizations.weight.original.detach().flatten(1)
    norm = layer.parametrizations.weight[0]
    u = normalize(matrix @ norm._v, dim=0)
    v = normalize(matrix.T @ u, dim=0)
    advance_power_iteration(energy)
    torch.testing.assert_close(norm._u, u, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm._v, v, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weight.flatten(1), matrix / (u @ matrix @ v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kernel", [Langevin(0.01), HMC(0.01, 3)])
def test_nothing_but_a_move_moves(kernel, training, generator):
    energy = resnet().train(training)
    before, x = buffers(energy), torch.randn(3, 1, 5, 6, dtype=torch.float64)
    run_chains(kernel, energy, x, 4, generator)
    assert same(before, buffers(energy))
    first, second = energy(x), energy(x)  # the phases of a loss, in training mode too
    score(energy, x, create_graph=True).square().sum().backward()
    assert torch.equal(first, second)
    assert same(before, buffers(energy))
    assert energy.training is training and all(m.training is training for m in energy.modules())
    advance_power_iteration(energy)
    assert not same(before, buffers(energy))
    assert all(m.training is training for m in energy.modules())


def test_a_move_leaves_spectral_norms_of_torch_alone():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))
    before = buffers(layer)
    advance_power_iteration(layer)
    assert same(before, buffers(layer))
    layer(torch.zeros(1, 3))
    assert not same(before, buffers(layer))


@pytest.mark.parametrize(
    "objective", ["pcd objective.num_steps=2", "cd", "nce", "dsm", "ssm"], ids=lambda o: o.split()[0]
)
def test_an_iteration_moves_once_after_its_optimizer_step(objective):
    built = _built(*f"objective={objective}".split(), "optimizer.micro_batches=2")
    energy = built.objective.energy
    before = buffers(energy)
    generator = torch.Generator().manual_seed(0)
    built.objective.generate(4, built.evaluation.kernel, 2, generator)
    assert same(before, buffers(energy))
    _fit(built, iterations=1)
    for name, layer in energy.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            at = f"{name}.parametrizations.weight.0"
            matrix = layer.parametrizations.weight.original.detach().flatten(1)
            u = normalize(matrix @ before[f"{at}._v"], dim=0)
            torch.testing.assert_close(buffers(energy)[f"{at}._u"], u, rtol=1e-5, atol=1e-6)
            v = normalize(matrix.T @ u, dim=0)
            torch.testing.assert_close(buffers(energy)[f"{at}._v"], v, rtol=1e-5, atol=1e-6)


def test_validation_moves_nothing():
    quiet, looking = _built("objective=nce"), _built("objective=nce")
    _fit(quiet, iterations=2)
    _fit(looking, iterations=2, limit_val_batches=2, val_check_interval=1)
    assert len(looking.objective._held_out) == 2  # it did look
    assert same(buffers(quiet.objective), buffers(looking.objective))


def _built(*overrides: str):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose(
            "train",
            overrides=[
                "data=digits", "energy=resnet", "energy.channels=[4,6]", "energy.spectral_norm=true",
                "data.batch_size=16", "optimizer.lr=0.1", "logger=none", *overrides,
            ],
        )  # fmt: skip
    return build(cfg)


def _fit(built, iterations: int, limit_val_batches: int = 0, **trainer) -> None:
    Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False,
        limit_val_batches=limit_val_batches, num_sanity_val_steps=0, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Budget(iterations=iterations)], **trainer,
    ).fit(built.objective, datamodule=built.data)  # fmt: skip
