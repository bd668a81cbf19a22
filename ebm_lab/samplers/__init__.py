"""Transition kernels that draw from exp(-E), the loop that runs them, and the pool of persistent chains."""

from ebm_lab.samplers.block_gibbs import BlockGibbs, TwoLayers
from ebm_lab.samplers.discrete_langevin import DiscreteLangevin
from ebm_lab.samplers.driver import Chains, run_chains
from ebm_lab.samplers.gibbs import Gibbs
from ebm_lab.samplers.gwg import GibbsWithGradients
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
    "BlockGibbs",
    "Chains",
    "Constant",
    "DiscreteLangevin",
    "ExactKernel",
    "Geometric",
    "Gibbs",
    "GibbsWithGradients",
    "Independence",
    "Info",
    "Kernel",
    "Langevin",
    "Polynomial",
    "ReplayBuffer",
    "State",
    "TwoLayers",
    "leapfrog",
    "run_chains",
]
