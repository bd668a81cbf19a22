"""Normalised densities that can be sampled and scored: noise of NCE, base terms, starts of chains."""

from ebm_lab.noise.copula import GaussianCopula
from ebm_lab.noise.exponential import Exponential
from ebm_lab.noise.flow import Flow
from ebm_lab.noise.gaussian import DiagonalGaussian, Gaussian, StandardGaussian
from ebm_lab.noise.histograms import Histograms
from ebm_lab.noise.independent import Bernoulli, Categorical
from ebm_lab.noise.kernel_density import KernelDensity
from ebm_lab.noise.mixture import LowRankMixture
from ebm_lab.noise.noise import Noise
from ebm_lab.noise.noised_gaussian import NoisedGaussian
from ebm_lab.noise.perturbation import GaussianPerturbation, Perturbation, ShrinkingPerturbation
from ebm_lab.noise.transport import TransportedNoise, need_transport
from ebm_lab.noise.uniform import UniformBox

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "Exponential",
    "Flow",
    "Gaussian",
    "GaussianCopula",
    "GaussianPerturbation",
    "Histograms",
    "KernelDensity",
    "LowRankMixture",
    "Noise",
    "NoisedGaussian",
    "Perturbation",
    "ShrinkingPerturbation",
    "StandardGaussian",
    "TransportedNoise",
    "UniformBox",
    "need_transport",
]
