"""Training methods: one file each, its pure loss first, then its LightningModule."""

from ebm_lab.objectives.approximate_diagonal import ApproximateDiagonal
from ebm_lab.objectives.cd import ContrastiveDivergence
from ebm_lab.objectives.cooperative import CooperativeTraining
from ebm_lab.objectives.curvature_propagation import CurvaturePropagation
from ebm_lab.objectives.dsm import DenoisingScoreMatching
from ebm_lab.objectives.explicit_score_matching import ExplicitScoreMatching
from ebm_lab.objectives.fd_ssm import FiniteDifferenceSlicedScoreMatching
from ebm_lab.objectives.improved_cd import ImprovedContrastiveDivergence
from ebm_lab.objectives.jarzynski import JarzynskiLikelihood
from ebm_lab.objectives.jem import JointEnergyModel
from ebm_lab.objectives.known_truth import GaussianTruth, IsingTruth, KnownTruth, LadderTruth
from ebm_lab.objectives.labelled_truth import ClassesTruth
from ebm_lab.objectives.nce import NoiseContrastiveEstimation
from ebm_lab.objectives.nonnegative_score_matching import NonnegativeScoreMatching
from ebm_lab.objectives.objective import Objective, Parts, Player
from ebm_lab.objectives.optimization import Optimization
from ebm_lab.objectives.pcd import PersistentContrastiveDivergence
from ebm_lab.objectives.ratio_matching import RatioMatching
from ebm_lab.objectives.recovery_likelihood import RecoveryLikelihood
from ebm_lab.objectives.score_matching import ScoreMatching
from ebm_lab.objectives.short_run import ShortRun
from ebm_lab.objectives.soft_threshold import SoftThresholdAdam
from ebm_lab.objectives.ssm import SlicedScoreMatching
from ebm_lab.objectives.truncated_truth import NonnegativeTruth, UnitTruth
from ebm_lab.objectives.unbiased_cd import UnbiasedContrastiveDivergence
from ebm_lab.objectives.unit_score_matching import UnitScoreMatching

__all__ = [
    "ApproximateDiagonal",
    "ClassesTruth",
    "ContrastiveDivergence",
    "CooperativeTraining",
    "CurvaturePropagation",
    "DenoisingScoreMatching",
    "ExplicitScoreMatching",
    "FiniteDifferenceSlicedScoreMatching",
    "GaussianTruth",
    "ImprovedContrastiveDivergence",
    "IsingTruth",
    "JarzynskiLikelihood",
    "JointEnergyModel",
    "KnownTruth",
    "LadderTruth",
    "NoiseContrastiveEstimation",
    "NonnegativeScoreMatching",
    "NonnegativeTruth",
    "Objective",
    "Optimization",
    "Parts",
    "PersistentContrastiveDivergence",
    "Player",
    "RatioMatching",
    "RecoveryLikelihood",
    "ScoreMatching",
    "ShortRun",
    "SlicedScoreMatching",
    "SoftThresholdAdam",
    "UnbiasedContrastiveDivergence",
    "UnitScoreMatching",
    "UnitTruth",
]
