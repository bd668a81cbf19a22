"""Joint energy-based models: a classifier that is a density too."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.energies import ClassifierEnergy, as_classifier
from ebm_lab.evaluation import mean_and_error
from ebm_lab.objectives.calibration import NUM_BINS, accuracy, expected_calibration_error
from ebm_lab.objectives.labelled_truth import ClassesTruth
from ebm_lab.objectives.maximum_likelihood import Phases, likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics, check_chain_length
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.objectives.persistent_chains import PersistentChains
from ebm_lab.samplers import Kernel, run_chains

HEAD = 5  # random stream of a seed: the map to the logits
CHUNK = 1024  # events classified at a time


class Hybrid(NamedTuple):
    """Loss and its two parts; the phases are None where the density has no weight."""

    loss: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    logits: Float[Tensor, "batch classes"]
    phases: Phases | None


def jem_loss(
    energy: ClassifierEnergy,
    x: Float[Tensor, "batch *shape"],
    label: Int[Tensor, " batch"],
    x_model: Float[Tensor, "num *shape"] | None,
    weight: float = 1.0,
    energy_penalty: float = 0.0,
) -> Hybrid:
    """-mean log p(y | x) + w [mean E(x) - mean E(x_model) + α (mean E(x)² + mean E(x_model)²)].

    x_model is held constant; with x_model ~ p_θ and w = 1 the gradient is that of -mean log p(x, y). None, or
    w = 0, leaves the cross entropy alone.

    Cost: a parameter gradient on 2 batch + num events, on one batch where w = 0.
    Reference: Grathwohl et al. 2020, arXiv 1912.03263, section 3, where w = 1 and α = 0.
    """
    logits = energy.logits(x)
    classes = cross_entropy(logits, label)
    if x_model is None or weight == 0:
        return Hybrid(classes, classes.detach(), logits.detach(), None)
    phases = likelihood_surrogate(energy, x, x_model, energy_penalty)
    return Hybrid(classes + weight * phases.loss, classes.detach(), logits.detach(), phases)


class JointEnergyModel(Objective):
    """JEM: one network learns p(y | x) by cross entropy and p(x) by maximum likelihood.

    E(x) = -log Σ_y exp(f_y(x)) of the logits f(x): minimises -log p(y | x) - w log p(x), the second by
    persistent chains. Any network that ends in a linear map becomes a classifier of as many classes as the
    data have. With w = 0 no chain is run: the same classifier alone, at a plain classifier's cost.

    Args:
        generative_weight: w, at least 0.
        num_steps: kernel steps of each drawn chain per iteration; K in the paper.
        num_chains: chains in the buffer.
        num_jumps: independence Metropolis proposals from the noise per iteration; 0 is off.
        restart_fraction: ρ, probability that a drawn chain starts anew from the noise.
        energy_penalty: α of α (mean E(x)² + mean E(x_model)²); 0 is off.
        sigma: standard deviation of Gaussian noise added to the data of both terms, in their units.

    Cost: num_steps forwards and input gradients, num_jumps forwards, and one parameter gradient on three
        batches; with w = 0 on one.
    Notes: 1. The paper takes the events of the two terms from two batches, here they are of one. 2. Its
        chains start at uniform noise (noise=uniform), its network has leaky ReLUs
        (energy.activation=leaky_relu). 3. Of JEM++ here are the chains' start at class-conditional Gaussians
        (noise=class_gaussians, or noise.num_components=null of a mixture), and its proximal clip
        (sampler.gradient_clip; the paper's bound on a step is step_size · gradient_clip) with steps without
        noise (sampler.temperature=0). Not here: inner steps that take the gradient anew through the first
        layer only (YOPO), and batch norms. 4. Training may diverge suddenly; `callbacks.guard` then stops the
        run. What helps: a larger sigma, a smaller learning rate, energy_penalty, optimizer.clip. 5. At a
        temperature T ≠ 1, p(x) is exp(-E/T), while p(y | x) is softmax f(x) as it was trained. 6. Accuracy
        and calibration are measured on events without added noise.
    Reference: Grathwohl et al. 2020, Your Classifier is Secretly an Energy Based Model and You Should Treat
    it Like One, arXiv 1912.03263; Yang & Ji 2021, JEM++: Improved Techniques for Training JEM, arXiv
    2109.09032.
    """

    needs_labels = True
    has_held_out_loss = True
    monitor = "val/loss"
    truth = ClassesTruth
    truth_overrides = ("sampler=mala", "sampler.step_size=0.1")  # exact: Langevin's bias has no closed form

    def __init__(
        self,
        parts: Parts,
        *,
        generative_weight: float = 1.0,
        num_steps: int = 20,
        num_chains: int = 10_000,
        num_jumps: int = 0,
        restart_fraction: float = 0.05,
        energy_penalty: float = 0.0,
        sigma: float = 0.03,
    ) -> None:
        super().__init__(parts, sigma=sigma)
        check_chain_length(num_steps, energy_penalty)
        if generative_weight < 0:
            raise ValueError(f"generative_weight must not be negative, got {generative_weight}")
        self.generative_weight = generative_weight
        self.trains_by_sampling = generative_weight > 0
        self.energy_penalty = energy_penalty
        self.chains = PersistentChains(
            parts.sampler,
            parts.noise,
            lambda: self.generator,
            num_steps=num_steps,
            num_chains=num_chains,
            num_jumps=num_jumps,
            restart_fraction=restart_fraction,
        )

    def adapt(self, data: InMemoryData) -> None:
        """Make the energy a classifier of the data's classes, from the run's seed."""
        self.take(as_classifier(self.energy, data.num_classes, seeded_generator(self.seed, HEAD)))

    def check(self, data: InMemoryData) -> None:
        """The buffer must hold a batch of chains."""
        super().check(data)
        self.chains.check(data)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The hybrid loss on the batch and, unless w = 0, on chains that go on where they were."""
        x = self.corrupted(batch.x)
        self.energy_evaluations += len(x)  # the logits are asked for beside E, which counts itself
        chains, watched = self._negatives(len(x))
        hybrid = jem_loss(
            self.energy,
            x,
            batch.label,
            None if chains is None else chains.x,
            self.generative_weight,
            self.energy_penalty,
        )
        if chains is not None:
            watched |= chain_metrics(hybrid.phases, chains, self.sampler)
        correct = hybrid.logits.argmax(1) == batch.label
        self.record(cross_entropy=hybrid.cross_entropy, accuracy=correct.float().mean(), **watched)
        return hybrid.loss

    def _negatives(self, num: int) -> tuple[Any, dict[str, float | Tensor]]:
        return self.chains.advance(self.energy, num) if self.generative_weight else (None, {})

    def held_out_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The cross entropy: E alone means nothing without log Z."""
        logits = self.energy.logits(batch.x)
        self.record(accuracy=(logits.argmax(1) == batch.label).float().mean())
        return cross_entropy(logits, batch.label)

    def claims_likelihood(self) -> bool:
        """Not of a classifier alone, and not without a temperature."""
        return self.generative_weight > 0 and super().claims_likelihood()

    @property
    def notes(self) -> tuple[str, ...]:
        """That a classifier alone is no model of its events."""
        if self.generative_weight:
            return ()
        return (
            "generative_weight=0 trains the classifier alone: but for a base term its E(x) was never fitted "
            "to the data, so samples and energies say nothing about what it learned of them.",
        )

    @torch.no_grad()
    def measurements(self, data: InMemoryData) -> dict[str, tuple[float, float | None, str, str]]:
        """Accuracy, calibration and cross entropy of p(y | x) on the test set."""
        test_x, label = data.test_x.to(self.device, self.dtype), data.test_labels.to(self.device)
        logits = torch.cat([self.energy.logits(part) for part in test_x.split(CHUNK)]).double()
        confidence, predicted = logits.softmax(1).max(1)
        correct = predicted == label
        losses = cross_entropy(logits, label, reduction="none")
        of = f"of p(y | x) on {len(label)} test events"
        return {
            "accuracy": (*accuracy(correct), "", of),
            "ece": (
                *expected_calibration_error(confidence, correct),
                "",
                f"expected calibration error {of}, {NUM_BINS} bins of equal width on [0, 1]; errs high",
            ),
            "cross_entropy": (*mean_and_error(losses), "nats", f"-log p(y | x), mean {of}"),
        }

    def conditional_samples(
        self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator
    ) -> Float[Tensor, "classes num *shape"]:
        """Chains on E(x, y) of each class y, from the noise's draws of that class where it knows classes."""
        classes = torch.arange(self.energy.num_classes, device=self.device)
        label = classes.repeat_interleave(num)
        start = self.noise.sample_labelled(label, generator)
        model = self.model().given(label=label)
        x = run_chains(kernel, model, start, num_steps, generator).x
        return self.jump(x, model).unflatten(0, (len(classes), num))

    def known_truth(self, truth: ClassesTruth) -> dict[str, Float[Tensor, ""]]:
        """Weights, means and deviations of the classes, these with σ² added to their squares."""
        return truth.expected(self.sigma)

    def place(self, truth: ClassesTruth, factor: float) -> dict[nn.Parameter, Tensor]:
        """All precisions `factor` times the true ones; the direction in which they grow."""
        return truth.place(self.energy, self.sigma, factor)

    def chain_state(self) -> dict[str, Any]:
        """Chains, ages, restarts; none where w = 0."""
        return self.chains.state_dict()

    def load_chain_state(self, state: dict[str, Any]) -> None:
        """Keep them until the buffer is made."""
        self.chains.load_state_dict(state)
