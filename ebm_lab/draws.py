"""Random numbers of the kind, dtype and device of a tensor, from a generator: normals, uniforms, signs."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Independent standard normals, with the dtype and on the device of `like`."""
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)


def normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """A standard normal for every number of x."""
    return normal(x.shape, x, generator)


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Independent uniforms on [0, 1), with the dtype and on the device of `like`."""
    return torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)


def signs_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """-1 or 1 for every number of x, with probability ½ each."""
    return 2 * torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype) - 1
