"""IDX files, the format of MNIST: a header of big-endian sizes, then the values."""

import gzip
import math
import os
import pathlib
import zlib

import numpy as np

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


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, gzipped or not: the content decides, not the name.

    The file holds `0 0 type ndim` (one byte each), `ndim` sizes (four bytes each, big-endian) and
    the values in C order, big-endian. The types are unsigned and signed bytes, 16-bit and 32-bit
    integers, and 32-bit and 64-bit floating-point numbers. The format is described on the MNIST
    page of LeCun, Cortes & Burges (1998).

    **Arguments:**

    - `path`: the file.

    **Returns:** the values in the byte order of this machine, free to be written to.

    **Raises:** `FileNotFoundError` where there is no such file; `ValueError` for one that is no IDX
    file, or is longer or shorter than its header says. Both name the file.
    """
    data = _content(pathlib.Path(path))
    dtype, shape = _header(path, data)
    start, expected = 4 + 4 * len(shape), math.prod(shape) * dtype.itemsize
    found = len(data) - start
    if found != expected:
        problem = "is cut off" if found < expected else "is too long"
        raise ValueError(
            f"'{path}' {problem}: its header promises {expected} bytes of values "
            f"(shape {shape}, {dtype.newbyteorder('=')}), found {found}."
        )
    values = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def _content(path):
    if not path.exists():
        raise FileNotFoundError(f"'{path}' does not exist, expected an IDX file, gzipped or not.")
    if not path.is_file():
        raise ValueError(f"'{path}' is a folder, expected an IDX file, gzipped or not.")
    data = path.read_bytes()
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"'{path}' is a broken gzip file ({error}), expected a whole one."
        ) from None


def _header(path, data):
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        found = f"'{data[:4].hex(' ')}'" if data else "an empty file"
        raise ValueError(
            f"'{path}' is not an IDX file: found {found} at its start, expected '00 00', a type "
            f"({', '.join(f'{code:02x}' for code in _TYPES)}) and the number of dimensions."
        )
    ndim = data[3]
    if not 1 <= ndim <= _MAX_NDIM or len(data) < 4 + 4 * ndim:
        raise ValueError(
            f"'{path}' has a broken IDX header: found {ndim} dimensions and {len(data) - 4} more "
            f"bytes, expected 1 to {_MAX_NDIM} dimensions and four bytes for the size of each."
        )
    return _TYPES[data[2]], tuple(int(size) for size in np.frombuffer(data, ">u4", ndim, 4))
