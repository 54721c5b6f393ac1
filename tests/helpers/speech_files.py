"""Small files with the layout of SHD, SSC and Japanese Vowels."""

import h5py
import numpy as np

KEYS = ("zero", "one", "null")


def spikes(rng, n=7, most=40):
    """Times (s), units, labels and speakers of `n` samples; the first one has no spikes."""
    counts = rng.integers(1, most, n)
    counts[0] = 0
    times = [np.sort(rng.uniform(0, 1.3, count)).astype("f2") for count in counts]
    units = [rng.integers(0, 700, count).astype("u2") for count in counts]
    return times, units, rng.integers(0, len(KEYS), n), np.arange(n) % 3 + 4


def write_h5(path, times, units, labels, speakers, keys=KEYS, *, without=()):
    """File with the layout of the published ones."""
    n = len(times)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, trains, kind in (("times", times, "f2"), ("units", units, "u2")):
            field = file.create_dataset(f"spikes/{name}", n, h5py.vlen_dtype(np.dtype(kind)))
            for i, train in enumerate(trains):
                field[i] = train
        file["labels"] = np.asarray(labels).astype("u2")
        text = np.asarray(speakers).dtype.kind == "U"
        file["extra/speaker"] = np.asarray(speakers).astype("S" if text else "u2")
        file["extra/keys"] = np.array(keys, "S")
        file["extra/meta_info/gender"] = np.array(["female", "male"], "S")
        for name in without:
            del file[name]
    return path


def utterances(rng, n):
    return [np.round(rng.normal(size=(rng.integers(7, 30), 12)), 6) for _ in range(n)]


def write_ts(folder, name, series, labels):
    lines = ["#a comment", "@problemName JapaneseVowels", "@data"]
    for x, label in zip(series, labels, strict=True):
        lines.append(":".join([*(",".join(map(str, column)) for column in x.T), str(label)]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")


def write_uci(folder, name, series):
    blocks = ["\n".join(" ".join(map(str, row)) for row in x) for x in series]
    (folder / name).write_text("\n\n".join(blocks) + " \n\n\n")
