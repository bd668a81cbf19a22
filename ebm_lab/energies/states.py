"""All events of a small discrete space, and sums over them: the reference for every number there."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST = 2**25  # terms of a sum that is still taken
CHUNK = 2**13  # states at a time


def binary_states(
    num_sites: int, numbers: Int[Tensor, " num"] | None = None, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "num sites"]:
    """Events of {0, 1}^sites by their numbers: site i holds bit i. Without numbers, all 2^sites in order."""
    numbers = torch.arange(2**num_sites) if numbers is None else numbers
    return (numbers[:, None] >> torch.arange(num_sites, device=numbers.device) & 1).to(dtype)


def one_hot_states(
    num_sites: int,
    num_classes: int,
    numbers: Int[Tensor, " num"] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "num sites classes"]:
    """Categorical events by their numbers, whose digits in base `num_classes` are the sites' classes."""
    numbers = torch.arange(num_classes**num_sites) if numbers is None else numbers
    powers = num_classes ** torch.arange(num_sites, device=numbers.device)
    classes = numbers[:, None] // powers % num_classes
    return torch.nn.functional.one_hot(classes, num_classes).to(dtype)


def num_states(shape: tuple[int, ...], domain: str) -> int:
    """Number of events of this shape: 2^sites of binary data, classes^sites of categorical."""
    return 2 ** math.prod(shape) if domain == "binary" else shape[-1] ** math.prod(shape[:-1])


def all_states(
    shape: tuple[int, ...],
    domain: str,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Iterator[Float[Tensor, "num *shape"]]:
    """Every event of a binary or categorical domain, some thousands at a time, in the order of the numbers.

    Raises:
        ValueError: for more than 2^25 of them.
    """
    total = num_states(shape, domain)
    check_terms(total)
    for start in range(0, total, CHUNK):
        numbers = torch.arange(start, min(start + CHUNK, total), device=device)
        if domain == "binary":
            states = binary_states(math.prod(shape), numbers, dtype)
        else:
            states = one_hot_states(math.prod(shape[:-1]), shape[-1], numbers, dtype)
        yield states.view(-1, *shape)


@torch.no_grad()
def enumerated(
    function: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    domain: str,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Float[Tensor, " states"]:
    """function at every event, in float64 and in the order of the numbers."""
    return torch.cat([function(states).double() for states in all_states(shape, domain, dtype, device)])


def check_terms(num: int) -> None:
    """Refuse a sum that would take hours."""
    if num > LARGEST:
        raise ValueError(f"a sum over {num:.3g} states is too long: at most 2^25 are summed")
