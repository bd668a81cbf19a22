"""What watches a run: its length, its health, its samples, and the checkpoints from which it continues."""

from ebm_lab.callbacks.budget import Budget
from ebm_lab.callbacks.checkpoints import Checkpoints
from ebm_lab.callbacks.guard import Guard
from ebm_lab.callbacks.progress import Progress
from ebm_lab.callbacks.samples import Samples

__all__ = ["Budget", "Checkpoints", "Guard", "Progress", "Samples"]
