"""Independent random streams from one seed."""

import numpy as np
import torch


def mixed_seed(*parts: int) -> int:
    """One 64-bit seed of several integers ≥ 0, so that neighbouring tuples give unrelated streams."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def seeded_generator(*parts: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of the integers alone."""
    return torch.Generator(device).manual_seed(mixed_seed(*parts))
