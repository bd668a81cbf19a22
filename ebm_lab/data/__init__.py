"""Data sets in memory, and the exact densities behind those that have one."""

from ebm_lab.data.batch import Batch
from ebm_lab.data.checkerboard import Checkerboard
from ebm_lab.data.density import Density
from ebm_lab.data.density_data import DensityData
from ebm_lab.data.dequantisation import bits_per_dim, dequantise, log_jacobian
from ebm_lab.data.digits import Digits
from ebm_lab.data.folder import Folder
from ebm_lab.data.gaussian_images import GaussianImages, haar_images
from ebm_lab.data.gaussians import Gaussian, GaussianMixture, IsotropicMixture
from ebm_lab.data.gray_points import GrayPoints
from ebm_lab.data.ica import MixedSources
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.ising import IsingLaw
from ebm_lab.data.loader import EvaluationLoader, IterationLoader
from ebm_lab.data.logit import Logit
from ebm_lab.data.mass_function import MassFunction
from ebm_lab.data.npz import Npz
from ebm_lab.data.splits import Splits
from ebm_lab.data.tables import OneClassTable, Table
from ebm_lab.data.torchvision_images import BinaryMnist, TorchvisionImages
from ebm_lab.data.truncated_gaussian import TruncatedGaussian

__all__ = [
    "Batch",
    "BinaryMnist",
    "Checkerboard",
    "Density",
    "DensityData",
    "Digits",
    "EvaluationLoader",
    "Folder",
    "Gaussian",
    "GaussianImages",
    "GaussianMixture",
    "GrayPoints",
    "InMemoryData",
    "IsingLaw",
    "IsotropicMixture",
    "IterationLoader",
    "Logit",
    "MassFunction",
    "MixedSources",
    "Npz",
    "OneClassTable",
    "Splits",
    "Table",
    "TorchvisionImages",
    "TruncatedGaussian",
    "bits_per_dim",
    "dequantise",
    "haar_images",
    "log_jacobian",
]
