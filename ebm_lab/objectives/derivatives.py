"""What objectives with exact second derivatives refuse."""

from ebm_lab.errors import UserError

LARGEST = 256  # numbers of an event whose second derivatives are still taken one by one


def check_size(method: str, size: int, instead: str) -> None:
    """Refuse events of so many numbers that their second derivatives would take minutes a step.

    Args:
        method: that takes them, for the message.
        size: numbers of an event.
        instead: what else to choose.

    Raises:
        UserError: for more than 256 of them.
    """
    if size > LARGEST:
        raise UserError(
            f"{method} takes a second derivative for each of the {size} numbers of an event, and more than "
            f"{LARGEST} take too long: choose {instead}"
        )


def check_chunk_size(chunk_size: int | None) -> int | None:
    """The chunk size, or a ValueError."""
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, or null for all at once, got {chunk_size}")
    return chunk_size
