"""What all training methods share: players, iterations, held-out loss, exact checkpoints."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.domains import CONTINUOUS, check_domain, check_objective
from ebm_lab.draws import normal_like
from ebm_lab.energies import Energy, ScoreNetwork, Tempered, advance_power_iteration
from ebm_lab.errors import Diverged, UserError
from ebm_lab.noise import Noise
from ebm_lab.objectives.known_truth import GaussianTruth, KnownTruth
from ebm_lab.objectives.optimization import Optimization
from ebm_lab.objectives.tweedie import denoise
from ebm_lab.samplers import Kernel, run_chains

log = logging.getLogger("ebm_lab")

TRAINING, HELD_OUT, WATCHING = 0, 1, 6  # random streams of a seed


class Parts(NamedTuple):
    """What a run hands to its objective: built once, shared by all who need it.

    A method with a network of its own in the place of the energy, nested in its YAML, hands it on:
    `super().__init__(parts._replace(energy=network))`.
    """

    energy: Energy
    sampler: Kernel
    noise: Noise
    optimizer: Optimization


@dataclass(frozen=True)
class Player:
    """One of the networks that learn.

    Args:
        loss: the player's own loss of a batch, minimised in its own parameters only.
        module: the network; all its parameters learn unless `groups` says otherwise.
        optimization: optimizer, schedule, clip and micro-batches.
        steps: optimizer steps per iteration, all on its batch; the most of them, where `only_while` is given.
        every: iterations between turns: with 5, the player steps in every fifth iteration, and the others in
            between meet a fresh batch each.
        only_while: asked before every step of a turn, whose first no ends it; None never says no. A flow that
            waits until a classifier tells it from the data has `only_while=lambda: self.accuracy > 0.6`, a
            critic that trains until it is good enough `steps=20, only_while=lambda: self.gap < 0.1`; five
            critic steps to one of the energy need no question, only `steps` or `every`. What it reads must
            come back on resume: a buffer, a parameter, chain state, or what an earlier player of the same
            iteration recorded. Of several processes the first decides. `train/steps_<player>` counts.
        groups: parameter groups as `torch.optim` takes them; a group's `lr_factor` multiplies its rate.
    """

    loss: Callable[[Batch], Tensor]
    module: nn.Module
    optimization: Optimization
    steps: int = 1
    every: int = 1
    only_while: Callable[[], bool] | None = None
    groups: list[dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a player takes at least 1 step an iteration, got steps={self.steps}")
        if self.every < 1:
            raise ValueError(f"a player has a turn every 1 or more iterations, got every={self.every}")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The groups, or one group of all parameters that learn."""
        return self.groups or [{"params": [p for p in self.module.parameters() if p.requires_grad]}]


class Objective(LightningModule):
    """A training method: its loss, what it watches, and the model that it leaves behind.

    A method with one network writes `loss`. A method with several overrides `players`; they step in the
    order of that dictionary, once an iteration or `steps` times, each on the iteration's batch. One batch
    is one iteration: length, checkpoints, schedules and the x-axis of every plot count iterations.

    Class attributes (what the method accepts and how it is judged):
        domains: kinds of data, of real, image, nonnegative, unit, binary and categorical; what samples takes
            those that its kernel moves in.
        needs_labels: the loss reads the class of each event, so data without labels are refused.
        needs_density: the loss reads the density that the data were drawn from, so data without are refused.
        contrasts_noise: the loss reads the noise's density at the data, so noise that has none is refused.
        takes_scores: the loss asks for the score only, so that a network without an energy serves.
        takes_levels: the loss gives the energy a noise level, so that one of x and σ serves.
        needs_second_derivatives: the loss differentiates the score, so ReLU networks are refused.
        minimal_batch: smallest batch on which the loss is defined.
        has_held_out_loss: the loss means something on data that were not trained on.
        monitor: metric by which the best checkpoint is chosen, lower is better.
        trains_by_sampling: negatives are drawn by the run's kernel at its temperature, which `model` applies.
        truth: the closed-form problem on which the method is verified.
        further_truths: more of them, such as one of another domain.
        truth_overrides: further overrides under which they are posed, such as "objective.num_steps=10", where
            the usual numbers would take long or leave no closed form.
        sigma: standard deviation of Gaussian noise added to the data, in their units; 0 adds none. What is
            learned is p_σ = p_data * N(0, σ²I), and samples jump from it to the posterior mean of the data.
        notes: what a reader of the results must know, one sentence each.
    """

    domains: ClassVar[frozenset[str]] = CONTINUOUS
    needs_labels: ClassVar[bool] = False
    needs_density: ClassVar[bool] = False
    contrasts_noise: ClassVar[bool] = False
    takes_scores: ClassVar[bool] = False
    takes_levels: ClassVar[bool] = False
    needs_second_derivatives: ClassVar[bool] = False
    minimal_batch: int = 1
    has_held_out_loss: ClassVar[bool] = False
    monitor: ClassVar[str] = "val/mmd"
    trains_by_sampling: ClassVar[bool] = False
    truth: ClassVar[type[KnownTruth]] = GaussianTruth
    further_truths: ClassVar[tuple[type[KnownTruth], ...]] = ()
    truth_overrides: ClassVar[tuple[str, ...]] = ()
    sigma: float
    notes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parts: Parts, *, sigma: float = 0.0) -> None:
        super().__init__()
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.sigma = sigma
        self.automatic_optimization = False
        self.take(parts.energy)
        self.noise = parts.noise
        self.sampler = parts.sampler
        self.optimization = parts.optimizer
        self.seed = 0
        self.iteration = 0
        self.energy_evaluations = 0
        self.metrics: dict[str, float | Tensor] = {}
        self.losses: dict[str, Tensor] = {}
        self._generator: torch.Generator | None = None
        self._borrowed: torch.Generator | None = None
        self._saved_generator: dict[str, Any] | None = None

    # --- what a method writes -------------------------------------------------------------------

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The method's loss, a mean over the batch; used by the default single player."""
        raise NotImplementedError(f"{type(self).__name__} must write loss, or players")

    def players(self) -> dict[str, Player]:
        """Who learns, in the order in which they step."""
        return {"energy": Player(self.loss, self.energy, self.optimization)}

    def held_out_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss that is judged on held-out data: the first player's, unless a method has a better one."""
        return next(iter(self.players().values())).loss(batch)

    def adapt(self, data: InMemoryData) -> None:
        """Give the networks what only the data know, such as the number of classes.

        Called once, before anything is fitted and before optimizers exist, and in the same way for a run that
        is resumed or loaded: what is drawn here must be a function of `seed`.
        """

    def take(self, energy: Energy) -> None:
        """Train this energy, and count its evaluations."""
        self.energy = energy
        self.energy.register_forward_pre_hook(self._count_evaluations)

    @classmethod
    def check_data(cls, data: InMemoryData) -> None:
        """Refuse data that the method cannot train on, whatever its settings; asked before it is built.

        Raises:
            UserError: one sentence with the choices that work.
        """
        check_objective(cls, data.domain)
        if cls.needs_labels and data.num_classes is None:
            raise UserError(
                f"{cls.__name__} learns from labels, and these data have none: choose data=digits, mnist, "
                "fashion_mnist, cifar10 or gaussian_classes"
            )
        if cls.needs_density and data.density is None:
            raise UserError(
                f"{cls.__name__} learns from the density of the data, and that of these is not known: choose "
                "data=gaussian or a set of points such as data=moons"
            )

    def check(self, data: InMemoryData) -> None:
        """Refuse data and energies that the method cannot train on, before anything is fitted.

        Raises:
            UserError: one sentence with the choices that work.
        """
        self.check_data(data)
        self.adapt(data)
        check_domain("energy", self.energy, data.domain)
        check_domain("noise", self.noise, data.domain)
        if not self.takes_scores and isinstance(self.energy, ScoreNetwork):
            raise UserError(
                f"{type(self).__name__} trains an energy, and {type(self.energy).__name__} is none: choose "
                "energy=mlp for points, convnet or unet for images"
            )
        if self.energy.noise_conditional and not self.takes_levels:
            raise UserError(
                f"{type(self).__name__} learns one law, and this energy is one of x and a noise level: "
                "choose conditioning=none, or another energy"
            )
        if self.trains_by_sampling:
            check_domain("sampler", self.sampler, data.domain)
            self.sampler.check(self.energy)
        if self.needs_second_derivatives and not self.energy.twice_differentiable:
            raise UserError(
                f"{type(self).__name__} differentiates the score, and the Hessian of this energy is zero "
                "almost everywhere, or that of its base term is: choose a smooth activation, such as "
                "energy.activation=silu, and a smooth base, such as noise=gaussian"
            )
        for player in self.players().values():
            player.optimization.build(player.parameter_groups())  # an optimizer that refuses does so now
            parts, size = player.optimization.micro_batches, data.batch_size
            if size % parts or size // parts < self.minimal_batch:
                raise UserError(
                    f"data.batch_size={size} must divide into micro_batches={parts} equal parts of at least "
                    f"{self.minimal_batch}"
                )

    def fit_densities(self, x: Float[Tensor, "num *shape"], label: Int[Tensor, " num"] | None = None) -> None:
        """Fit noise, base terms and energies to events, with classes, of the law that the method learns."""
        fit_parts(self, self.corrupted(x), label)

    def prepare(self, x: Float[Tensor, "num *shape"]) -> None:
        """Look at the training data once, before the first step, with everything fitted."""

    @torch.no_grad()
    def check_noise(self, x: Float[Tensor, "num *shape"], split: str) -> None:
        """Refuse noise that cannot have made the data and is told from them at sight, by an infinite ratio.

        Held-out events that it cannot have made are no more its own: their losses would be those of a
        classifier that is sure, and a likelihood with its density as the base term would be minus infinity.

        Args:
            split: what the events are called: training or held-out.

        Raises:
            UserError: where a method that contrasts noise has none of its density at an event.
        """
        if not self.contrasts_noise:
            return
        outside = int((self.noise.log_prob(self.corrupted(x)) == -torch.inf).sum())
        if outside:
            raise UserError(
                f"the noise has no density at {outside} of {len(x)} {split} events, where its classifier is "
                "sure and learns nothing: choose a wider noise, such as noise=gaussian (of histograms: a "
                "larger noise.margin)"
            )

    def corrupted(self, x: Float[Tensor, "num *shape"]) -> Float[Tensor, "num *shape"]:
        """Events of the law that the method learns, from events of the data: x + σz, or x where σ = 0.

        Noise and base terms are fitted to these, and `target` is their density.
        """
        return x + self.sigma * self.normal_like(x) if self.sigma else x

    def model(self) -> Energy | ScoreNetwork:
        """The trained model, x -> E(x) with p(x) = exp(-E(x)) / Z: base term and temperature applied.

        Where chains had no temperature (a clip, a clamp) it is E as it stands, and no likelihood is claimed.
        """
        temperature = self.sampler.temperature if self.trains_by_sampling else 1.0
        return self.energy if temperature in (None, 1) else Tempered(self.energy, temperature)

    def log_z(self) -> float | None:
        """The learned log Z of `model`, where the method has one."""
        return None

    def log_z_error(self) -> float | None:
        """The standard error of `log_z`, where the method knows it."""
        return None

    def claims_likelihood(self) -> bool:
        """Whether exp(-E) of `model` is the law that was trained, so that a likelihood means something."""
        return not self.trains_by_sampling or self.sampler.temperature is not None

    def measurements(self, data: InMemoryData) -> dict[str, tuple[float, float | None, str, str]]:
        """The method's own final numbers beside those of every run: name -> value, error, unit, note."""
        return {}

    def target(self, density: Any) -> Any:
        """The density that the method learns from data of law `density`: p_σ; None without a closed form."""
        return density.noised(self.sigma) if self.sigma else density

    def generate(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """Samples as this method makes them: `walk`, and the `jump` that ends it."""
        return self.jump(self.walk(num, kernel, num_steps, generator))

    def walk(
        self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator
    ) -> Float[Tensor, "num *shape"]:
        """Draws of the law that the method learns: `num_steps` of `kernel` on the model, from the noise."""
        return run_chains(kernel, self.model(), self.noise.sample(num, generator), num_steps, generator).x

    def jump(
        self, x: Float[Tensor, "num *shape"], model: Energy | ScoreNetwork | None = None
    ) -> Float[Tensor, "num *shape"]:
        """From draws of `model` to the posterior mean of the clean data, where noise was added to these.

        Walk-jump sampling. What comes out is narrower than the data, so that numbers about the model itself
        (energies, chains that go on) are taken of `walk`.
        """
        return denoise(model or self.model(), x, self.sigma) if self.sigma else x

    def conditional_samples(
        self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator
    ) -> Float[Tensor, "classes num *shape"] | None:
        """`num` samples of each class, where the model has classes; images are pictured one row a class."""
        return None

    # These speak of a GaussianTruth, and of truths whose `answer` is what an unbiased method learns; a method
    # with another `truth` overrides `known_truth` and `place`.

    @classmethod
    def truths(cls) -> tuple[type[KnownTruth], ...]:
        """All problems on which the method is verified."""
        return (cls.truth, *cls.further_truths)

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """The precision that the method learns on `truth`, its known bias included: (Σ + σ²I)⁻¹."""
        return truth.map_eigenvalues(lambda m: 1 / (m + self.sigma**2))

    def answer(self, truth: KnownTruth) -> Tensor:
        """What the method learns on `truth`, its known bias included, as `truth.place` takes it."""
        return self.true_precision(truth) if isinstance(truth, GaussianTruth) else truth.answer

    def known_truth(self, truth: KnownTruth) -> dict[str, Float[Tensor, ""]]:
        """The same by name of what is learned."""
        return truth.expected(self.answer(truth))

    def place(self, truth: KnownTruth, factor: float) -> dict[nn.Parameter, Tensor]:
        """Put the model at `factor` times its known truth; the direction of its parameters where that grows.

        Along it the loss of the player `energy` is stationary at factor 1, falls below and rises above: a
        test that every objective passes.
        """
        return truth.place(self.energy, factor * self.answer(truth))

    def learned(self, truth: KnownTruth) -> dict[str, Float[Tensor, ""]]:
        """What was learned on `truth`, under the same names as `known_truth`."""
        return truth.learned(self.energy)

    def watch_chains(self, generator: torch.Generator) -> dict[str, float | Tensor]:
        """How the chains of training mix under the model, logged as `val/name`; they stay as they are."""
        return {}

    def chain_state(self) -> dict[str, Any]:
        """What this process must find again on resume besides weights: chains, ages (numbers, tensors)."""
        return {}

    def load_chain_state(self, state: dict[str, Any]) -> None:
        """Take back what `chain_state` gave."""

    def follow(self, running: Tensor, value: Tensor) -> None:
        """Move a running mean over about 100 iterations of training on; its first value starts it."""
        if self.training:
            running.lerp_(value.to(running), 0.01 if self.iteration else 1.0)

    # --- randomness -------------------------------------------------------------------------------

    @property
    def generator(self) -> torch.Generator:
        """The generator of all draws in training, on the module's device; one a process."""
        if self._borrowed is not None:
            return self._borrowed
        if self._generator is None or self._generator.device.type != self.device.type:
            self._generator = self._first_or_saved_generator()
        return self._generator

    def _first_or_saved_generator(self) -> torch.Generator:
        saved, self._saved_generator = self._saved_generator, None
        if saved is None:
            return seeded_generator(self.seed, TRAINING, self.global_rank, device=self.device)
        if saved["device"] == self.device.type:
            generator = torch.Generator(self.device)
            generator.set_state(saved["state"])
            return generator
        log.info(
            "checkpoint from a %s, this is a %s: random numbers start anew", saved["device"], self.device.type
        )
        return seeded_generator(self.seed, TRAINING, self.global_rank, self.iteration, device=self.device)

    def normal_like(self, x: Tensor) -> Tensor:
        """z ~ N(0, I) of x's shape, from this objective's generator."""
        return normal_like(x, self.generator)

    @contextmanager
    def drawing_from(self, generator: torch.Generator) -> Iterator[None]:
        """Draw from `generator` inside, so that looking at the model leaves training as it was."""
        before, self._borrowed = self._borrowed, generator
        try:
            yield
        finally:
            self._borrowed = before

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Evaluations of the energy inside are no part of the training budget."""
        before = self.energy_evaluations
        try:
            yield
        finally:
            self.energy_evaluations = before

    # --- training ---------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Refuse half precision: the clip and the test for finiteness would see the scaled loss."""
        if str(self.trainer.precision).startswith("16"):
            raise UserError(
                f"trainer.precision={self.trainer.precision} scales the loss: use bf16-mixed or 32-true"
            )

    def configure_optimizers(self) -> tuple[list, list]:
        """One optimizer and one schedule a player."""
        self._players = self.players()
        built = [p.optimization.build(p.parameter_groups()) for p in self._players.values()]
        return [optimizer for optimizer, _ in built], [schedule for _, schedule in built]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One iteration: each player in turn takes its steps."""
        self.metrics = {}
        optimizers = self.optimizers(use_pl_optimizer=True)
        schedules = self.lr_schedulers()
        if len(self._players) == 1:
            optimizers, schedules = [optimizers], [schedules]
        for (name, player), optimizer, schedule in zip(
            self._players.items(), optimizers, schedules, strict=True
        ):
            has_turn = (self.iteration + 1) % player.every == 0
            taken = 0
            with self.sampler.adapting():
                while has_turn and taken < player.steps and self._goes_on(player):
                    self._step(name, player, optimizer, batch)
                    taken += 1
            self.metrics[self._named("lr", name)] = optimizer.param_groups[0]["lr"]
            if player.only_while is not None:
                self.metrics[self._named("steps", name)] = taken
            if has_turn and (taken or schedule.last_epoch):  # torch warns of a schedule before its first step
                while schedule.last_epoch <= self.iteration:  # it counts iterations, not turns
                    schedule.step()
        self.iteration += 1
        self._log_training()

    def _goes_on(self, player: Player) -> bool:
        """What `only_while` says, on every process what the first says: all must step, or none."""
        if player.only_while is None:
            return True
        return self.trainer.strategy.broadcast(bool(player.only_while()))

    def _step(self, name: str, player: Player, optimizer: Any, batch: Batch) -> None:
        alone = len(self._players) == 1
        if not alone:
            self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        parts = player.optimization.micro_batches
        total = 0.0
        for part in batch.chunks(parts) if parts > 1 else [batch]:
            loss = player.loss(part) / parts
            self.manual_backward(loss)
            total = total + loss.detach()
        norm = self._clip(player, optimizer)
        self.losses[name] = total
        self.metrics |= {self._named("loss", name): total, self._named("gradient_norm", name): norm}
        self._refuse_divergence(name, total, norm)
        optimizer.step()
        advance_power_iteration(player.module)
        if not alone:
            self.untoggle_optimizer(optimizer)

    def _named(self, metric: str, player: str) -> str:
        """`loss` of a single player, `loss_critic` and so on of several."""
        return metric if len(self._players) == 1 else f"{metric}_{player}"

    def _clip(self, player: Player, optimizer: Any) -> Tensor:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            raise RuntimeError(f"no parameter of {type(self).__name__} received a gradient")
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        if player.optimization.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, player.optimization.clip, norm)
        return norm

    def _refuse_divergence(self, name: str, loss: Tensor, norm: Tensor) -> None:
        """Stop before a non-finite number reaches the weights, on every rank at once."""
        finite = torch.isfinite(loss + norm)
        if self.trainer.world_size > 1:
            finite = self.trainer.strategy.reduce(finite.float(), reduce_op="mean") == 1
        if not finite:
            seen = ", ".join(f"{k} {float(v):.4g}" for k, v in self.metrics.items())
            raise Diverged(f"the loss of {name} is not finite at iteration {self.iteration + 1} ({seen})")

    def record(self, **metrics: float | Tensor) -> None:
        """Keep what a user of this method watches; logged as `train/name` or `val/name`.

        Tensors stay on their device until they are logged.
        """
        self.metrics |= {k: v.detach() if isinstance(v, Tensor) else v for k, v in metrics.items()}

    def _log_training(self) -> None:
        """Every `log_every_n_steps` iterations, before a checkpoint of this iteration can be written."""
        if self.iteration % self.trainer.log_every_n_steps == 0:
            self.log_at_iteration("train", self.metrics)

    def log_at_iteration(self, split: str, metrics: dict[str, float | Tensor]) -> None:
        """Send `split/name` to every logger at this iteration."""
        numbers = {f"{split}/{k}": float(v) for k, v in metrics.items()}
        for logger in self.trainer.loggers:
            logger.log_metrics(numbers, step=self.iteration)

    # --- held-out loss ------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Every validation draws the same numbers, so that its losses can be compared."""
        self._held_out: list[tuple[int, dict[str, float]]] = []
        self._held_out_generator = seeded_generator(self.seed, HELD_OUT, device=self.device)
        with self.uncounted():
            watched = self.watch_chains(seeded_generator(self.seed, WATCHING, device=self.device))
        if watched:
            self.log_at_iteration("val", watched)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The held-out loss, where the method has one."""
        if not self.has_held_out_loss:
            return
        kept, self.metrics = self.metrics, {}
        with torch.enable_grad(), self.drawing_from(self._held_out_generator), self.uncounted():
            self.record(loss=self.held_out_loss(batch))
        self._held_out.append((len(batch.x), {k: float(v) for k, v in self.metrics.items()}))
        self.metrics = kept

    def on_validation_epoch_end(self) -> None:
        """Average over the batches, weighted by their sizes, and log as `val/name`."""
        if not self._held_out:
            return
        total = sum(n for n, _ in self._held_out)
        means = {k: sum(n * m[k] for n, m in self._held_out) / total for k in self._held_out[0][1]}
        self.log_at_iteration("val", means)
        self.log_dict({f"val/{k}": v for k, v in means.items()}, logger=False, sync_dist=True)

    # --- checkpoints ---------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not keep: iterations, generators, chains and the kernel, one set a rank."""
        generator = {"device": self.device.type, "state": self.generator.get_state().clone()}
        mine = {
            "generator": generator,
            "chains": self.chain_state(),
            "sampler": self.sampler.state_dict(),
        }
        checkpoint["objective"] = {
            "iteration": self.iteration,
            "energy_evaluations": self.energy_evaluations,
            "ranks": self.gather(mine),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Find everything again; refuse a checkpoint of another number of processes."""
        saved = checkpoint["objective"]
        self.iteration = saved["iteration"]
        self.energy_evaluations = saved["energy_evaluations"]
        world = self.trainer.world_size
        if len(saved["ranks"]) != world:
            raise UserError(
                f"the checkpoint is of {len(saved['ranks'])} processes and this run has {world}: "
                "resume with as many devices as it was started with"
            )
        mine = saved["ranks"][self.global_rank]
        self._generator, self._saved_generator = None, mine["generator"]
        self.load_sampler_state(mine)
        self.load_chain_state(mine["chains"])

    def load_sampler_state(self, saved: dict[str, Any]) -> None:
        """Take back the kernel's own state, of what one process saved; older checkpoints hold none."""
        self.sampler.load_state_dict(saved.get("sampler", {}))

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """What a trained run is looked at with: weights, counts, and the chains of its first process."""
        self.load_state_dict(checkpoint["state_dict"])
        saved = checkpoint["objective"]
        self.iteration = saved["iteration"]
        self.energy_evaluations = saved["energy_evaluations"]
        self.load_sampler_state(saved["ranks"][0])
        self.load_chain_state(saved["ranks"][0]["chains"])

    def gather(self, mine: dict[str, Any]) -> list[dict[str, Any]]:
        """What every process has, in the order of their ranks."""
        if self.trainer.world_size == 1:
            return [mine]
        everyone: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(everyone, mine)
        return everyone

    def _count_evaluations(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.energy_evaluations += len(inputs[0])


def fit_parts(
    module: nn.Module, x: Float[Tensor, "num *shape"], label: Int[Tensor, " num"] | None = None
) -> None:
    """Fit every noise in a module to events, with their classes, and then every energy."""
    for part in module.modules():
        if isinstance(part, Noise):
            part.fit_labelled(x, label)
    for part in module.modules():
        if isinstance(part, Energy):
            part.fit(x)
