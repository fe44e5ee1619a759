#!/usr/bin/env python3
"""Time of one training step of `onnx-zip retrain` against one of ONNX Runtime training.

    examples/step_time.py [--steps N] [--repeat N] [--threads N] [--tool FILE]

Both train the same joint model on the same samples towards the same scores, with AdamW and batches of
64 of each task, which are fed apart. Each is run with few and with many steps, in turns: the difference
is what the steps take, without loading, original models and validation. Processor time is what counts on
a machine that is busy with other things; wall-clock time is shown beside it.

Needs `make build` and `make setup`.
"""

import argparse
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
TRAINING = ROOT / ".venv-training" / "bin" / "python"
FEW = 10
# Name, nets, data sets.
PAIRS = [
    ("LeNet-5", ("lenet5_mnist_a", "lenet5_mnist_b"), ("mnist", "mnist")),
    ("ResNet", ("zoo/resnet_mnist", "zoo/resnet_fashion"), ("mnist", "fashion")),
]


def run(*command: object) -> tuple[float, float]:
    """Processor and wall-clock seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return busy, time.monotonic() - start


def per_step(command: list, steps: int) -> tuple[float, float]:
    """Milliseconds of a step: processor and wall clock."""
    few = run(*command, "--iterations", FEW)
    many = run(*command, "--iterations", FEW + steps)
    return tuple(1000 * (b - a) / steps for a, b in zip(few, many))


def commands(pair: tuple, folder: Path, arguments: argparse.Namespace) -> tuple[list, list]:
    """Commands that train the same joint model: ours and ONNX Runtime training's."""
    _, nets, tasks = pair
    nets = [FIXTURES / "models" / f"{net}.onnx" for net in nets]
    data = [part for task in tasks for part in ("--data", FIXTURES / "data" / f"{task}_train.npz")]
    few = ["--scale", "1/255", "--samples", 1000, "--threads", arguments.threads]
    teachers = [part for net in nets for part in ("--teacher", net)]
    joint, handed = folder / "joint.onnx", folder / "training"
    run(arguments.tool, "merge", *nets, "-o", joint, "--name", "a", "--name", "b", *data, *few,
        "--unit", "neuron", "--share", 1, "--no-verify")
    train = [arguments.tool, "retrain", joint, *teachers, *data, *few]
    run(*train, "--export", handed)
    run(TRAINING, handed / "make_artifacts.py")
    same = ["--loss", "scores", "--optimizer", "adamw", "--batch", 64, "--validation", 0]
    ours = [*train, *same, "-o", folder / "trained.onnx", "--no-verify"]
    return ours, [TRAINING, handed / "train.py", "--threads", arguments.threads]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, metavar="N")
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--tool", default=ROOT / "target" / "release" / "onnx-zip", metavar="FILE")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    print("| net | onnx-zip, ms a step (wall clock) | ONNX Runtime training | ratio |")
    print("|---|---:|---:|---:|")
    for pair in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            both = commands(pair, Path(folder), arguments)
            times = [[per_step(c, arguments.steps) for c in both] for _ in range(arguments.repeat)]
        ours, theirs = ([statistics.median(t) for t in zip(*side)] for side in zip(*times))
        cells = [f"{busy:.1f} ({wall:.1f})" for busy, wall in (ours, theirs)]
        print(f"| {pair[0]} | {cells[0]} | {cells[1]} | {ours[0] / theirs[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
