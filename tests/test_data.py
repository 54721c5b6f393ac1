"""Data sets: valid and invalid files, complete batches, unchanged digits."""

import gzip
import os
import re
import shutil
import tracemalloc
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pooch
import pytest
import requests

from eventsnn.data import arrays, idx, images, membrane, mnist, moving_mnist
from eventsnn.tasks import TASKS, DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
NAMES = tuple(mnist.SHA256)
REAL = os.environ.get(mnist.VARIABLE)


def as_idx(array):
    """Bytes of an IDX file, written from the description of the format."""
    code = CODES[array.dtype.str[1:]]
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return (
        bytes([0, 0, code, array.ndim])
        + sizes
        + array.astype(array.dtype.str[1:]).byteswap().tobytes()
    )


def little_mnist(n_train=7, n_test=3, side=5):
    """Arrays with the names and types of MNIST's files."""
    rng = np.random.default_rng(3)
    out = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        out[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (n, side, side)).astype("u1")
        out[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, n).astype("u1")
    return out


def write(folder, arrays, spelling="{}"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        path = folder / spelling.format(name)
        content = as_idx(array)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return folder


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture(autouse=True)
def no_files_of_this_machine(monkeypatch):
    monkeypatch.delenv(mnist.VARIABLE, raising=False)


# ------------------------------------------------------------------ IDX files


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dtype", CODES)
def test_idx_reads_every_type(tmp_path, dtype, zipped):
    values = np.array([[1, 0, -3], [100, 7, 2]]).astype(dtype) * np.array(1).astype(dtype)
    if values.dtype.kind == "f":
        values += np.array(1e-3, dtype)
    path = tmp_path / "any.name"
    path.write_bytes(gzip.compress(as_idx(values)) if zipped else as_idx(values))
    found = idx.read(path)
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.dtype(dtype) and found.dtype.isnative and found.flags.writeable


def test_idx_reads_a_file_written_by_hand(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\0\x0b\x02\0\0\0\x02\0\0\0\x01\x01\x02\xff\xfe")
    np.testing.assert_array_equal(idx.read(tmp_path / "a"), [[258], [-2]])


def test_idx_detects_gzip_by_content_not_by_name(tmp_path):
    values = np.arange(5, dtype="u1")
    (tmp_path / "plain.gz").write_bytes(as_idx(values))
    np.testing.assert_array_equal(idx.read(str(tmp_path / "plain.gz")), values)


def test_idx_reads_no_values_at_all(tmp_path):
    (tmp_path / "a").write_bytes(as_idx(np.zeros((0, 4), "f4")))
    assert idx.read(tmp_path / "a").shape == (0, 4)


def header(code, *sizes):
    """Header of an IDX file with the given sizes."""
    return bytes([0, 0, code, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


GOOD = as_idx(np.arange(6, dtype="u1").reshape(2, 3))
MOST = 2**32 - 1
HUGE = header(0x0E, MOST, MOST, MOST)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD[:-1], r"is truncated.*states 6 bytes.*\(2, 3\).*found 5"),
        (GOOD + b"x", "is too long.*states 6 bytes.*found 7"),
        (gzip.compress(GOOD[:-2]), "is truncated.*found 4"),
        (gzip.compress(GOOD + b"x"), "is too long.*states 6 bytes.*found 7 or more"),
        (HUGE, r"is truncated.*states 633825299671392843082401579000 bytes.*found 0\."),
        (gzip.compress(HUGE), r"is truncated.*states 633825299671392843082401579000 bytes"),
        (header(0x0E, 0, MOST, MOST, MOST), f"has shape .0, {MOST}, {MOST}, {MOST}., too large"),
        (GOOD[:9], "broken IDX header.*2 dimensions.*5 bytes for their sizes"),
        (b"\0\0\x08\0\x01", "broken IDX header.*0 dimensions.*expected 1"),
        (b"\0\0\x08\xff" + bytes(4 * 255), "255 dimensions"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file.*'00 00 07 01'.*expected.*08, 09, 0b"),
        (b"\x89PNG\r\n", "not an IDX file.*'89 50 4e 47'"),
        (b"", "not an IDX file.*empty"),
        (gzip.compress(GOOD)[:-9], "broken gzip"),
        (b"\x1f\x8bnot at all gzip", "broken gzip"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "broken gzip"),  # its own checksum
        (gzip.compress(GOOD)[:10] + b"\xff" * 20, "broken gzip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # gzip writes the current time
)
def test_idx_refuses(tmp_path, content, expected):
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"some-file.*{expected}") as error:
        idx.read(path)
    one_line(error)


def test_idx_refuses_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing-here.*does not exist, expected an IDX"):
        idx.read(tmp_path / "nothing-here")
    with pytest.raises(ValueError, match="is a folder, expected an IDX file"):
        idx.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        expected = f"'{path}' is not a regular file, expected an IDX file"
        with pytest.raises(ValueError, match=expected):
            idx.read(path)


@pytest.mark.parametrize("path", [None, 3, b"file", ["file"]])
def test_an_invalid_path_is_refused_by_its_name(path):
    with pytest.raises(TypeError, match=re.escape(f"path must be a path, got {path!r}.")):
        idx.read(path)
    if path is not None:
        with pytest.raises(TypeError, match=re.escape(f"data_dir must be a path, got {path!r}.")):
            mnist.read(path)


def test_an_idx_file_takes_no_more_memory_than_its_array(tmp_path):
    """A gzip file of 32 kB holds 32 MB, although its header announces 10 bytes, or 4 GB."""
    for promised, expected in ((10, "is too long"), (MOST, "is truncated")):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        parts = [header(0x08, promised), *[bytes(2**20)] * 32]
        packed = b"".join(packer.compress(part) for part in parts) + packer.flush()
        (tmp_path / "bomb").write_bytes(packed)
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"bomb' {expected}"):
            idx.read(tmp_path / "bomb")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20


def test_an_array_larger_than_the_memory_is_one_line(tmp_path, monkeypatch):
    path = write(tmp_path, little_mnist()) / NAMES[0]
    path.write_bytes(header(0x08, MOST))
    os.truncate(path, 8 + MOST)  # zeros that take no space on disk

    def empty(shape, dtype):
        raise MemoryError

    monkeypatch.setattr(idx.np, "empty", empty)
    expected = f"{NAMES[0]}' holds {MOST} bytes of values, more than the free memory"
    with pytest.raises(MemoryError, match=expected) as error:
        idx.read(path)
    one_line(error)
    with pytest.raises(DataError, match=expected):
        TASKS["leaky-classification"](dataset="mnist", data_dir=str(tmp_path)).load()


def test_the_folder_of_an_unknown_user_is_refused():
    with pytest.raises(
        FileNotFoundError, match="data_dir must be an existing folder, got '~no-such-user/x'"
    ):
        mnist.read("~no-such-user/x")


# ------------------------------------------------------------------ MNIST from files


def is_little_mnist(data, arrays):
    for part, name in (("train", "train"), ("test", "t10k")):
        x, y = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        assert x.dtype == np.float32 and y.dtype == np.int32
        np.testing.assert_array_equal(np.round(x * 255), arrays[f"{name}-images-idx3-ubyte"])
        np.testing.assert_array_equal(y, arrays[f"{name}-labels-idx1-ubyte"])
        assert x.min() >= 0 and x.max() <= 1
    assert data.n_classes == 10


@pytest.mark.parametrize("subfolder", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("dotted", [False, True])
def test_mnist_by_any_spelling(tmp_path, subfolder, zipped, dotted):
    arrays = little_mnist()
    write(tmp_path / subfolder, arrays, "{}" + zipped)
    if dotted:
        for path in (tmp_path / subfolder).iterdir():
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    is_little_mnist(images.load("mnist", data_dir=str(tmp_path)), arrays)


def test_mnist_by_the_environment(tmp_path, monkeypatch):
    arrays, others = little_mnist(), little_mnist(n_train=4)
    monkeypatch.setenv(mnist.VARIABLE, str(write(tmp_path / "a" / "mnist", arrays).parent))
    is_little_mnist(images.load("mnist"), arrays)
    # An explicit name has precedence.
    is_little_mnist(images.load("mnist", data_dir=write(tmp_path / "b", others)), others)


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


def test_mnist_names_what_is_missing(tmp_path, monkeypatch):
    folder = write(tmp_path / "some", without(little_mnist(), NAMES[1], NAMES[2]))
    expected = f"must be a folder with the four MNIST.*some' without {NAMES[1]}, {NAMES[2]}"
    with pytest.raises(FileNotFoundError, match=f"data_dir {expected}") as error:
        images.load("mnist", data_dir=folder)
    one_line(error)
    monkeypatch.setenv(mnist.VARIABLE, str(folder))
    with pytest.raises(FileNotFoundError, match=f"{mnist.VARIABLE} {expected}"):
        images.load("mnist")
    # Neither an explicitly named empty folder nor a misspelt one triggers a download.
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"without {', '.join(NAMES)}\."):
        images.load("mnist", data_dir=tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"data_dir must be an existing .*nowhere"):
        images.load("mnist", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv(mnist.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=f"{mnist.VARIABLE} must be an existing folder"):
        images.load("mnist")


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        (NAMES[1], np.zeros((7, 5, 5), "u1"), r"uint8 of shape \(7, 5, 5\), expected labels"),
        (NAMES[0], np.zeros(7, "u1"), r"uint8 of shape \(7,\), expected images"),
        (NAMES[0], np.zeros((7, 5, 5), "f4"), r"float32 of shape \(7, 5, 5\), expected images"),
        (NAMES[3], np.zeros(3, "i4"), r"int32 of shape \(3,\), expected labels"),
        (NAMES[2], np.zeros((0, 5, 5), "u1"), r"shape \(0, 5, 5\), expected images"),
        (NAMES[1], np.full(7, 10, "u1"), "label 10, expected labels 0 to 9"),
        (NAMES[1], np.zeros(6, "u1"), f"6 labels, expected 7, one per image in.*{NAMES[0]}"),
        (NAMES[2], np.zeros((3, 5, 4), "u1"), r"shape \(5, 4\), expected \(5, 5\)"),
    ],
)
def test_mnist_refuses_files_whose_content_contradicts_the_name(tmp_path, name, array, expected):
    write(tmp_path, little_mnist() | {name: array})
    with pytest.raises(ValueError, match=f"{name}' holds.*{expected}") as error:
        images.load("mnist", data_dir=tmp_path)
    one_line(error)


@pytest.mark.skipif(not REAL, reason=f"needs MNIST in {mnist.VARIABLE}")
def test_the_real_mnist():
    data = images.load("mnist", data_dir=REAL)
    assert data.train_images.shape == (60000, 28, 28) and data.test_images.shape == (10000, 28, 28)
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.test_labels).tolist() == counts
    assert round(float(data.train_images.mean(dtype=np.float64)), 4) == 0.1307
    assert data.train_images.max() == 1


# ------------------------------------------------------------------ MNIST, downloaded


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Folder that replaces the mirror, a separate cache, and the list of downloads.

    Only the transfer is replaced; checksums and cache are those of pooch.
    """
    arrays = little_mnist()
    folder = write(tmp_path / "mirror", arrays, "{}.gz")
    sums = {name: pooch.file_hash(str(folder / f"{name}.gz")) for name in NAMES}
    downloaded = []

    class Transfer:
        def __init__(self, **options):
            pass

        def __call__(self, url, output_file, pooch, check_only=False):
            assert url.startswith(mnist.MIRROR)
            downloaded.append(url.removeprefix(mnist.MIRROR))
            if not folder.exists():
                raise requests.exceptions.ConnectionError("no\nroute")
            shutil.copy(folder / downloaded[-1], output_file)

    monkeypatch.setattr(mnist, "SHA256", sums)
    monkeypatch.setattr("pooch.downloaders.HTTPDownloader", Transfer)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    pooch.get_logger().disabled = True
    yield folder, arrays, downloaded
    pooch.get_logger().disabled = False


def test_mnist_is_downloaded_once(mirror, tmp_path, monkeypatch):
    folder, arrays, downloaded = mirror
    (tmp_path / "for-other-data").mkdir()
    monkeypatch.setenv(mnist.VARIABLE, str(tmp_path / "for-other-data"))
    is_little_mnist(images.load("mnist"), arrays)
    assert sorted(downloaded) == sorted(f"{name}.gz" for name in NAMES)
    shutil.rmtree(folder)  # without network from here on
    is_little_mnist(images.load("mnist"), arrays)
    assert len(downloaded) == 4


def test_a_wrong_checksum_is_refused_and_not_kept(mirror, tmp_path):
    folder, arrays, _ = mirror
    path = folder / f"{NAMES[2]}.gz"
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    expected = f"{NAMES[2]}.gz.*wrong checksum, expected SHA256 .*--data-dir.*{mnist.VARIABLE}"
    for _ in range(2):
        with pytest.raises(ValueError, match=expected) as error:
            images.load("mnist")
        assert mnist.SHA256[NAMES[2]] in one_line(error)
    path.write_bytes(whole)
    is_little_mnist(images.load("mnist"), arrays)


def test_without_network_the_error_names_the_alternative(mirror):
    folder, _, _ = mirror
    shutil.rmtree(folder)
    expected = (
        f"{NAMES[0]}.gz could not be downloaded from {re.escape(mnist.MIRROR)}.*"
        f"four MNIST files in a folder.*--data-dir.*{mnist.VARIABLE}"
    )
    with pytest.raises(ConnectionError, match=expected) as error:
        images.load("mnist")
    one_line(error)


def test_the_checksums_are_whole():
    assert len(NAMES) == len(set(mnist.SHA256.values())) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in mnist.SHA256.values())


# ------------------------------------------------------------------ digits


@pytest.fixture(scope="module")
def digits():
    return images.load("digits")


def test_digits_are_all_there_and_apart(digits):
    from sklearn.datasets import load_digits

    everything = load_digits()
    x = np.concatenate([digits.train_images, digits.test_images]) * 16
    y = np.concatenate([digits.train_labels, digits.test_labels])
    assert x.dtype == np.float32 and y.dtype == np.int32 and x.min() == 0 and x.max() == 16

    def rows(x, y):
        return sorted(map(tuple, np.column_stack([x.reshape(len(x), -1), y]).tolist()))

    assert rows(x, y) == rows(everything.images, everything.target)
    assert digits.train_images.shape == (1442, 8, 8) and digits.test_images.shape == (355, 8, 8)
    test, train = np.bincount(digits.test_labels), np.bincount(digits.train_labels)
    np.testing.assert_array_equal(test, (test + train) // 5)


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match='dataset must be "digits" or "mnist", got \'fashion\''):
        images.load("fashion")


# ------------------------------------------------------------------ batches

X = np.arange(11, dtype=np.float32).reshape(11, 1, 1) * np.ones((1, 2, 3), np.float32)
Y = np.arange(11, dtype=np.int32)


def in_order(*args, **options):
    """Numbers of the samples, batch by batch; checks that each image has its own label."""
    out = []
    for x, y in arrays.batches(*args, X, Y, **options):
        assert x.dtype == np.float32 and y.dtype == np.int32 and x.shape == (len(y), 2, 3)
        np.testing.assert_array_equal(x, X[y])
        out.append(y.tolist())
    return out


def test_every_epoch_is_a_new_order_of_all(getkey):
    key = getkey()
    found = in_order(key, batch_size=4, epochs=3, drop_last=False)
    assert [len(batch) for batch in found] == [4, 4, 3] * 3
    epochs = [[*a, *b, *c] for a, b, c in (found[:3], found[3:6], found[6:])]
    assert all(sorted(epoch) == Y.tolist() for epoch in epochs)
    assert len(set(map(tuple, [*epochs, Y.tolist()]))) == 4
    # The remainder is dropped, the samples are unchanged.
    assert in_order(key, batch_size=4, epochs=3) == [b for b in found if len(b) == 4]


def test_the_order_is_that_of_the_key(getkey):
    a, b = getkey(), getkey()
    options = dict(batch_size=3, epochs=2)
    assert in_order(a, **options) == in_order(a, **options) != in_order(b, **options)
    assert in_order(a, **options) == in_order(jax.random.key_data(a), **options)
    assert in_order(7, **options) == in_order(7, **options) != in_order(8, **options)


def test_batches_without_end():
    found = arrays.batches(0, X, Y, batch_size=11)
    assert all(sorted(next(found)[1]) == Y.tolist() for _ in range(5))


def test_padded_batches_contain_all_once():
    found = list(arrays.padded_batches(X, Y, batch_size=4))
    assert all(x.shape == (4, 2, 3) and x.dtype == X.dtype for (x, _), _ in found)
    assert all(y.shape == valid.shape == (4,) and valid.dtype == bool for (_, y), valid in found)
    np.testing.assert_array_equal(np.concatenate([x[v] for (x, _), v in found]), X)
    np.testing.assert_array_equal(np.concatenate([y[v] for (_, y), v in found]), Y)
    (x, y), valid = found[-1]
    assert valid.tolist() == [True, True, True, False]
    assert np.array_equal(x[3], X[-1]) and y[3] == Y[-1]
    assert all(valid.all() for _, valid in arrays.padded_batches(X, Y, batch_size=11))
    assert len(list(arrays.padded_batches(X, Y, batch_size=20))) == 1


def test_padded_batches_of_any_number_of_arrays():
    for several in ((X,), (X, Y, Y.astype(np.uint8))):
        found = list(arrays.padded_batches(*several, batch_size=4))
        assert [valid.sum() for _, valid in found] == [4, 4, 3]
        for i, whole in enumerate(several):
            parts = [batch[i][valid] for batch, valid in found]
            np.testing.assert_array_equal(np.concatenate(parts), whole)
            assert parts[0].dtype == whole.dtype
            np.testing.assert_array_equal(found[-1][0][i][3], whole[-1])  # the padding
    for wrong in ((), (X, Y[:10]), (X[:0],), (np.float32(1),)):
        with pytest.raises(ValueError, match=r"^arrays must be .* one row per sample, .*, got"):
            arrays.padded_batches(*wrong, batch_size=4)


def test_batches_refuse():
    with pytest.raises(ValueError, match=r"batch_size must be at most 11, .*, got 12"):
        arrays.batches(0, X, Y, batch_size=12)
    assert len(list(arrays.batches(0, X, Y, batch_size=12, epochs=1, drop_last=False))) == 1
    for bad in (0, -1, 2.0):
        for function in (
            lambda *xs: arrays.padded_batches(*xs[:2], batch_size=xs[2]),
            lambda *xs: arrays.batches(0, *xs[:2], batch_size=xs[2]),
        ):
            with pytest.raises(ValueError, match=f"batch_size must be an integer >= 1, got {bad}"):
                function(X, Y, bad)
    with pytest.raises(ValueError, match=r"one row per sample.*\(11, 2, 3\), \(10,\)"):
        arrays.batches(0, X, Y[:10], batch_size=2)
    with pytest.raises(ValueError, match="at least one"):
        arrays.padded_batches(X[:0], Y[:0], batch_size=2)
    with pytest.raises(ValueError, match=r"key must be a jax\.random key or a seed >= 0, got -1"):
        arrays.batches(-1, X, Y, batch_size=2)


# ------------------------------------------------------------------ moving digits


def corners(frames, shape):
    """Position of the digit in each frame; its image is full, so that its edges can be found."""
    seen = np.asarray(frames) != 0
    rows, columns = seen.any(-1), seen.any(-2)
    assert np.all(rows.sum(-1) == shape[0]) and np.all(columns.sum(-1) == shape[1])
    return np.stack([rows.argmax(-1), columns.argmax(-1)], -1)


FULL = np.random.default_rng(0).uniform(0.1, 1.0, (400, 5, 4)).astype(np.float32)
FILM = jax.jit(moving_mnist.sequences, static_argnames=("num_frames", "canvas"))


def full(key, speed=None):
    return FILM(key, FULL, num_frames=40, canvas=16, speed=speed)


def test_the_digit_moves_as_a_whole(getkey):
    frames = np.asarray(full(getkey()))
    assert frames.shape == (400, 40, 16, 16) and frames.dtype == np.float32
    at = corners(frames, (5, 4))
    for i in range(0, 400, 41):
        for t in range(40):
            y, x = at[i, t]
            np.testing.assert_array_equal(frames[i, t, y : y + 5, x : x + 4], FULL[i])
    # The rest of the canvas is empty.
    np.testing.assert_allclose(
        frames.sum((-2, -1)), np.broadcast_to(FULL.sum((-2, -1))[:, None], (400, 40)), rtol=1e-5
    )


def test_the_path_is_a_straight_line_mirrored_at_the_walls(getkey):
    room, pace = 200, 23.0  # a canvas so wide that the rounding to pixels is negligible
    dots = np.ones((40, 1, 1), np.uint8)
    at = corners(FILM(getkey(), dots, num_frames=25, canvas=room + 1, speed=pace), (1, 1))
    before, now, after = at[:, :-2], at[:, 1:-1], at[:, 2:]
    straight = np.abs(before + after - 2 * now) <= 2
    mirrored = np.zeros_like(straight)
    for wall in (0, room):
        struck = np.abs(2 * wall - after + before - 2 * now) <= 2  # after now
        struck |= np.abs(after + 2 * wall - before - 2 * now) <= 2  # before now
        assert struck.sum() > 20
        mirrored |= struck
    assert np.all(straight | mirrored)
    pace_found = np.linalg.norm(after - now, axis=-1)[straight.all(-1) & ~mirrored.any(-1)]
    np.testing.assert_array_less(np.abs(pace_found - pace), np.sqrt(2))
    assert len(pace_found) > 200


def test_the_usual_speed_is_a_tenth_of_the_room(getkey):
    key = getkey()
    np.testing.assert_array_equal(full(key), full(key, 1.1))


def test_places_are_uniform_at_all_times(getkey):
    at = corners(full(getkey(), 3.3), (5, 4))
    room = np.array([11, 12])
    assert at.min() == 0 and np.all(at.max((0, 1)) == room)
    for t in (0, 17, 39):  # the mean of 400 uniform positions, within four standard errors
        np.testing.assert_array_less(np.abs(at[:, t].mean(0) - room / 2), 4 * room / np.sqrt(4800))
    first = at[:, 1] - at[:, 0]
    assert all((np.sign(first) == (a, b)).all(1).sum() > 50 for a in (-1, 1) for b in (-1, 1))


def test_speed_zero_stands_still(getkey):
    at = corners(full(getkey(), 0.0), (5, 4))
    assert np.all(at == at[:, :1]) and len(np.unique(at[:, 0], axis=0)) > 50


def test_sequences_are_those_of_the_key_in_every_type(getkey):
    key, other = getkey(), getkey()
    frames = full(key)
    np.testing.assert_array_equal(full(key), frames)
    assert np.any(np.asarray(full(other)) != frames)
    places = corners(frames, (5, 4))
    for dtype in (jnp.bfloat16, jnp.float64, jnp.uint8):
        found = FILM(key, jnp.ones(FULL.shape, dtype), num_frames=40, canvas=16)
        assert found.dtype == dtype
        np.testing.assert_array_equal(corners(found, (5, 4)), places)


def test_sequences_under_vmap(getkey):
    keys = jax.random.split(getkey(), 3)
    together = jax.jit(jax.vmap(lambda *args: moving_mnist.sequences(*args, num_frames=6)))(
        keys, FULL[:3]
    )
    assert together.shape == (3, 6, 12, 12)
    for k in range(3):
        np.testing.assert_array_equal(together[k], FILM(keys[k], FULL[k], num_frames=6))
    nested = FILM(keys[0], FULL[:6].reshape(2, 3, 5, 4), num_frames=2)
    assert nested.shape == (2, 3, 2, 12, 12)


def test_the_usual_canvases():
    assert moving_mnist.default_canvas(28) == 64 and moving_mnist.default_canvas(8) == 20


def test_moving_batches(getkey, digits):
    key = getkey()
    options = dict(batch_size=50, num_frames=3)
    x, y = digits.test_images, digits.test_labels
    found = list(moving_mnist.batches(key, x, y, epochs=2, **options))
    assert len(found) == 2 * (355 // 50)
    again = moving_mnist.batches(key, x, y, **options)
    for (frames, labels), (same, same_labels) in zip(found, again, strict=False):
        assert frames.shape == (50, 3, 20, 20) and frames.dtype == jnp.float32
        np.testing.assert_array_equal(frames, same)
        np.testing.assert_array_equal(labels, same_labels)
    # The digits are those of the labels, and on a new path in each epoch.
    shown = {image.tobytes(): label for image, label in zip(cropped(x), y, strict=True)}
    frames, labels = np.concatenate([f for f, _ in found]), np.concatenate([y for _, y in found])
    for image, label in zip(cropped(frames[:, 0]), labels, strict=True):
        assert shown[image.tobytes()] == label
    one = moving_mnist.batches(key, x[:1], y[:1], epochs=20, **options | dict(batch_size=1))
    assert len({np.asarray(frames).tobytes() for frames, _ in one}) == 20


def cropped(x):
    """Each image without the empty rows and columns around the digit."""
    out = []
    for image in np.asarray(x):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        out.append(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy())
    return out


def test_moving_test_batches(getkey, digits):
    key = getkey()
    x, y = digits.test_images[:30], digits.test_labels[:30]
    found = list(moving_mnist.test_batches(key, x, y, batch_size=20, num_frames=2))
    assert [valid.sum() for _, _, valid in found] == [20, 10]
    assert all(frames.shape == (20, 2, 20, 20) for frames, _, _ in found)
    frames, labels = (np.concatenate([b[k][b[2]] for b in found]) for k in (0, 1))
    np.testing.assert_array_equal(labels, y)
    for image, still in zip(cropped(frames[:, 1]), cropped(x), strict=True):
        np.testing.assert_array_equal(image, still)
    ((whole, _, _),) = moving_mnist.test_batches(key, x, y, batch_size=30, num_frames=2)
    np.testing.assert_array_equal(whole, frames)


def test_moving_refuses(getkey):
    key, ones = getkey(), np.ones((4, 8, 8), np.float32)
    for options, expected in (
        (dict(canvas=8), "canvas must be an integer > 8, the longer side of the images, got 8"),
        (dict(canvas=9.5), "canvas must be.*got 9.5"),
        (dict(num_frames=0), "num_frames must be an integer >= 1, got 0"),
        (dict(speed=float("nan")), "speed must be a finite number.*got nan"),
    ):
        with pytest.raises(ValueError, match=expected):
            moving_mnist.sequences(key, ones, **options)
        # These raise before the first batch.
        for function in (moving_mnist.batches, moving_mnist.test_batches):
            with pytest.raises(ValueError, match=expected):
                function(key, ones, np.zeros(4, np.int32), batch_size=2, **options)
    with pytest.raises(ValueError, match=r"images must have shape \(..., h, w\), got shape \(8,\)"):
        moving_mnist.sequences(key, np.ones(8))


# ------------------------------------------------------------------ membrane potentials


def test_membrane_ramps(getkey):
    x, y = membrane.sample(getkey())
    assert x.shape == y.shape == (50, 1) and x.dtype == jnp.result_type(float)
    end = float(x[-1, 0])
    assert 0 < end < 1
    np.testing.assert_allclose(x[:, 0], np.linspace(0, end, 50), rtol=1e-14)
    np.testing.assert_array_equal(x, y)


def test_membrane_square_roots(getkey):
    key = getkey()
    x, y = membrane.sample(key, num_steps=20, mode="sqrt", num_samples=6)
    assert x.shape == y.shape == (20, 6, 1)
    factor = np.asarray(y[1:] ** 2 / x[1:])  # the same for all samples
    np.testing.assert_allclose(factor, factor[0, 0, 0], rtol=1e-13)
    assert 0 < factor[0, 0, 0] < 1 and not np.any(np.isclose(factor[0, 0, 0], x[-1]))
    assert len(np.unique(x[-1])) == 6
    linear, _ = membrane.sample(key, num_steps=20, num_samples=6)
    np.testing.assert_array_equal(x, linear)
    many, _ = membrane.sample(getkey(), num_samples=1000, num_steps=2)
    np.testing.assert_array_less(abs(float(many[-1].mean()) - 0.5), 4 / np.sqrt(12_000))


def test_membrane_refuses(getkey):
    with pytest.raises(ValueError, match='mode must be "linear" or "sqrt", got \'cubic\''):
        membrane.sample(getkey(), mode="cubic")
    for name in ("num_steps", "num_samples"):
        with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
            membrane.sample(getkey(), **{name: 0})
