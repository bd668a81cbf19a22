"""Transition kernels that draw from exp(-E), the loop that runs them, and the pool of persistent chains."""

from ebm_lab.samplers.driver import Chains, run_chains
from ebm_lab.samplers.hmc import HMC, leapfrog
from ebm_lab.samplers.independence import Independence
from ebm_lab.samplers.kernel import ExactKernel, Info, Kernel, State
from ebm_lab.samplers.langevin import Langevin
from ebm_lab.samplers.mala import MALA
from ebm_lab.samplers.replay_buffer import ReplayBuffer
from ebm_lab.samplers.schedules import Constant, Geometric, Listed, Polynomial

__all__ = [
    "HMC",
    "MALA",
    "Chains",
    "Constant",
    "ExactKernel",
    "Geometric",
    "Independence",
    "Info",
    "Kernel",
    "Langevin",
    "Listed",
    "Polynomial",
    "ReplayBuffer",
    "State",
    "leapfrog",
    "run_chains",
]
