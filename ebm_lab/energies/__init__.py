"""Networks and closed-form energies x -> E(x)."""

from ebm_lab.energies.classifier import ClassifierEnergy, NetworkClassifier, as_classifier
from ebm_lab.energies.composition import DensityEnergy, GaussianBase, Mixture, Sum, Tempered
from ebm_lab.energies.convnet import ConvNet
from ebm_lab.energies.energy import Conditioned, Energy, ScoreNetwork, energy_and_gradient, frozen, score
from ebm_lab.energies.gaussian_mixture import GaussianMixtureEnergy
from ebm_lab.energies.mlp import MLP
from ebm_lab.energies.network import NetworkEnergy
from ebm_lab.energies.quadratic import Quadratic
from ebm_lab.energies.resnet import ResNet
from ebm_lab.energies.spectral_norm import advance_power_iteration
from ebm_lab.energies.unet import UNet
from ebm_lab.energies.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "ClassifierEnergy",
    "Conditioned",
    "ConvNet",
    "DensityEnergy",
    "Energy",
    "GaussianBase",
    "GaussianMixtureEnergy",
    "Mixture",
    "NetworkClassifier",
    "NetworkEnergy",
    "Quadratic",
    "ResNet",
    "ScoreNetwork",
    "Sum",
    "Tempered",
    "UNet",
    "WideResNet",
    "advance_power_iteration",
    "as_classifier",
    "energy_and_gradient",
    "frozen",
    "score",
]
