"""A method of several players, with draws from the global generator too, continues exactly."""

import functools
from dataclasses import replace

import pytest
import torch
from commands import differences
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging

from ebm_lab.callbacks import Budget, Checkpoints
from ebm_lab.data import DensityData
from ebm_lab.data.point_sets import eight_gaussians
from ebm_lab.energies import MLP
from ebm_lab.noise import Flow, StandardGaussian
from ebm_lab.objectives import FlowContrastive, Objective, Optimization, Parts, Player
from ebm_lab.samplers import Langevin


class Shift(torch.nn.Module):
    """A generator: noise plus a learned shift."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(2))

    def forward(self, z):
        return z + self.shift


class Toy(Objective):
    """A critic and a generator of one shift, at their own paces, rates and schedules."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.generate_from = Shift()

    def players(self):
        adam = functools.partial(torch.optim.Adam)
        slow = Optimization(algorithm=adam, lr=0.01, schedule="linear", length=40)
        return {
            "energy": Player(self.energy_loss, self.energy, self.optimization, steps=2),
            "generator": Player(self.generator_loss, self.generate_from, slow, steps=3),
        }

    def energy_loss(self, batch):
        z = torch.randn(batch.x.shape, generator=self.generator)
        fake = self.generate_from(z).detach() + 0.1 * torch.randn(batch.x.shape)  # the global generator
        return self.energy(batch.x).mean() - self.energy(fake).mean()

    def generator_loss(self, batch):
        return self.energy(self.generate_from(torch.randn(batch.x.shape, generator=self.generator))).mean()


class Gated(Toy):
    """The same, but each player waits for the other by a running gap of energies, which is a buffer."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.register_buffer("gap", torch.zeros(()))
        self.register_buffer("taken", torch.zeros(2))

    def players(self):
        wide = {"energy": lambda: self.gap > -0.02, "generator": lambda: self.gap < -0.01}
        return {name: replace(p, only_while=wide[name]) for name, p in super().players().items()}

    def energy_loss(self, batch):
        loss = super().energy_loss(batch)
        self.gap.lerp_(loss.detach(), 0.5)
        self.taken[0] += 1
        return loss

    def generator_loss(self, batch):
        self.gap.mul_(0.2)
        self.taken[1] += 1
        return super().generator_loss(batch)


def flow_contrastive(parts: Parts) -> FlowContrastive:
    """Its flow, hardly fitted, steps where the accuracy of telling it from the data is above a half."""
    flow = Flow((2,), num_transforms=1, width=8, depth=1, fit_steps=3)
    method = FlowContrastive(parts, flow=flow, flow_optimizer=parts.optimizer, flow_above=0.5)
    x = eight_gaussians(scale=0.3).sample(200, torch.Generator().manual_seed(0)).float()
    method.fit_densities(x), method.prepare(x)
    return method


def fit(folder, iterations, checkpoint=None, method=Toy) -> dict:
    """Train to `iterations`, perhaps from a checkpoint; what last.ckpt then holds."""
    torch.manual_seed(0)
    optimization = Optimization(algorithm=functools.partial(torch.optim.Adam), lr=0.02)
    parts = Parts(MLP((2,), width=8, depth=1), Langevin(0.1), StandardGaussian((2,)), optimization)
    data = DensityData(
        density=eight_gaussians(scale=0.3), dim=2, shape=[2], num_train=90, num_val=8, num_test=8,
        batch_size=16, seed=0, order_seed=0,
    )  # fmt: skip
    callbacks = [EMAWeightAveraging(decay=0.9, use_buffers=False), Budget(iterations=iterations)]
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_progress_bar=False, limit_val_batches=0,
        enable_model_summary=False, callbacks=[*callbacks, Checkpoints(str(folder), every=7)],
    )  # fmt: skip
    trainer.fit(method(parts), datamodule=data, ckpt_path=checkpoint)
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("method", [Toy, Gated, flow_contrastive])
def test_two_players_continue_bit_for_bit(tmp_path, method):
    whole = fit(tmp_path / "whole", 23, method=method)
    part = fit(tmp_path / "part", 12, method=method)
    torch.randn(100)  # what happens in between is nobody's business
    resumed = fit(tmp_path / "part", 23, tmp_path / "part" / "last.ckpt", method)
    if method is Gated:  # both gates were open at times and shut at times
        energy, generator = whole["state_dict"]["taken"].tolist()
        assert 5 < energy < 2 * 23 - 5 and 5 < generator < 3 * 23 - 5, (energy, generator)
    if method is flow_contrastive:  # and so was the flow's
        steps = [run["optimizer_states"][1]["state"][0]["step"] for run in (part, whole)]
        assert 2 < steps[0] < 12 - 2 and 2 < steps[1] - steps[0] < 11 - 2, steps
    assert whole["objective"]["iteration"] == resumed["objective"]["iteration"] == 23
    assert len(whole["optimizer_states"]) == 2
    kept = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    for name in (*kept, "objective", "random_states"):
        assert differences(whole[name], resumed[name]) == []
