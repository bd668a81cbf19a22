"""What the networks of images share: the shape that they take."""


def image_shape(shape: tuple[int, ...], network: str, instead: str = "energy=mlp") -> tuple[int, int, int]:
    """The shape of one image as (channels, height, width).

    Args:
        shape: shape of one event.
        network: its name, for the sentence that refuses.
        instead: what takes other shapes.

    Raises:
        ValueError: when `shape` is not an image's.
    """
    if len(shape) != 3:
        raise ValueError(
            f"{network} needs images of shape (channels, height, width), got {tuple(shape)}: choose {instead}"
        )
    channels, height, width = shape
    return channels, height, width
