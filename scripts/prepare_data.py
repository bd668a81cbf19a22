"""Download data sets ahead of time: `python scripts/prepare_data.py mnist root=DIR`.

Names are mnist, fashion_mnist and cifar10; without one: all of them. The root is EBM_LAB_DATA, or data/,
unless given. What is there already is read and not downloaded again. Exit code 2 for a mistake of the
user's, and where there is no network.
"""

import os
import sys
from pathlib import Path

from ebm_lab.data.image_files import IMAGE_FILES, read_images
from ebm_lab.errors import UserError


def prepare(arguments: list[str]) -> None:
    """Put every named data set under the root and say where it is."""
    names = [argument for argument in arguments if not argument.startswith("root=")]
    roots = [argument.removeprefix("root=") for argument in arguments if argument.startswith("root=")]
    root = roots[-1] if roots else os.environ.get("EBM_LAB_DATA", "data")
    unknown = [name for name in names if name not in IMAGE_FILES]
    if unknown:
        raise UserError(f"there is no data set {', '.join(unknown)}: choose from {', '.join(IMAGE_FILES)}")
    for name in names or IMAGE_FILES:
        train, test = read_images(name, root, download=True)
        print(f"{name}: {len(train.x)} training and {len(test.x)} test images in {Path(root).absolute()}")


if __name__ == "__main__":
    try:
        prepare(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
