#!/usr/bin/env python3
"""Test errors of merged fine-tunes of one backbone beside those of simpler ways: a table of docs/results.md.

    examples/finetunes.py [PAIR…] [--samples N]

Each row is a way to serve both tasks: the part of the parameters and of the files of both nets that it takes, the
error of each task in percent on 10 000 test images, and the mean rise over both originals in points. Nothing is
retrained but where a row says so: 1000 steps without labels. What the tool makes stays in out/results/. The
simpler ways:

- one task's backbone: all constants but those of the last layer are the other task's;
- average: of each constant of both, with each task's own last layer;
- average + statistics anew: each channel of each layer is scaled and shifted per task so that its mean and
  variance are those of the original, as BatchNorm does that takes its statistics anew;
- TIES from a task: the difference of the other task's constants from that task's, of which only the largest fifth
  in magnitude is kept, added to them. The weights that both nets were trained from are not kept, so one task
  stands for them; with two tasks, signs are then elected by the other alone;
- RegMean: common weights by least squares over both tasks' inputs of each layer; everything else is averaged.

Statistics are taken anew in convolutional nets only. Runs in `.venv`; needs `make build`.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from experiment import DATA, MODELS, OUT, error, errors, merge, subset, table

TASKS = ("mnist", "fashion")
PAIRS = {
    "resnet": [MODELS / "finetunes" / f"resnet_{task}.onnx" for task in TASKS],
    "vit": [MODELS / "vit" / f"tuned_{task}.onnx" for task in TASKS],
    "vit, two seeds": [MODELS / "vit" / f"vit_{task}.onnx" for task in TASKS],
}
# Positions of each image that least squares see.
POSITIONS = 16
# The part of the differences that TIES keeps.
KEPT = 0.2
# What keeps the experiment short.
THRIFT = ("--threads", 1, "--max-rows", 65536, "--no-compare")
# What the tool is asked for, and how the table calls it.
WAYS = {
    "onnx-zip, all shared": ("--share", 1),
    "onnx-zip, all shared, pairs searched": ("--share", 1, "--correspondence", "search"),
    "onnx-zip, all shared, scales": ("--share", 1, "--corrections", "scale"),
    "onnx-zip, 55 %": ("--target-size", "55%"),
    "onnx-zip, 55 %, scales": ("--target-size", "55%", "--corrections", "scale"),
    "onnx-zip, 57 %": ("--target-size", "57%"),
    "onnx-zip, 60 %": ("--target-size", "60%"),
    "onnx-zip, 55 %, low rank": ("--target-size", "55%", "--corrections", "low-rank"),
    "onnx-zip, 60 %, low rank": ("--target-size", "60%", "--corrections", "low-rank"),
    "onnx-zip, 53 %, differences of 4 bits": ("--target-size", "53%", "--delta", "int4"),
    "onnx-zip, 55 %, differences of 4 bits": ("--target-size", "55%", "--delta", "int4"),
    "onnx-zip, 57 %, differences of 4 bits": ("--target-size", "57%", "--delta", "int4"),
    "onnx-zip, 60 %, differences of 4 bits": ("--target-size", "60%", "--delta", "int4"),
    "onnx-zip, differences of 4 bits": ("--delta", "int4"),
    "onnx-zip, differences of 8 bits": ("--delta", "int8"),
    "onnx-zip, all shared, retrained": ("--share", 1, "--retrain", "end"),
    "onnx-zip, 53 %, differences of 4 bits, retrained": (
        *("--target-size", "53%", "--delta", "int4", "--retrain", "end"),
    ),
}


class Net:
    """A model whose weights can be replaced."""

    def __init__(self, path: Path):
        self.model = onnx.load(path)
        self.values = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        names = {n.output[0]: n.input[0] for n in self.model.graph.node if n.op_type == "Identity"}
        weights = [n for n in self.model.graph.node if self.is_layer(n)]
        for node in weights:
            # A tensor that two layers have in common becomes one of each.
            for slot in range(1, len(node.input)):
                value = self.values[names.get(node.input[slot], node.input[slot])]
                node.input[slot] = f"{node.output[0]}.{slot}"
                self.values[node.input[slot]] = value
        self.layers = weights
        read = {name for node in self.model.graph.node for name in node.input}
        self.values = {name: value for name, value in self.values.items() if name in read}

    def is_layer(self, node: onnx.NodeProto) -> bool:
        is_product = node.op_type == "MatMul" and node.input[1] in self.values
        return is_product or node.op_type in ("Conv", "Gemm")

    def weights(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        return tuple(self.values[self.layers[layer].input[slot]] for slot in (1, 2))

    def set(self, layer: int, weight: np.ndarray, bias: np.ndarray) -> None:
        for slot, value in ((1, weight), (2, bias)):
            self.values[self.layers[layer].input[slot]] = value.astype(np.float32)

    def bytes(self, outputs: list[str] = ()) -> bytes:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.initializer[:]
        tensors = [numpy_helper.from_array(v, name) for name, v in self.values.items()]
        model.graph.initializer.extend(tensors)
        if outputs:
            del model.graph.output[:]
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return model.SerializeToString()

    def run(self, outputs: list[str], images: np.ndarray) -> list[np.ndarray]:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(self.bytes(outputs), options)
        return session.run(outputs, {self.model.graph.input[0].name: images})

    def inner(self) -> range:
        """All layers but the last."""
        return range(len(self.layers) - 1)

    def common(self) -> list[str]:
        """Names of all constants of floating point but those of the last layer."""
        last = set(self.layers[-1].input)
        return [n for n, v in self.values.items() if v.dtype == np.float32 and n not in last]

    def has_convolutions_only(self) -> bool:
        return not any(node.op_type == "MatMul" for node in self.model.graph.node)

    def size(self) -> float:
        """The part of the parameters of two such nets that one of them and a last layer take."""
        total = sum(v.size for v in self.values.values() if v.dtype == np.float32)
        return (total + sum(v.size for v in self.weights(len(self.layers) - 1))) / (2 * total)


def images(task: str, samples: int) -> np.ndarray:
    return np.load(DATA / f"{task}_train.npz")["image"][:samples, None].astype(np.float32) / 255


def averaged(nets: list[Net], own: Net) -> None:
    for name in own.common():
        own.values[name] = sum(net.values[name] for net in nets) / np.float32(len(nets))


def trimmed(base: Net, other: Net, own: Net) -> None:
    """Adds to the base's constants the largest fifth of the differences of the other net's."""
    names = own.common()
    differences = {name: other.values[name] - base.values[name] for name in names}
    sizes = np.concatenate([np.abs(difference).ravel() for difference in differences.values()])
    least = np.quantile(sizes, 1 - KEPT)
    for name, difference in differences.items():
        own.values[name] = base.values[name] + np.where(np.abs(difference) >= least, difference, 0)


def anew(original: Net, own: Net, data: np.ndarray) -> None:
    """Gives the channels of each layer the mean and variance of the original's."""
    for layer in own.inner():
        name = own.layers[layer].output[0]
        wanted, found = (net.run([name], data)[0] for net in (original, own))
        (mean, spread), (own_mean, own_spread) = (
            (v.mean((0, 2, 3)), v.std((0, 2, 3)) + 1e-6) for v in (wanted, found)
        )
        weight, bias = own.weights(layer)
        scale = spread / own_spread
        own.set(layer, weight * scale[:, None, None, None], (bias - own_mean) * scale + mean)


def rows(node: onnx.NodeProto, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some of the patches that a convolution sees, one per row, with a one behind."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    height, width = attributes["kernel_shape"]
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    down, along = attributes.get("strides", [1, 1])
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = sliding_window_view(padded, (height, width), (2, 3))[:, :, ::down, ::along]
    y, x = (rng.integers(0, size, POSITIONS) for size in windows.shape[2:4])
    patches = windows[:, :, y, x].transpose(0, 2, 1, 3, 4).reshape(len(values) * POSITIONS, -1)
    return np.hstack([patches, np.ones((len(patches), 1), np.float32)])


def regmean(nets: list[Net], own: list[Net], data: list[np.ndarray]) -> None:
    for layer in own[0].inner():
        grams, matrices = [], []
        for net, samples in zip(nets, data):
            node, rng = net.layers[layer], np.random.default_rng(layer)
            source = node.input[0]
            is_input = source == net.model.graph.input[0].name
            values = samples if is_input else net.run([source], samples)[0]
            weight = net.values[node.input[1]]
            if node.op_type == "MatMul":
                x, matrix = values.reshape(-1, values.shape[-1]), weight.T
            else:
                x = rows(node, values, rng)
                matrix = np.hstack([weight.reshape(len(weight), -1), net.weights(layer)[1][:, None]])
            gram = x.T.astype(np.float64) @ x / len(x)
            # RegMean shrinks the products of different inputs.
            grams.append(0.9 * gram + 0.1 * np.diag(gram.diagonal() + 1e-8))
            matrices.append(matrix)
        sums = sum(g @ m.T for g, m in zip(grams, matrices))
        common = np.linalg.solve(sum(grams), sums).T
        node = nets[0].layers[layer]
        for net in own:
            if node.op_type == "MatMul":
                net.values[net.layers[layer].input[1]] = common.T.astype(np.float32)
            else:
                net.set(layer, common[:, :-1].reshape(nets[0].weights(layer)[0].shape), common[:, -1])


def baselines(paths: list[Path], samples: int) -> dict[str, list[Net]]:
    """Nets of each task by the name of the way they came about."""
    def load() -> list[Net]:
        return [Net(path) for path in paths]

    nets, data = load(), [images(task, samples) for task in TASKS]
    ways = {f"backbone of {task}": load() for task in TASKS}
    for way, parent in zip(ways.values(), nets):
        for own in way:
            own.values.update({name: parent.values[name] for name in own.common()})
    for task, base, other in zip(TASKS, nets, reversed(nets)):
        ways[f"TIES from {task}"] = load()
        for own in ways[f"TIES from {task}"]:
            trimmed(base, other, own)
    ways["average"] = load()
    for own in ways["average"]:
        averaged(nets, own)
    if not nets[0].has_convolutions_only():
        ways["RegMean"] = load()
        for own in ways["RegMean"]:
            averaged(nets, own)
        regmean(nets, ways["RegMean"], data)
        return ways
    for name in ("average + statistics anew", "RegMean", "RegMean + statistics anew"):
        ways[name] = load()
    for own in ways["average + statistics anew"]:
        averaged(nets, own)
    for name in ("RegMean", "RegMean + statistics anew"):
        regmean(nets, ways[name], data)
    for name in ("average + statistics anew", "RegMean + statistics anew"):
        for original, own, samples_of_task in zip(nets, ways[name], data):
            anew(original, own, samples_of_task)
    return ways


def row(
    name: str, size: float, before: list[float], after: list[float], file: float | None = None
) -> list[str]:
    rise = np.mean(after) - np.mean(before)
    found = " / ".join(f"{error:.2f}" for error in after)
    written = "–" if file is None else f"{100 * file:.1f} %"
    return [name, f"{100 * size:.1f} %", written, found, f"{rise:+.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--samples", type=int, default=3000, metavar="N")
    arguments = parser.parse_args()
    for name in arguments.pairs or PAIRS:
        print(f"\n{name}\n")
        print(report(name, PAIRS[name], arguments.samples))


def report(pair: str, paths: list[Path], samples: int) -> str:
    tests = [DATA / f"{task}_test.npz" for task in TASKS]
    train = [subset(f"{task}_train", samples) for task in TASKS]
    OUT.mkdir(parents=True, exist_ok=True)
    before = [error(path, None, test) for path, test in zip(paths, tests)]
    lines = [row("both nets", 1.0, before, before)]
    for name, nets in baselines(paths, 1000).items():
        after = []
        for task, net, test in zip(TASKS, nets, tests):
            path = OUT / f"{pair}_{name}_{task}.onnx".replace(" ", "_")
            path.write_bytes(net.bytes())
            after.append(error(path, None, test))
        lines.append(row(name, nets[0].size(), before, after))
    for number, (name, options) in enumerate(WAYS.items()):
        joint = OUT / f"finetunes_{pair}_{samples}_{number}.onnx".replace(" ", "_")
        names = [word for task in TASKS for word in ("--name", task)]
        report = merge(joint, paths, train, *names, *options, *THRIFT)
        after = [found for _, found in errors(joint, paths, tests)]
        gain = report["compression"]
        sizes = gain["parameters_of_all"], gain["bytes_of_all"]
        lines.append(row(name, sizes[0], before, after, sizes[1]))
    return table(["way", "parameters", "file", "errors, %", "mean rise"], lines)


if __name__ == "__main__":
    main()
