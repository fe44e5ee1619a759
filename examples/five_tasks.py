"""Five nets on five tasks in one model, 90 % of every layer's neurons shared.

    .venv/bin/python examples/five_tasks.py

Trains five LeNet-300-100 in NumPy, half a minute each, on digits, clothes, digits turned by a
quarter, inverted clothes and the parity of digits. Merges all of them at once in several orders,
and one after the other, and prints sizes and test errors. Nothing is retrained, except where it
says so.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from experiment import DATA, NEURONS, OUT, errors, merge, table, tool

FOLDER = OUT / "five"
WIDTHS = (784, 300, 100)
EPOCHS = 25
BATCH = 128


@dataclass(frozen=True)
class Task:
    """A data set of fixtures/data, and what becomes of its images and labels."""

    source: str
    images: Callable[[np.ndarray], np.ndarray] = lambda images: images
    labels: Callable[[np.ndarray], np.ndarray] = lambda labels: labels
    classes: int = 10


TASKS = {
    "digits": Task("mnist"),
    "clothes": Task("fashion"),
    "turned": Task("mnist", images=lambda images: np.rot90(images, axes=(1, 2))),
    "inverted": Task("fashion", images=lambda images: 255 - images),
    "parity": Task("mnist", labels=lambda labels: labels % 2, classes=2),
}
ORDERS = {
    "as listed": tuple(TASKS),
    "reversed": tuple(reversed(TASKS)),
    "clothes first": ("clothes", "inverted", "digits", "turned", "parity"),
    "mixed": ("parity", "clothes", "turned", "inverted", "digits"),
}


def data(name: str, part: str) -> Path:
    """The samples of a task, in the form of fixtures/data."""
    path = FOLDER / f"{name}_{part}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        task = TASKS[name]
        arrays = np.load(DATA / f"{task.source}_{part}.npz")
        np.savez(path, image=task.images(arrays["image"]), labels=task.labels(arrays["labels"]))
    return path


def forward(weights: list[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """The activations of all layers, inputs and scores included."""
    values = [rows]
    for weight, bias in zip(weights[::2], weights[1::2]):
        hidden = values[-1] if len(values) == 1 else np.maximum(values[-1], 0)
        values.append(hidden @ weight + bias)
    return values


def gradients(weights: list[np.ndarray], rows: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Of the mean cross-entropy, by all weights and biases."""
    values = forward(weights, rows)
    shifted = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    error = shifted / shifted.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    found: list[np.ndarray] = []
    for layer in reversed(range(len(weights) // 2)):
        hidden = values[layer] if layer == 0 else np.maximum(values[layer], 0)
        found = [hidden.T @ error, error.sum(axis=0), *found]
        error = (error @ weights[2 * layer].T) * (values[layer] > 0)
    return found


def moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The batch moved by up to two pixels each way, edges repeated, as rows of pixels."""
    down, right = rng.integers(0, 5, 2)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)), mode="edge")
    return padded[:, down : down + 28, right : right + 28].reshape(len(images), -1)


def train(name: str) -> list[np.ndarray]:
    """Adam with a learning rate that falls to zero, on moved images; weights by layer."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    arrays = np.load(data(name, "train"))
    images, labels = arrays["image"].astype(np.float32) / 255, arrays["labels"].astype(int)
    sizes = (*WIDTHS, TASKS[name].classes)
    weights: list[np.ndarray] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        drawn = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        weights += [drawn.astype(np.float32), np.zeros(outputs, np.float32)]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    steps = EPOCHS * (len(images) // BATCH)
    for step in range(steps):
        if step % (steps // EPOCHS) == 0:
            order = rng.permutation(len(images))
        rows = order[step % (steps // EPOCHS) * BATCH :][:BATCH]
        rate = 2e-3 * (1 - step / steps) / (1 - 0.9 ** (step + 1))
        for i, slope in enumerate(gradients(weights, moved(images[rows], rng), labels[rows])):
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.99 * second[i] + 0.01 * slope**2
            weights[i] -= rate * first[i] / (np.sqrt(second[i]) + 1e-8)
    return weights


def net(name: str) -> Path:
    """The trained net of a task as an ONNX model."""
    path = FOLDER / f"{name}.onnx"
    if path.exists():
        return path
    constants, nodes, last = [], [helper.make_node("Flatten", ["image"], ["flat"])], "flat"
    weights = train(name)
    for layer in range(len(weights) // 2):
        names = [f"fc{layer + 1}.weight", f"fc{layer + 1}.bias"]
        values = weights[2 * layer].T.copy(), weights[2 * layer + 1]
        constants += [numpy_helper.from_array(v, n) for v, n in zip(values, names)]
        is_last = layer == len(weights) // 2 - 1
        output = "scores" if is_last else f"fc{layer + 1}"
        nodes.append(helper.make_node("Gemm", [last, *names], [output], output, transB=1))
        if not is_last:
            nodes.append(helper.make_node("Relu", [output], [f"relu{layer + 1}"]))
            last = f"relu{layer + 1}"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 28, 28])
    classes = TASKS[name].classes
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(nodes, name, [image], [scores], constants)
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def together(label: str, order: tuple[str, ...], *options: object) -> list[str]:
    """A row: all tasks merged in one call, in this order."""
    joint = FOLDER / f"{label.replace(' ', '_')}.onnx"
    models, train_sets = [net(n) for n in order], [data(n, "train") for n in order]
    merge(joint, models, train_sets, *options)
    return row(label, joint, order)


def one_by_one(label: str, order: tuple[str, ...]) -> list[str]:
    """A row: the first two merged, and each other one added to what there is."""
    joint = net(order[0])
    for count in range(2, len(order) + 1):
        added = FOLDER / f"{label.replace(' ', '_')}_{count}.onnx"
        train_sets = [data(n, "train") for n in order[:count]]
        merge(added, [joint, net(order[count - 1])], train_sets, *NEURONS, "--share", 0.9)
        joint = added
    return row(label, joint, order)


def row(label: str, joint: Path, order: tuple[str, ...]) -> list[str]:
    """Size relative to one net, and errors in the order of `TASKS` and their mean."""
    measured = errors(joint, [net(n) for n in order], [data(n, "test") for n in order])
    after = {name: error for name, (_, error) in zip(order, measured)}
    size = joint.stat().st_size / net("digits").stat().st_size
    cells = [f"{after[name]:.2f}" for name in TASKS]
    return [label, f"{size:.2f}", *cells, f"{np.mean(list(after.values())):.2f}"]


def main() -> None:
    first = ORDERS["as listed"]
    nothing = FOLDER / "separate.onnx"
    merge(nothing, [net(n) for n in first], [data(n, "train") for n in first], "--share", 0)
    rows = [row("before", nothing, first)]
    for label, order in ORDERS.items():
        rows.append(together(label, order, *NEURONS, "--share", 0.9))
    rows.append(one_by_one("one by one", first))
    rows.append(together("all neurons", first, *NEURONS, "--share", 1))
    rows.append(together("the paper's method", first, "--share", 0.9, "--method", "mtz"))
    retrained = (*NEURONS, "--share", 0.9, "--retrain", "end", "--iterations", 2000)
    rows.append(together("retrained", first, *retrained))
    print(tool("--version").strip())
    print(table(["order", "size", *TASKS, "mean"], rows))


if __name__ == "__main__":
    main()
