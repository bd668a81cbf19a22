"""A config-driven lab for training energy-based models: p(x) = exp(-E(x)) / Z.

From Python: `run = ebm_lab.load_run("outputs/...")`, then `run.energy`, `run.sampler`, `run.data` and
`run.results`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_run"]

if TYPE_CHECKING:
    from ebm_lab.building import load_run


def __getattr__(name: str) -> Any:
    """Import torch and Lightning only when a run is loaded: the command line answers without them."""
    if name == "load_run":
        from ebm_lab.building import load_run

        return load_run
    raise AttributeError(f"module ebm_lab has no attribute {name!r}")
