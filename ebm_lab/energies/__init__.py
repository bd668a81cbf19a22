"""Networks and closed-form energies x -> E(x)."""

from ebm_lab.energies.classifier import ClassifierEnergy, NetworkClassifier, as_classifier
from ebm_lab.energies.composition import DensityEnergy, GaussianBase, Mixture, Sum, Tempered
from ebm_lab.energies.convnet import ConvNet
from ebm_lab.energies.derivatives import implicit_losses, score_and_diagonal
from ebm_lab.energies.diffusions import (
    Diffusion,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from ebm_lab.energies.dkef import DeepKernelExponentialFamily
from ebm_lab.energies.energy import (
    Conditioned,
    ConditionedScore,
    Energy,
    ScoreNetwork,
    energy_and_gradient,
    frozen,
    score,
)
from ebm_lab.energies.gaussian_mixture import GaussianMixtureEnergy
from ebm_lab.energies.ica import ICA
from ebm_lab.energies.ising import Ising, Potts, lattice
from ebm_lab.energies.layers import KnowsLaplacian, Layer, Layered
from ebm_lab.energies.mlp import MLP
from ebm_lab.energies.mode_weight import ModeWeight, NoisedModeWeight
from ebm_lab.energies.network import NetworkEnergy
from ebm_lab.energies.noise_conditional import NoiseConditioning
from ebm_lab.energies.noise_levels import (
    NoiseLadder,
    as_events,
    geometric_ladder,
    variance_preserving_ladder,
)
from ebm_lab.energies.path import AnnealingPath, GeometricPath, path_between
from ebm_lab.energies.quadratic import Quadratic
from ebm_lab.energies.quadratic_classifier import QuadraticClassifier
from ebm_lab.energies.quadratic_ladder import QuadraticLadder
from ebm_lab.energies.quadratic_noised import NoisedQuadratic
from ebm_lab.energies.rbm import RBM
from ebm_lab.energies.resnet import ResNet
from ebm_lab.energies.score_networks import ScoreMLP, ScoreUNet
from ebm_lab.energies.spectral_norm import advance_power_iteration
from ebm_lab.energies.states import all_states, enumerated, num_states
from ebm_lab.energies.unet import UNet
from ebm_lab.energies.wide_resnet import WideResNet

__all__ = [
    "ICA",
    "MLP",
    "RBM",
    "AnnealingPath",
    "ClassifierEnergy",
    "Conditioned",
    "ConditionedScore",
    "ConvNet",
    "DeepKernelExponentialFamily",
    "DensityEnergy",
    "Diffusion",
    "Energy",
    "GaussianBase",
    "GaussianMixtureEnergy",
    "GeometricPath",
    "Ising",
    "KnowsLaplacian",
    "Layer",
    "Layered",
    "Mixture",
    "ModeWeight",
    "NetworkClassifier",
    "NetworkEnergy",
    "NoiseConditioning",
    "NoiseLadder",
    "NoisedModeWeight",
    "NoisedQuadratic",
    "Potts",
    "Quadratic",
    "QuadraticClassifier",
    "QuadraticLadder",
    "ResNet",
    "ScoreMLP",
    "ScoreNetwork",
    "ScoreUNet",
    "SubVariancePreserving",
    "Sum",
    "Tempered",
    "UNet",
    "VarianceExploding",
    "VariancePreserving",
    "WideResNet",
    "advance_power_iteration",
    "all_states",
    "as_classifier",
    "as_events",
    "energy_and_gradient",
    "enumerated",
    "frozen",
    "geometric_ladder",
    "implicit_losses",
    "lattice",
    "num_states",
    "path_between",
    "score",
    "score_and_diagonal",
    "variance_preserving_ladder",
]
