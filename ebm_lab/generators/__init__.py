"""Networks z -> x that propose events; they stand beside energies and know nothing of objectives."""

from ebm_lab.generators.conv import ConvGenerator
from ebm_lab.generators.generator import GeneratorNetwork, LatentPosterior
from ebm_lab.generators.mlp import MLPGenerator

__all__ = ["ConvGenerator", "GeneratorNetwork", "LatentPosterior", "MLPGenerator"]
