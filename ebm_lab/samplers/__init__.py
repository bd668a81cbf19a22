"""Transition kernels that draw from exp(-E), the loop that runs them, and the pool of persistent chains."""

from ebm_lab.samplers.coupled_chains import CoupledChains, run_coupled_chains
from ebm_lab.samplers.coupled_kernels import (
    CoupledFiniteChain,
    CoupledKernel,
    CoupledLangevin,
    CoupledMALA,
    coupled,
)
from ebm_lab.samplers.coupling import maximal_coupling, reflection_coupling
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
    "Chains",
    "Constant",
    "CoupledChains",
    "CoupledFiniteChain",
    "CoupledKernel",
    "CoupledLangevin",
    "CoupledMALA",
    "ExactKernel",
    "Geometric",
    "Independence",
    "Info",
    "Kernel",
    "Langevin",
    "Polynomial",
    "ReplayBuffer",
    "State",
    "coupled",
    "leapfrog",
    "maximal_coupling",
    "reflection_coupling",
    "run_chains",
    "run_coupled_chains",
]
