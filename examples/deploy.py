"""Joint models on their way to a device: what converters, optimisers and quantisers leave of the saving.

    .venv/bin/python examples/deploy.py [--pairs PAIR…] [--sizes SIZE…] [--forms FORM…] [--with TOOL…]
        [--test N]

Merges pairs of nets and converts the joint models and their originals with every tool that is
installed. Prints, per pair, form and size, size(joint, converted) / size(A + B, converted): by more
than 0.03 above that of the ONNX files as merged, or with other outputs than the joint model, it is
marked. What is converted is the copy of `onnx-zip strip`. Of formats with a file of weights, that one
counts. For int8 a second table has the test errors. Tools are packages of Python, of which those that are missing
are named and skipped:

    pip install onnxconverter-common onnxsim onnxslim openvino MNN ncnn pnnx
    npm install --prefix out/deploy/web onnxruntime-web    (or wherever ONNX_ZIP_WEB says)
"""

import argparse
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from curves import ROWS, SAMPLES
from converters import CONVERTERS, Converted, Feeds, in_runtime, select
from experiment import DATA, MODELS, OUT, merge, subset, table, tool

BOTH, DIGITS = ("mnist", "fashion"), ("mnist", "mnist")
PAIRS = {
    "resnet": ("ResNet", ("zoo/resnet_mnist", "zoo/resnet_fashion"), BOTH),
    "mobilenet": ("MobileNet", ("zoo/mobilenet_mnist", "zoo/mobilenet_fashion"), BOTH),
    "lenet5": ("LeNet-5", ("lenet5_mnist_a", "lenet5_mnist_b"), DIGITS),
    "lstm": ("LSTM", ("zoo/lstm_mnist", "zoo/lstm_fashion"), BOTH),
}
# The names are those of examples/layers.py, whose merges are the same.
SIZES = {"knee": (), "60": ("--target-size", "60%"), "full": ("--share", "1")}
FORMS = ("heads", "masked", "switch")
QUANTISED = ("static", "dynamic")
MARGIN = 0.03


class Bench:
    """One pair of nets with their samples, and the folder of everything made from them."""

    def __init__(self, pair: str, arguments: argparse.Namespace):
        self.pair, self.arguments = pair, arguments
        self.title, nets, self.tasks = PAIRS[pair]
        self.models = [MODELS / f"{net}.onnx" for net in nets]
        self.names = [model.stem for model in self.models]

    def joint(self, size: str, form: str) -> tuple[Path, Path]:
        """The joint model, and a copy without what only this tool reads. Other forms are the same merge."""
        whole = OUT / "layers" / f"{self.pair}_{size}.onnx"
        train = [subset(f"{task}_train", SAMPLES) for task in self.tasks]
        merge(whole, self.models, train, "--max-rows", ROWS, *SIZES[size])
        stripped = OUT / "deploy" / f"{self.pair}_{size}_{form}.onnx"
        stripped.parent.mkdir(exist_ok=True)
        if form != "heads":
            other = stripped.with_suffix(".recipe.onnx")
            tool("merge", whole, "-o", other, "--form", form, "--share", 0, "--no-verify",
                 "--no-compare", "--samples", 1)
            whole = other
        tool("strip", whole, "-o", stripped)
        return whole, stripped

    @cache
    def original(self, task: int, way: str) -> Converted:
        samples = self.images("train", task, 200)
        return converted(way, self.models[task], [{"image": samples}])

    def images(self, part: str, task: int, count: int) -> np.ndarray:
        arrays = np.load(DATA / f"{self.tasks[task]}_{part}.npz")
        return arrays["image"][:count].reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)

    def calibration(self, form: str) -> list[Feeds]:
        """Samples of both tasks, with the selected task where a run computes one."""
        both = [self.images("train", task, 200) for task in range(2)]
        if form == "heads":
            return [{"image": np.concatenate(both)}]
        return [select({"image": images}, task) for task, images in enumerate(both)]

    def row(self, size: str, form: str) -> list[str]:
        whole, joint = self.joint(size, form)
        before = whole.stat().st_size / sum(model.stat().st_size for model in self.models)
        cells = [self.title, form, size, f"{before:.2f}"]
        for way in self.arguments.tools:
            try:
                cells.append(self.cell(joint, form, way, before))
            except Exception as fault:
                print(f"{self.title}, {form}, {size}, {way}: {fault}", flush=True)
                cells.append("–")
        return cells

    def cell(self, joint: Path, form: str, way: str, before: float) -> str:
        done = converted(way, joint, self.calibration(form))
        both = sum(self.original(task, way).size for task in range(2))
        ratio = done.size / both
        marks = " (!)" if ratio > before + MARGIN else ""
        off = self.deviation(in_runtime(joint), done, form)
        if off > CONVERTERS[way].tolerance:
            marks += f" off by {off:.0e}"
        return f"{ratio:.2f}{marks}"

    def deviation(self, joint: Converted, done: Converted, form: str) -> float:
        """The largest difference between outputs of two models, relative to the largest output."""
        found = []
        for task in range(2):
            feeds = {"image": self.images("test", task, 8)}
            feeds = feeds if form == "heads" else select(feeds, task)
            for right, is_there in zip(joint.run(feeds), done.run(feeds), strict=True):
                is_there = np.asarray(is_there, np.float32).reshape(right.shape)
                found.append(np.abs(right - is_there).max() / max(np.abs(right).max(), 1))
        return float(max(found))

    def errors(self, size: str, form: str, way: str) -> list[str]:
        """Test errors of the originals, the joint model, and both quantised."""
        _, joint = self.joint(size, form)
        samples = self.calibration(form)
        nets = {
            "A, B": [in_runtime(model) for model in self.models],
            "quantised": [self.original(task, way) for task in range(2)],
            "joint": [in_runtime(joint)] * 2,
            "joint, quantised": [converted(way, joint, samples)] * 2,
        }
        cells = []
        for name, runs in nets.items():
            which = form if name.startswith("joint") else None
            found = [self.error(run, task, which) for task, run in enumerate(runs)]
            cells.append(" / ".join(f"{error:.2f}" for error in found))
        ratio = nets["joint, quantised"][0].size / sum(net.size for net in nets["quantised"])
        return [self.title, form, size, CONVERTERS[way].title, *cells, f"{ratio:.2f}"]

    def error(self, net: Converted, task: int, form: str | None) -> float:
        labels = np.load(DATA / f"{self.tasks[task]}_test.npz")["labels"][: self.arguments.test]
        images = self.images("test", task, self.arguments.test)
        wrong = 0
        for start in range(0, len(images), 500):
            feeds = {"image": images[start : start + 500]}
            feeds = feeds if form in (None, "heads") else select(feeds, task)
            scores = net.run(feeds)[task if form else 0]
            wrong += int(np.sum(scores.argmax(axis=1) != labels[start : start + 500]))
        return 100 * wrong / len(images)


def converted(way: str, model: Path, samples: list[Feeds]) -> Converted:
    with tempfile.TemporaryDirectory() as folder:
        return CONVERTERS[way].convert(model, Path(folder), samples)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--with", nargs="+", choices=CONVERTERS, default=list(CONVERTERS), dest="tools")
    parser.add_argument("--test", type=int, default=10_000, help="images of each task")
    arguments = parser.parse_args()
    for way in list(arguments.tools):
        if missing := CONVERTERS[way].missing():
            print(f"{CONVERTERS[way].title} is left out: {', '.join(missing)} is not installed")
            arguments.tools.remove(way)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    benches = [Bench(pair, arguments) for pair in arguments.pairs]
    cases = [(bench, size, form) for bench in benches for form in arguments.forms for size in arguments.sizes]
    rows = [bench.row(size, form) for bench, size, form in cases]
    titles = [CONVERTERS[way].title for way in arguments.tools]
    print("\n" + table(["nets", "form", "size", "ONNX", *titles], rows), flush=True)
    ways = [way for way in arguments.tools if way in QUANTISED]
    rows = [bench.errors(size, form, way) for bench, size, form in cases for way in ways]
    header = ["nets", "form", "size", "quantised", "A, B", "A, B quantised", "joint", "joint quantised"]
    print("\n" + table([*header, "joint / A + B, quantised"], rows), flush=True)


if __name__ == "__main__":
    main()
