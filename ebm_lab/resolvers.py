"""What configs compute before anything is built, and without torch: shapes of arrays, tables and grids."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from omegaconf import ListConfig, OmegaConf

from ebm_lab.errors import UserError


def register() -> None:
    """Make the functions of this file that are named `*_shape` known to OmegaConf, as `${npz_shape:...}`."""
    for function in (npz_shape, table_shape, pooled_shape):
        OmegaConf.register_new_resolver(function.__name__, _as_node(function), replace=True)


def _as_node(function: Callable[..., list[int]]) -> Callable[..., ListConfig]:
    """A plain list cannot be written back where a config is resolved in place, as under `${noise}`."""

    def resolver(*arguments: Any) -> ListConfig:
        return OmegaConf.create(function(*arguments))

    return resolver


def pooled_shape(shape: Sequence[int], factor: int) -> list[int]:
    """Shape of an image whose edges are `factor` times shorter, rounded down; of no image, its own shape.

    What cannot be pooled is refused in words by the objective that was to pool it.
    """
    if len(shape) != 3:
        return list(shape)
    channels, height, width = shape
    return [channels, max(1, height // factor), max(1, width // factor)]


def npz_shape(path: str, key: str, root: str) -> list[int]:
    """Shape of one event of the array `key` (n, *shape) of an .npz file, from the array's header alone.

    Raises:
        UserError: when the file is missing or cut short, has no such array, or the array has no event axes.
    """
    import numpy as np

    file = find_path(path, root)
    with open_array(file, key) as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, _ = read(stream)
    if len(shape) < 2:
        raise UserError(
            f"{file} holds {key} of shape {list(shape)}, the first axis counts events: store it as "
            "(n, *shape), vectors as (n, dim)"
        )
    return list(shape[1:])


def table_shape(folder: str, name: str, root: str) -> list[int]:
    """[columns] of the table X (n, columns) in the file that `table_path` finds.

    Raises:
        UserError: as `table_path` and `npz_shape`.
    """
    return npz_shape(str(table_path(folder, name, root).absolute()), "X", root)


def table_path(folder: str, name: str, root: str) -> Path:
    """root/folder/name.npz.

    Raises:
        UserError: when there is no such file, with the names of those that are there.
    """
    place = Path(root).expanduser() / folder
    if (file := place / f"{name}.npz").is_file():
        return file
    there = sorted(other.stem for other in place.glob("*.npz"))
    if there:
        raise UserError(f"there is no {file}: set data.name to one of {', '.join(there)}")
    raise UserError(
        f"there is no table in {place.absolute()}: `python scripts/prepare_data.py {folder}` says where they "
        "come from; data.root, or EBM_LAB_DATA, is the folder above"
    )


def find_path(path: str, root: str) -> Path:
    """The path as given, or under `root` where it is relative.

    Raises:
        UserError: when neither exists.
    """
    given, below = Path(path).expanduser(), Path(root).expanduser() / path
    for candidate in (given, below):
        if candidate.exists():
            return candidate
    places = f"{given}" if given.is_absolute() else f"{given.absolute()} nor {below.absolute()}"
    raise UserError(f"there is no {places}: set data.path, or data.root to the folder that holds it")


@contextmanager
def open_array(file: Path, key: str) -> Iterator[IO[bytes]]:
    """The array `key` of an .npz file as a stream in NumPy's .npy format.

    Raises:
        UserError: when the file cannot be read, here or while the stream is, or has no such array.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_key(archive, file, key)
            with archive.open(f"{key}.npy") as stream:
                yield stream
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as an .npz file ({error}), it may be cut short: write it again with "
            f"numpy.savez(path, {key}=array)"
        ) from error


def _check_key(archive: zipfile.ZipFile, file: Path, key: str) -> None:
    keys = [name.removesuffix(".npy") for name in archive.namelist()]
    if key not in keys:
        raise UserError(f"{file} has no array {key}: set the key to one of {', '.join(keys)}")
