"""Training methods: one file each, its pure loss first, then its LightningModule."""

from ebm_lab.objectives.approximate_diagonal import ApproximateDiagonal
from ebm_lab.objectives.bregman import BregmanContrast
from ebm_lab.objectives.bridges_truth import BridgesTruth
from ebm_lab.objectives.cd import ContrastiveDivergence
from ebm_lab.objectives.conditional_nce import ConditionalNCE
from ebm_lab.objectives.cooperative import CooperativeTraining
from ebm_lab.objectives.curvature_propagation import CurvaturePropagation
from ebm_lab.objectives.diffclf import DiffusiveClassification
from ebm_lab.objectives.dsm import DenoisingScoreMatching
from ebm_lab.objectives.dual_score_matching import DualScoreMatching
from ebm_lab.objectives.ence import ExponentialNCE
from ebm_lab.objectives.explicit_score_matching import ExplicitScoreMatching
from ebm_lab.objectives.fd_dsm import FiniteDifferenceDenoisingScoreMatching
from ebm_lab.objectives.fd_ssm import FiniteDifferenceSlicedScoreMatching
from ebm_lab.objectives.flow_contrastive import FlowContrastive
from ebm_lab.objectives.improved_cd import ImprovedContrastiveDivergence
from ebm_lab.objectives.jarzynski import JarzynskiLikelihood
from ebm_lab.objectives.jem import JointEnergyModel
from ebm_lab.objectives.known_truth import (
    GaussianImagesTruth,
    GaussianTruth,
    IsingTruth,
    KnownTruth,
    LadderTruth,
    NoisedTruth,
    NormalisedTruth,
)
from ebm_lab.objectives.labelled_truth import ClassesTruth
from ebm_lab.objectives.multigrid import MultiGrid
from ebm_lab.objectives.multiscale_dsm import MultiscaleDenoisingScoreMatching
from ebm_lab.objectives.nce import NoiseContrastiveEstimation
from ebm_lab.objectives.ncsn import NoiseConditionalScoreNetwork
from ebm_lab.objectives.nonnegative_score_matching import NonnegativeScoreMatching
from ebm_lab.objectives.normalised_descent import NormalisedGradientDescent
from ebm_lab.objectives.objective import Objective, Parts, Player
from ebm_lab.objectives.optimization import Optimization
from ebm_lab.objectives.pcd import PersistentContrastiveDivergence
from ebm_lab.objectives.ranking_nce import RankingNCE
from ebm_lab.objectives.ratio_matching import RatioMatching
from ebm_lab.objectives.recovery_likelihood import RecoveryLikelihood
from ebm_lab.objectives.score_matching import ScoreMatching
from ebm_lab.objectives.score_sde import ScoreSDE
from ebm_lab.objectives.self_normalised import SelfNormalisedLikelihood
from ebm_lab.objectives.shifted_nce import ShiftedNCE
from ebm_lab.objectives.short_run import ShortRun
from ebm_lab.objectives.soft_threshold import SoftThresholdAdam
from ebm_lab.objectives.ssm import SlicedScoreMatching
from ebm_lab.objectives.telescoping import TelescopedEnergy, TelescopingRatio
from ebm_lab.objectives.truncated_truth import NonnegativeTruth, UnitTruth
from ebm_lab.objectives.unbiased_cd import UnbiasedContrastiveDivergence
from ebm_lab.objectives.unit_score_matching import UnitScoreMatching

__all__ = [
    "ApproximateDiagonal",
    "BregmanContrast",
    "BridgesTruth",
    "ClassesTruth",
    "ConditionalNCE",
    "ContrastiveDivergence",
    "CooperativeTraining",
    "CurvaturePropagation",
    "DenoisingScoreMatching",
    "DiffusiveClassification",
    "DualScoreMatching",
    "ExplicitScoreMatching",
    "ExponentialNCE",
    "FiniteDifferenceDenoisingScoreMatching",
    "FiniteDifferenceSlicedScoreMatching",
    "FlowContrastive",
    "GaussianImagesTruth",
    "GaussianTruth",
    "ImprovedContrastiveDivergence",
    "IsingTruth",
    "JarzynskiLikelihood",
    "JointEnergyModel",
    "KnownTruth",
    "LadderTruth",
    "MultiGrid",
    "MultiscaleDenoisingScoreMatching",
    "NoiseConditionalScoreNetwork",
    "NoiseContrastiveEstimation",
    "NoisedTruth",
    "NonnegativeScoreMatching",
    "NonnegativeTruth",
    "NormalisedGradientDescent",
    "NormalisedTruth",
    "Objective",
    "Optimization",
    "Parts",
    "PersistentContrastiveDivergence",
    "Player",
    "RankingNCE",
    "RatioMatching",
    "RecoveryLikelihood",
    "ScoreMatching",
    "ScoreSDE",
    "SelfNormalisedLikelihood",
    "ShiftedNCE",
    "ShortRun",
    "SlicedScoreMatching",
    "SoftThresholdAdam",
    "TelescopedEnergy",
    "TelescopingRatio",
    "UnbiasedContrastiveDivergence",
    "UnitScoreMatching",
    "UnitTruth",
]
