"""Training methods: one file each, its pure loss first, then its LightningModule."""

from ebm_lab.objectives.cd import ContrastiveDivergence
from ebm_lab.objectives.cooperative import CooperativeTraining
from ebm_lab.objectives.dsm import DenoisingScoreMatching
from ebm_lab.objectives.improved_cd import ImprovedContrastiveDivergence
from ebm_lab.objectives.jarzynski import JarzynskiLikelihood
from ebm_lab.objectives.jem import JointEnergyModel
from ebm_lab.objectives.known_truth import (
    GaussianImagesTruth,
    GaussianTruth,
    IsingTruth,
    KnownTruth,
    LadderTruth,
)
from ebm_lab.objectives.labelled_truth import ClassesTruth
from ebm_lab.objectives.multigrid import MultiGrid
from ebm_lab.objectives.nce import NoiseContrastiveEstimation
from ebm_lab.objectives.objective import Objective, Parts, Player
from ebm_lab.objectives.optimization import Optimization
from ebm_lab.objectives.pcd import PersistentContrastiveDivergence
from ebm_lab.objectives.recovery_likelihood import RecoveryLikelihood
from ebm_lab.objectives.short_run import ShortRun
from ebm_lab.objectives.soft_threshold import SoftThresholdAdam
from ebm_lab.objectives.ssm import SlicedScoreMatching
from ebm_lab.objectives.unbiased_cd import UnbiasedContrastiveDivergence

__all__ = [
    "ClassesTruth",
    "ContrastiveDivergence",
    "CooperativeTraining",
    "DenoisingScoreMatching",
    "GaussianImagesTruth",
    "GaussianTruth",
    "ImprovedContrastiveDivergence",
    "IsingTruth",
    "JarzynskiLikelihood",
    "JointEnergyModel",
    "KnownTruth",
    "LadderTruth",
    "MultiGrid",
    "NoiseContrastiveEstimation",
    "Objective",
    "Optimization",
    "Parts",
    "PersistentContrastiveDivergence",
    "Player",
    "RecoveryLikelihood",
    "ShortRun",
    "SlicedScoreMatching",
    "SoftThresholdAdam",
    "UnbiasedContrastiveDivergence",
]
