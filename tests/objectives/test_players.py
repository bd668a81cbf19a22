"""Several players: turns, steps per iteration, isolation, accumulation, clipping, divergence, checkpoints."""

import dataclasses
import functools
import math
import warnings

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from ebm_lab.callbacks import Budget, Guard
from ebm_lab.data.batch import Batch
from ebm_lab.energies import Energy, Quadratic
from ebm_lab.errors import Diverged
from ebm_lab.noise import StandardGaussian
from ebm_lab.objectives import Objective, Optimization, Parts, Player
from ebm_lab.objectives.nce import nce_loss
from ebm_lab.objectives.noise_contrast import log_ratio
from ebm_lab.samplers import Langevin

SGD = functools.partial(torch.optim.SGD)


class LearnedScale(torch.nn.Module):
    """A noise N(0, exp(2s)) that learns against the energy."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.tensor(0.7))

    def log_prob(self, x):
        return torch.distributions.Normal(0.0, self.log_scale.exp()).log_prob(x).sum(1)


class ToyContrast(Objective):
    """Two players: the energy tells data from noise, the noise moves toward the data."""

    def __init__(self, parts: Parts, *, noise_steps: int = 3, energy_every: int = 1) -> None:
        super().__init__(parts)
        self.contrast = LearnedScale()
        self.noise_steps = noise_steps
        self.energy_every = energy_every
        self.turns: list[str] = []

    def players(self):
        return {
            "energy": Player(self.energy_loss, self.energy, self.optimization, every=self.energy_every),
            "noise": Player(self.noise_loss, self.contrast, self.optimization, steps=self.noise_steps),
        }

    def energy_loss(self, batch):
        self.turns.append("energy")
        z = torch.randn(batch.x.shape, generator=self.generator)
        x_noise = (self.contrast.log_scale.exp() * z).detach()
        logits = [
            log_ratio(self.energy(x), self.energy.log_partition(), self.contrast.log_prob(x), 1)
            for x in (batch.x, x_noise)
        ]
        return nce_loss(*logits, 1)

    def noise_loss(self, batch):
        self.turns.append("noise")
        return -self.contrast.log_prob(batch.x).mean() + 1e3 * self.energy(batch.x).mean()


def parts(energy: Energy | None = None, **optimization) -> Parts:
    settings = {"algorithm": SGD, "lr": 0.1} | optimization
    return Parts(energy or Quadratic((2,)), Langevin(0.1), StandardGaussian((2,)), Optimization(**settings))


class Batches:
    """An endless loader of one batch, as the lab's own: no end of an epoch is ever near."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __iter__(self):
        while True:
            yield Batch(self.x)

    def __len__(self):
        return 2**40


def fit(objective: Objective, iterations: int, x: torch.Tensor, *callbacks: Callback) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Budget(iterations=iterations), *callbacks],
    )  # fmt: skip
    trainer.fit(objective, Batches(x))
    return trainer


def data(num: int = 8) -> torch.Tensor:
    return torch.randn(num, 2, generator=torch.Generator().manual_seed(3))


def test_players_take_turns_and_iterations_are_counted_once():
    objective = ToyContrast(parts(), noise_steps=3)
    trainer = fit(objective, 5, data())
    assert objective.turns == ["energy", "noise", "noise", "noise"] * 5
    assert objective.iteration == 5
    assert trainer.global_step == 20  # Lightning counts optimizer steps; nothing here may


def test_a_player_may_wait_for_its_turn_while_its_schedule_goes_on():
    objective = ToyContrast(parts(schedule="linear", length=10), noise_steps=1, energy_every=3)
    before = objective.energy.precision.detach().clone()
    fit(objective, 2, data())
    assert objective.turns == ["noise"] * 2
    assert torch.equal(objective.energy.precision, before)
    objective = ToyContrast(parts(schedule="linear", length=10), noise_steps=1, energy_every=3)
    fit(objective, 6, data())
    assert objective.turns == ["noise", "noise", "energy", "noise"] * 2
    # Three iterations were over at the first turn's end, so the second runs at 0.1 (1 - 3/10).
    assert objective.metrics["lr_energy"] == pytest.approx(0.07)
    with pytest.raises(ValueError, match="every=0"):
        Player(objective.energy_loss, objective.energy, objective.optimization, every=0)


class Gated(ToyContrast):
    """The noise asks before every step, and is told what the script says."""

    def __init__(self, parts: Parts, script: str) -> None:
        super().__init__(parts, noise_steps=3)
        self.script = iter(script)
        self.taken: list[int] = []

    def players(self):
        players = super().players()
        told = dataclasses.replace(players["noise"], only_while=lambda: next(self.script) == "y")
        return players | {"noise": told}

    def on_train_batch_end(self, *_):
        self.taken.append(self.metrics["steps_noise"])


def test_a_player_may_be_told_by_a_metric_when_its_turn_ends():
    objective = Gated(parts(), "yynnyyyyn")  # after three steps, the most, nobody asks
    fit(objective, 4, data())
    assert "".join(turn[0] for turn in objective.turns) == "enneennnen"
    assert objective.taken == [2, 0, 3, 1]
    assert next(objective.script, None) is None


def test_the_schedule_goes_on_while_a_player_waits():
    """Its rate at the turn after three iterations is 0.1 (1 - 3/10), however many of them it stepped in."""
    objective = Gated(parts(schedule="linear", length=10), "nnynnyn")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*lr_scheduler.step")
        fit(objective, 3, data())
    assert objective.metrics["lr_noise"] == pytest.approx(0.1)  # the first step is at the first rate
    rates = []
    objective = Gated(parts(schedule="linear", length=10), "ynnnyn")
    objective.on_train_batch_end = lambda *_: rates.append(objective.metrics["lr_noise"])
    fit(objective, 4, data())
    assert rates == pytest.approx([0.1, 0.09, 0.08, 0.07])


def test_a_player_moves_only_itself_and_steps_as_a_bare_optimizer_would():
    # The noise's loss contains the energy: its gradient must not reach the energy.
    objective = ToyContrast(parts(), noise_steps=2)
    x = data()
    log_scale = objective.contrast.log_scale.detach().clone().requires_grad_(True)
    for _ in range(4):
        loss = -torch.distributions.Normal(0.0, log_scale.exp()).log_prob(x).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, log_scale)
        log_scale = (log_scale - 0.1 * gradient).detach().requires_grad_(True)
    fit(objective, 2, x)
    assert all(p.grad is None or p.grad.abs().max() < 100 for p in objective.energy.parameters())
    torch.testing.assert_close(objective.contrast.log_scale.detach(), log_scale.detach())


def test_two_players_reach_the_equilibrium():
    # Data N(0, 0.25): the noise learns their scale, and then nothing tells data from noise.
    x = 0.5 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    objective = ToyContrast(parts(lr=0.05), noise_steps=2)
    fit(objective, 300, x)
    scale = x.square().mean().sqrt()
    torch.testing.assert_close(objective.contrast.log_scale.detach().exp(), scale, rtol=1e-3, atol=0)
    logits_loss = float(objective.metrics["loss_energy"])
    assert logits_loss == pytest.approx(2 * math.log(2), abs=0.02)


class Squares(Objective):
    """The mean of E over the batch: a loss whose gradient anyone can write down."""

    def loss(self, batch):
        return self.energy(batch.x).mean()


def test_micro_batches_accumulate_to_the_gradient_of_the_whole():
    whole, split = Squares(parts()), Squares(parts(micro_batches=4))
    for objective in (whole, split):
        fit(objective, 3, data())
    for a, b in zip(whole.energy.parameters(), split.energy.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(whole.metrics["loss"], split.metrics["loss"])


def test_the_clip_bounds_the_step_and_reports_the_norm_before_it():
    objective = Squares(parts(clip=1e-3))
    before = torch.cat([p.detach().flatten() for p in objective.energy.parameters()]).clone()
    fit(objective, 1, 10 * data())
    after = torch.cat([p.detach().flatten() for p in objective.energy.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.1 * 1e-3, rel=1e-3)  # lr times the clip
    assert float(objective.metrics["gradient_norm"]) > 1


class Breaks(Squares):
    """A loss that is not a number from the third iteration on."""

    def loss(self, batch):
        loss = super().loss(batch)
        return loss * float("nan") if self.iteration == 2 else loss


def test_a_non_finite_loss_stops_the_run_before_the_weights():
    reference = Squares(parts())
    fit(reference, 2, data())
    objective = Breaks(parts())
    with pytest.raises(Diverged, match=r"loss of energy is not finite at iteration 3 .*loss nan"):
        fit(objective, 5, data())
    for a, b in zip(reference.energy.parameters(), objective.energy.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_guard_stops_an_explosion_before_the_weights():
    objective = Squares(parts())
    before = [p.detach().clone() for p in objective.energy.parameters()]
    with pytest.raises(Diverged, match=r"exploded past callbacks.guard.limit=100 at iteration 1"):
        fit(objective, 5, 1e3 * data(), Guard(limit=100.0))
    for a, b in zip(before, objective.energy.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_energy_evaluations_are_counted_and_limit_a_run():
    objective = Squares(parts())
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Budget(energy_evaluations=50)],
    )  # fmt: skip
    trainer.fit(objective, Batches(data(8)))
    assert objective.iteration == 7  # 7 × 8 = 56 ≥ 50 > 48
    assert objective.energy_evaluations == 56
