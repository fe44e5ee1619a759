#!/usr/bin/env python3
"""Test errors of merged nets before and after retraining: the tables of docs/retraining.md.

    examples/retraining.py [PAIR…] [--rows ROW…] [--iterations N] [--data DIR] [--samples N] [--tool FILE]

Merges pairs of trained nets with all hidden neurons shared, retrains them, and prints one row for each
state: errors of both tasks in percent on their 10 000 test images, and the mean rise over both originals
in points. The tables of docs/retraining.md take all training images (examples/full_data.py):

    examples/retraining.py --data out/data --samples 60000 --rows merged end per-layer labels scratch alpha

Options of `onnx-zip retrain` behind `--` are passed on. Runs in `.venv`; needs `make build`.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"


@dataclass
class Pair:
    """Two nets with their data sets, and how long they are retrained and trained from scratch."""

    nets: tuple[str, str]
    tasks: tuple[str, str]
    iterations: int
    sparsity: str | None = None
    scratch: int = 10_000


LENET300 = ("lenet300_mnist_a", "lenet300_mnist_b")
LENET5 = ("lenet5_mnist_a", "lenet5_mnist_b")
DIGITS, BOTH = ("mnist", "mnist"), ("mnist", "fashion")
# Steps from scratch are those that the paper's originals took for the LeNets, and those of the nets
# themselves for the others (`fixtures/train_zoo.py`).
PAIRS = {
    "lenet300-ab": Pair(LENET300, DIGITS, 550, scratch=10_450),
    "lenet300-ab-sparse": Pair(LENET300, DIGITS, 800, sparsity="90%", scratch=10_450),
    "lenet5-ab": Pair(LENET5, DIGITS, 600, scratch=11_220),
    "lenet5-ab-sparse": Pair(LENET5, DIGITS, 1200, sparsity="90%", scratch=11_220),
    "lenet300-mf": Pair(("lenet300_mnist_a", "lenet300_fashion"), BOTH, 1000, scratch=10_450),
} | {
    f"{kind}-mf": Pair((f"zoo/{kind}_mnist", f"zoo/{kind}_fashion"), BOTH, 1000, scratch=2813)
    for kind in ("vggbn", "resnet", "mobilenet", "inception")
}
# What comes out of a pair, in this order; the last ones only if they are asked for.
ROWS = ["original", "merged", "end", "per-layer", "labels", "scratch", "alpha"]
USUAL = ROWS[:5]
ALPHAS = (0.1, 0.3, 0.7, 0.9)


class Workshop:
    """One pair in a folder of its own."""

    def __init__(self, pair: Pair, folder: Path, arguments: argparse.Namespace):
        self.pair, self.folder, self.tool = pair, folder, arguments.tool
        self.iterations = arguments.iterations or pair.iterations
        self.threads = ["--threads", arguments.threads] if arguments.threads else []
        self.more = arguments.more
        files = [arguments.data / f"{task}_train.npz" for task in pair.tasks]
        # One data set for both is one stream of samples.
        self.data = [part for file in dict.fromkeys(files) for part in ("--data", file)]
        self.data += ["--scale", "1/255"]
        # Retraining takes all samples there are, a merge as many as it is told to.
        self.samples = ["--samples", arguments.samples] if arguments.samples else []
        self.nets = [self.original(net, file) for net, file in zip(pair.nets, files)]
        self.tests = [np.load(FIXTURES / "data" / f"{task}_test.npz") for task in pair.tasks]
        self.before: float | None = None

    def run(self, *command: object) -> None:
        parts = [str(part) for part in (self.tool, *command, *self.threads)]
        subprocess.run(parts, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def original(self, net: str, data: Path) -> Path:
        path = FIXTURES / "models" / f"{net}.onnx"
        if self.pair.sparsity is None:
            return path
        pruned = self.folder / f"{path.stem}.onnx"
        self.run("prune", path, "--sparsity", self.pair.sparsity, "--data", data, "--scale", "1/255",
                 "-o", pruned, *self.samples)
        return pruned

    def merge(self, *more: object) -> Path:
        joint = self.folder / "joint.onnx"
        names = ("--name", "a", "--name", "b")
        self.run("merge", *self.nets, "-o", joint, *names, *self.data, *self.samples,
                 "--unit", "neuron", "--share", 1, "--no-verify", *more)
        return joint

    def retrain(self, joint: Path, *more: object) -> Path:
        trained = self.folder / "trained.onnx"
        self.run("retrain", joint, "-o", trained, *self.data, "--no-verify", *self.more, *more)
        return trained

    def teachers(self) -> list:
        return [part for net in self.nets for part in ("--teacher", net)]

    def errors(self, model: Path | None) -> list[float]:
        """Percent of test images; of the originals where there is no joint model."""
        errors = []
        for task, (net, test) in enumerate(zip(self.nets, self.tests)):
            session = onnxruntime.InferenceSession(model or net)
            inputs = session.get_inputs()
            shape = [size if isinstance(size, int) else -1 for size in inputs[0].shape]
            images = test["image"].astype(np.float32).reshape(shape) / 255
            output = session.get_outputs()[task if model else 0].name
            scores = [
                session.run([output], {source.name: part for source in inputs})[0]
                for part in np.array_split(images, 20)
            ]
            wrong = np.concatenate(scores).argmax(axis=1) != test["labels"]
            errors.append(100 * float(wrong.mean()))
        return errors

    def row(self, name: str, state: str, model: Path | None) -> None:
        errors = self.errors(model)
        mean = sum(errors) / len(errors)
        self.before = mean if model is None else self.before
        rise = f"{mean - self.before:+.2f}" if model and self.before is not None else ""
        print(f"| {name} | {state} | {errors[0]:.2f} / {errors[1]:.2f} | {rise} |", flush=True)

    def report(self, name: str, rows: list[str]) -> None:
        steps, self.before = self.iterations, None
        self.row(name, "originals", None)
        joint = self.merge()
        if "merged" in rows:
            self.row(name, "merged", joint)
        if "end" in rows:
            trained = self.retrain(joint, *self.teachers(), "--iterations", steps)
            self.row(name, f"retrained at the end, {steps} iterations", trained)
        if "labels" in rows:
            trained = self.retrain(joint, "--loss", "cross-entropy", "--iterations", steps)
            self.row(name, f"the same with labels, {steps}", trained)
        if "per-layer" in rows:
            trained = self.merge("--retrain", "per-layer", "--iterations", steps)
            self.row(name, f"retrained after each layer, {steps} in all", trained)
        if "scratch" in rows:
            self.randomise(joint)
            steps = self.pair.scratch
            trained = self.retrain(joint, "--loss", "cross-entropy", "--iterations", steps,
                                   "--patience", 20)
            self.row(name, f"trained jointly from scratch with labels, {steps}", trained)
        for alpha in ALPHAS if "alpha" in rows else ():
            joint = self.merge("--alpha", alpha)
            self.row(name, f"merged with α = {alpha}", joint)
            trained = self.retrain(joint, *self.teachers(), "--iterations", self.iterations)
            self.row(name, f"α = {alpha}, retrained at the end, {self.iterations}", trained)

    @staticmethod
    def randomise(joint: Path) -> None:
        """Draws all weights anew, with the variance that keeps activations alive; pruned ones stay zero."""
        rng = np.random.default_rng(0)
        model = onnx.load(joint)
        for tensor in model.graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT:
                continue
            dims = list(tensor.dims)
            reach = np.sqrt(6 / np.prod(dims[1:])) if len(dims) > 1 else 0.0
            drawn = rng.uniform(-reach, reach, dims).astype(np.float32)
            drawn[numpy_helper.to_array(tensor) == 0] = 0
            tensor.CopyFrom(numpy_helper.from_array(drawn, tensor.name))
        onnx.save(model, joint)


def parse_arguments() -> argparse.Namespace:
    own, more = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, more = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=USUAL)
    parser.add_argument("--iterations", type=int, metavar="N")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--data", type=Path, default=FIXTURES / "data", metavar="DIR",
                        help="with training images, e.g. mnist_train.npz")
    parser.add_argument("--samples", type=int, metavar="N",
                        help="samples of each task that merges and pruning take, if not 10 000")
    parser.add_argument("--tool", default=ROOT / "target" / "release" / "onnx-zip", metavar="FILE")
    arguments = parser.parse_args(own)
    arguments.more = more
    unknown = sorted(set(arguments.pairs) - set(PAIRS))
    if unknown:
        parser.error(f"unknown pair {', '.join(unknown)}; known: {', '.join(PAIRS)}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    print("| pair | state | errors, % | mean rise |")
    print("|---|---|---:|---:|")
    for name in arguments.pairs or PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            Workshop(PAIRS[name], Path(folder), arguments).report(name, arguments.rows)


if __name__ == "__main__":
    main()
