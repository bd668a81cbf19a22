"""What the objectives that sample from the model in every step watch and leave behind."""

from torch import Tensor

from ebm_lab.objectives.maximum_likelihood import Phases
from ebm_lab.samplers import Chains, Kernel


def check_chain_length(num_steps: int, energy_penalty: float) -> None:
    """Raise a ValueError for chains that do not move or a penalty that rewards large energies."""
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if energy_penalty < 0:
        raise ValueError(f"energy_penalty must not be negative, got {energy_penalty}")


def check_jumps(num_jumps: int, kernel: Kernel) -> None:
    """Raise a ValueError for a negative number of jumps, or jumps beside a kernel without a temperature."""
    if num_jumps < 0:
        raise ValueError(f"num_jumps must not be negative, got {num_jumps}")
    if num_jumps and kernel.temperature is None:
        raise ValueError(
            f"jumps need a temperature, and the sampler has none ({kernel.describe()}): set "
            "objective.num_jumps=0"
        )


def chain_metrics(phases: Phases, chains: Chains, kernel: Kernel) -> dict[str, float | Tensor]:
    """Energies of both phases and their gap, what the kernel reported, its temperature and its step."""
    metrics: dict[str, float | Tensor] = {
        "energy_data": phases.energy_data.mean(),
        "energy_model": phases.energy_model.mean(),
        "energy_gap": phases.energy_data.mean() - phases.energy_model.mean(),
    }
    seen = {
        "sampler_gradient_norm": chains.gradient_norm,
        "acceptance": chains.acceptance,
        "clipped": chains.clipped,
        "temperature": kernel.temperature,
        "step_size": chains.step_size,
        "swap_acceptance": chains.swap_acceptance,
    }
    return metrics | {name: value for name, value in seen.items() if value is not None}
