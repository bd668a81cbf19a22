"""Transition kernels that draw from exp(-E), the loop that runs them, and the pool of persistent chains."""

from ebm_lab.samplers.augmentation import Augmentation
from ebm_lab.samplers.diagnostics import effective_draws, rank_normalised_rhat, split_rhat
from ebm_lab.samplers.driver import Chains, run_chains
from ebm_lab.samplers.hmc import HMC, leapfrog
from ebm_lab.samplers.independence import Independence
from ebm_lab.samplers.kernel import ExactKernel, Info, Kernel, State
from ebm_lab.samplers.langevin import Langevin
from ebm_lab.samplers.mala import MALA
from ebm_lab.samplers.replay_buffer import ReplayBuffer
from ebm_lab.samplers.schedules import Constant, Geometric, Polynomial

__all__ = [
    "HMC",
    "MALA",
    "Augmentation",
    "Chains",
    "Constant",
    "ExactKernel",
    "Geometric",
    "Independence",
    "Info",
    "Kernel",
    "Langevin",
    "Polynomial",
    "ReplayBuffer",
    "State",
    "effective_draws",
    "leapfrog",
    "rank_normalised_rhat",
    "run_chains",
    "split_rhat",
]
