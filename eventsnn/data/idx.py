"""Reader of IDX files, the file format of MNIST."""

import gzip
import math
import os
import sys
import zlib

import numpy as np

from .. import checks

__all__ = ["read"]

_TYPES = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP = b"\x1f\x8b"
_MAX_NDIM = 32
_CHUNK = 2**20
# Upper limit of the compression ratio of Deflate, the algorithm of gzip.
_MAX_COMPRESSION = 1032


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the array in an IDX file, gzipped or not.

    Compression is detected from the content, not from the file name. The file consists of four
    bytes `0 0 type ndim`, the `ndim` sizes of the axes (four bytes each, big-endian) and the values
    (in C order, big-endian). The types are unsigned and signed bytes, 16-bit and 32-bit integers,
    and 32-bit and 64-bit floating-point numbers. The format is described on the MNIST page of
    LeCun, Cortes & Burges (1998).

    The function allocates memory only for the array, and none if the file is too short for the
    array.

    **Arguments:**

    - `path`: path of the file.

    **Returns:** the values as a writable array in native byte order.

    **Raises:** `FileNotFoundError` if the file does not exist. `ValueError` if it is not an IDX
    file, or is longer or shorter than its header states. `MemoryError` if there is not enough
    memory for the array. `TypeError` if `path` is not a path. All messages name the file.
    """
    path = checks.path("path", path)
    _check_kind(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not zipped:
            return _array(path, file, most=size)
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _array(path, unzipped, most=_MAX_COMPRESSION * size)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"'{path}' is a broken gzip file ({error}), expected a complete one."
            ) from None


def _check_kind(path):
    if not path.exists():
        raise FileNotFoundError(f"'{path}' does not exist, expected an IDX file, gzipped or not.")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise ValueError(f"'{path}' is {kind}, expected an IDX file, gzipped or not.")


def _array(path, file, *, most):
    """Read the array from an open file that provides at most `most` bytes."""
    dtype, shape = _header(path, file)
    expected = math.prod(shape) * dtype.itemsize
    most -= 4 + 4 * len(shape)
    if expected > most:
        bound = " at most" if isinstance(file, gzip.GzipFile) else ""
        raise _wrong_length(path, dtype, shape, "is truncated", f"{most}{bound}")
    # NumPy's own limit, which ignores axes of length 0.
    if math.prod(size or 1 for size in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"'{path}' has shape {shape}, too large for an array, although empty.")
    try:
        values = np.empty(shape, dtype)
    except MemoryError:
        raise MemoryError(
            f"'{path}' holds {expected} bytes of values, more than the free memory."
        ) from None
    found = _read_into(values, file)
    if found < expected:
        raise _wrong_length(path, dtype, shape, "is truncated", found)
    if file.read(1):  # at the end of a gzip file this compares its checksum
        raise _wrong_length(path, dtype, shape, "is too long", f"{expected + 1} or more")
    return values if dtype.isnative else values.byteswap(inplace=True).view(dtype.newbyteorder())


def _read_into(values, file):
    """Fill an array with bytes from a file. Return the number of bytes."""
    rest = memoryview(values.reshape(-1).view(np.uint8))
    found = 0
    while count := file.readinto(rest[found : found + _CHUNK]):
        found += count
    return found


def _wrong_length(path, dtype, shape, problem, found):
    expected = math.prod(shape) * dtype.itemsize
    return ValueError(
        f"'{path}' {problem}: its header states {expected} bytes of values "
        f"(shape {shape}, {dtype.newbyteorder('=')}), found {found}."
    )


def _header(path, file):
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES:
        found = f"'{start.hex(' ')}'" if start else "an empty file"
        raise ValueError(
            f"'{path}' is not an IDX file: found {found} at its start, expected '00 00', a type "
            f"({', '.join(f'{code:02x}' for code in _TYPES)}) and the number of dimensions."
        )
    ndim = start[3]
    sizes = file.read(4 * ndim)
    if not 1 <= ndim <= _MAX_NDIM or len(sizes) < 4 * ndim:
        raise ValueError(
            f"'{path}' has a broken IDX header: found {ndim} dimensions and {len(sizes)} bytes for "
            f"their sizes, expected 1 to {_MAX_NDIM} dimensions and four bytes for each."
        )
    return _TYPES[start[2]], tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
