"""Chains in the coordinates in which the run's noise is a standard normal."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.latent import LatentEnergy
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise
from ebm_lab.noise.transport import TransportedNoise, need_transport
from ebm_lab.samplers.hmc import HMC
from ebm_lab.samplers.kernel import ExactKernel, Info, State
from ebm_lab.samplers.mala import MALA
from ebm_lab.samplers.schedules import Schedule


class InLatentSpace(ExactKernel):
    """An exact kernel that moves z = T⁻¹(x) in place of x, where the noise is the law of T(z), z ~ N(0, I).

        z' ~ K(· | z) of E_z(z) = E(T(z)) - log |det ∂T/∂z|;   x' = T(z')

    It leaves exp(-E) invariant, as K does exp(-E_z). Where the model is near the noise it is near a standard
    normal in z: one step suits all directions, however narrow or edged the model is in x.

    Args:
        kernel: K, MALA or HMC at temperature 1; its step is one in z.

    Raises:
        ValueError: another kernel.
        UserError: chains without a noise that is such a law; `on` gives it one.
    Cost: the kernel's, and a T with its gradient for each evaluation.
    Notes: (1) energies and gradients that the chains report are those of E_z. (2) `at_scale` scales the
    kernel's step in z, as adaptation needs it; the path scales with it only where T is linear around 0.
    Reference: Hoffman et al. 2019, NeuTra-lizing bad geometry in Hamiltonian Monte Carlo, arXiv 1903.03704.
    """

    keeps_memory = True

    def __init__(self, kernel: MALA | HMC) -> None:
        if not isinstance(kernel, MALA | HMC) or kernel.temperature != 1:
            raise ValueError(
                f"{type(kernel).__name__} is no kernel for a latent space: take MALA or HMC at temperature 1"
            )
        super().__init__(1.0)
        self.kernel = kernel
        self.noise: TransportedNoise | None = None
        self.evaluations_per_step = kernel.evaluations_per_step

    @property
    def step_size(self) -> Schedule:
        """Of the kernel, in z."""
        return self.kernel.step_size

    @step_size.setter
    def step_size(self, step_size: Schedule) -> None:
        self.kernel = copy.copy(self.kernel)
        self.kernel.step_size = step_size

    def on(self, noise: Noise) -> "InLatentSpace":
        """The kernel in this noise's coordinates."""
        other = InLatentSpace(self.kernel)
        other.noise = need_transport(noise, "sampler=latent")
        return other

    def at_scale(self, factor: float) -> "InLatentSpace":
        """The kernel with steps `factor` times as long in z."""
        other = InLatentSpace(self.kernel.at_scale(factor))
        other.noise = self.noise
        return other

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x; `State.memory` is z."""
        noise = self._noise()
        z = noise.latent(x)[0].detach()
        return self._seen(self.kernel.init(LatentEnergy(energy, noise), z), x.detach())

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: Any = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is the kernel's."""
        noise = self._noise()
        z = noise.latent(state.x)[0] if state.memory is None else state.memory
        inner, info = self.kernel.step(
            LatentEnergy(energy, noise), state._replace(x=z, memory=None), generator, draw
        )
        with torch.no_grad():
            return self._seen(inner, noise.transport(inner.x)[0]), info

    def _seen(self, inner: State, x: Float[Tensor, "batch *shape"]) -> State:
        return inner._replace(x=x, memory=inner.x)

    def _noise(self) -> TransportedNoise:
        if self.noise is None:
            raise UserError("a kernel in latent space needs the run's noise: kernel.on(noise)")
        return self.noise
