"""Download data sets ahead of time: `python scripts/prepare_data.py mnist root=DIR`.

Names are mnist, fashion_mnist and cifar10; without one: all of them. The root is EBM_LAB_DATA, or data/,
unless given. What is there already is read and not downloaded again. The names tabular and adbench list the
tables under the root, and say where to get those that are missing; nothing is downloaded. Exit code 2 for a
mistake of the user's, where there is no network, and where a table is missing.
"""

import os
import sys
from pathlib import Path

from ebm_lab.data.image_files import IMAGE_FILES, read_images
from ebm_lab.data.tables import SOURCES, read_table
from ebm_lab.errors import UserError

TABLES = {
    "tabular": "X (n, columns) of floats",
    "adbench": "X (n, columns) and y (n,), 1 for anomalies, as the files are there",
}


def prepare(arguments: list[str]) -> None:
    """Put every named data set under the root and say where it is."""
    names = [argument for argument in arguments if not argument.startswith("root=")]
    roots = [argument.removeprefix("root=") for argument in arguments if argument.startswith("root=")]
    root = roots[-1] if roots else os.environ.get("EBM_LAB_DATA", "data")
    known = [*IMAGE_FILES, *TABLES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"there is no data set {', '.join(unknown)}: choose from {', '.join(known)}")
    for name in names or IMAGE_FILES:
        if name in TABLES:
            list_tables(name, root)
            continue
        train, test = read_images(name, root, download=True)
        print(f"{name}: {len(train.x)} training and {len(test.x)} test images in {Path(root).absolute()}")


def list_tables(folder: str, root: str) -> None:
    """Every table that is there, with its size; a `UserError` with the public source of those missing."""
    place = Path(root).absolute() / folder
    for file in sorted(place.glob("*.npz")):
        x, _ = read_table(folder, file.stem, root)
        print(f"{folder}: {file.stem}, {len(x)} rows of {x.shape[1]} numbers, in {place}")
    there = {file.stem for file in place.glob("*.npz")}
    missing = {name: source for name, source in SOURCES[folder].items() if name not in there}
    if missing:
        sources = "; ".join(f"{name} from {source}" for name, source in missing.items())
        raise UserError(f"get these and save them as {place}/NAME.npz with {TABLES[folder]}: {sources}")


if __name__ == "__main__":
    try:
        prepare(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
