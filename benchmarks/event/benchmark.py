"""Tasks of the event mode, eventsnn against a peer: speed, compile time, memory and error.

Method: Each library runs in its own environment and process. They run alternately, so that they
never share the cores. All get the same initial state and batches. Compile time is the time of the
first training call minus that of the same call repeated. Speeds at the end of training are measured
from the network trained by eventsnn (with Adam's moments): it is loaded into all libraries, and
each trains blocks of steps, alternately; every block starts from this state. Speeds are medians
over the rounds.

The regression runs in float32. Yin-Yang runs in float64 in both libraries, and a third column has
the results of eventsnn in float32. For Yin-Yang, the losses of the first batch, and the test
accuracies of the trained network in both libraries, show that both compute the same.
"""

from pathlib import Path
from statistics import median
from typing import Any

from ..harness import speed
from ..harness.benchmark import Benchmark
from ..harness.report import comparison, log
from ..harness.worker import Workers, started
from ..workers import files
from .tasks import TASKS

DTYPES = {
    "ttfs-regression": {"ours": "float32", "peer": "float32"},
    "yin-yang": {"ours": "float64", "ours_float32": "float32", "peer": "float64"},
}
YIN_YANG_LABELS = {
    "first_loss": "loss of the first batch",
    "test_accuracy": "test accuracy of the network trained by eventsnn",
}


def measure(name: str, workers: Workers, options: speed.Options, folder: Path) -> dict[str, Any]:
    """Measure the speeds of a task at the start, and from the network trained by eventsnn."""
    task, start = TASKS[name], {}
    steps, trained = options.steps or task.steps, folder / "trained.npz"
    data = files.write(folder / "start.npz", task.draw(0, options.n_batches(steps)))
    for who, worker in workers.items():
        opening = {"task": name, "setting": task.setting, "dtype": DTYPES[name][who]}
        worker.request("open", problem=data, **opening)
        start[who] = speed.at_start(worker, who, data, options)
    scores = speed.train_to_end(workers["ours"], data, trained, steps=steps)
    log(f"ours after {steps} steps: {scores}")
    speeds = speed.compare(workers, start, trained, options)
    return {"peer": options.peer, "training_steps": steps} | speeds


def run_regression(options: speed.SeedOptions) -> dict[str, Any]:
    """Measure all quantities of the regression."""
    with started("event", options.peer) as (workers, folder):
        result = measure("ttfs-regression", workers, options, folder)
        steps, runs = result["training_steps"], []
        for seed in range(options.seeds):
            runs.append(workers["ours"].request("run_task", seed=seed, steps=steps))
            log(f"eventsnn run, seed {seed}: test error {runs[-1]['test_mae']:.3f} ms")
        errors, speeds = ([run[key] for run in runs] for key in ("test_mae", "steps_per_second"))
        result |= {"ours_test_mae": errors, "ours_test_mae_median": median(errors)}
        result["ours_run_steps_per_second"] = median(speeds)
        if options.full_peer and "peer" in workers:
            peer, start, end = workers["peer"], folder / "start.npz", folder / "peer.npz"
            result["peer_test_mae"] = speed.train_to_end(peer, start, end, steps=steps)["test_mae"]
            rates = [speed.block_rate(peer, end, options.peer_block) for _ in range(options.rounds)]
            result["peer_own_end_steps_per_second"] = median(rates)
    return result


def describe_regression(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library."""
    shown = result | {"ours_test_mae": result["ours_test_mae_median"]}
    return comparison(shown, speed.LABELS | {"test_mae": "test error, ms"})


def run_yin_yang(options: speed.Options) -> dict[str, Any]:
    """Measure all quantities of Yin-Yang."""
    with started("event", options.peer, ours=("ours", "ours_float32")) as (workers, folder):
        result = measure("yin-yang", workers, options, folder)
        for name, worker in workers.items():
            worker.request("load", path=folder / "start.npz")
            result[f"{name}_first_loss"] = worker.request("train", first=0, steps=1)["loss"]
        for name, worker in workers.items():
            worker.request("load", path=folder / "trained.npz")
            result[f"{name}_test_accuracy"] = worker.request("evaluate")["test_accuracy"]
    return result


def describe_yin_yang(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library and precision."""
    others = {"ours_float32": "eventsnn, float32"}
    return comparison(result, speed.LABELS | YIN_YANG_LABELS, "eventsnn, float64", others)


BENCHMARKS = {
    "ttfs-regression": Benchmark(
        "spike-time regression: steps/s, compile time, memory and error, also of a peer",
        run_regression,
        describe_regression,
        full=speed.SeedOptions(our_block=100, peer_block=10, seeds=5),
        quick=speed.SeedOptions(our_block=20, peer_block=2, rounds=2, steps=40, seeds=1),
        choices={"peer": ("eventax",)},
    ),
    "yin-yang": Benchmark(
        "Yin-Yang with QIF neurons: steps/s, compile time and memory, also of a peer",
        run_yin_yang,
        describe_yin_yang,
        full=speed.Options(our_block=80, peer_block=4),
        quick=speed.Options(our_block=20, peer_block=1, rounds=2, steps=20),
        choices={"peer": ("eventax",)},
    ),
}
