"""Transition kernels that draw from exp(-E), the loops that run them, and the pool of persistent chains."""

from ebm_lab.samplers.annealing import (
    Annealed,
    Level,
    anneal,
    noise_levels,
    temperature_levels,
)
from ebm_lab.samplers.augmentation import Augmentation
from ebm_lab.samplers.block_gibbs import BlockGibbs, TwoLayers
from ebm_lab.samplers.coupled_chains import CoupledChains, run_coupled_chains
from ebm_lab.samplers.coupled_kernels import (
    CoupledBlockGibbs,
    CoupledFiniteChain,
    CoupledGibbs,
    CoupledJumps,
    CoupledKernel,
    CoupledLangevin,
    CoupledMALA,
    coupled,
)
from ebm_lab.samplers.coupling import layer_coupling, maximal_coupling, reflection_coupling
from ebm_lab.samplers.diagnostics import effective_draws, rank_normalised_rhat, split_rhat
from ebm_lab.samplers.discrete_langevin import DiscreteLangevin
from ebm_lab.samplers.driver import Chains, run_chains
from ebm_lab.samplers.dual_averaging import DualAveraging
from ebm_lab.samplers.gibbs import Gibbs
from ebm_lab.samplers.gwg import GibbsWithGradients
from ebm_lab.samplers.hmc import HMC, leapfrog
from ebm_lab.samplers.independence import Independence
from ebm_lab.samplers.kernel import ExactKernel, Info, Kernel, State
from ebm_lab.samplers.langevin import Langevin
from ebm_lab.samplers.latent import InLatentSpace
from ebm_lab.samplers.mala import MALA
from ebm_lab.samplers.parallel_tempering import ParallelTempering
from ebm_lab.samplers.preconditioned import PreconditionedLangevin
from ebm_lab.samplers.probability_flow_ode import Flowed, flow_log_prob, probability_flow
from ebm_lab.samplers.reflected import Reflected
from ebm_lab.samplers.replay_buffer import ReplayBuffer
from ebm_lab.samplers.schedules import Constant, Geometric, Listed, Polynomial
from ebm_lab.samplers.underdamped import UnderdampedLangevin

__all__ = [
    "HMC",
    "MALA",
    "Annealed",
    "Augmentation",
    "BlockGibbs",
    "Chains",
    "Constant",
    "CoupledBlockGibbs",
    "CoupledChains",
    "CoupledFiniteChain",
    "CoupledGibbs",
    "CoupledJumps",
    "CoupledKernel",
    "CoupledLangevin",
    "CoupledMALA",
    "DiscreteLangevin",
    "DualAveraging",
    "ExactKernel",
    "Flowed",
    "Geometric",
    "Gibbs",
    "GibbsWithGradients",
    "InLatentSpace",
    "Independence",
    "Info",
    "Kernel",
    "Langevin",
    "Level",
    "Listed",
    "ParallelTempering",
    "Polynomial",
    "PreconditionedLangevin",
    "Reflected",
    "ReplayBuffer",
    "State",
    "TwoLayers",
    "UnderdampedLangevin",
    "anneal",
    "coupled",
    "effective_draws",
    "flow_log_prob",
    "layer_coupling",
    "leapfrog",
    "maximal_coupling",
    "noise_levels",
    "probability_flow",
    "rank_normalised_rhat",
    "reflection_coupling",
    "run_chains",
    "run_coupled_chains",
    "split_rhat",
    "temperature_levels",
]
