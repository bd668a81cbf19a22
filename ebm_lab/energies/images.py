"""What the energies of images share: the shape that they take."""


def image_shape(shape: tuple[int, ...], energy: str) -> tuple[int, int, int]:
    """The shape of one image as (channels, height, width).

    Args:
        shape: shape of one event.
        energy: name of the energy, for the sentence that refuses.

    Raises:
        ValueError: when `shape` is not an image's.
    """
    if len(shape) != 3:
        raise ValueError(
            f"{energy} needs images of shape (channels, height, width), got {tuple(shape)}: choose energy=mlp"
        )
    channels, height, width = shape
    return channels, height, width
