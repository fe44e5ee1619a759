"""How the time of plans and merges grows with samples, nodes, tasks and width.

    make scaling          # a few minutes
    make scaling LARGE=1  # up to 64 000 samples, 100 000 nodes, 256 tasks and 16 384 neurons

Times are processor times of the whole command, so that other work on the machine counts little. The
exponent is that between the two largest sizes: 1 means twice the size takes twice the time.
"""

import argparse
import math
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from experiment import MODELS, NEURONS, tool

# What an exponent may be where time is to be linear.
MOST = 1.1


def save(path, nodes, weights, features):
    """A net that reads `x` and gives the last node's output."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def identities(path, count):
    names = ["x", *(f"v{i}" for i in range(count))]
    save(path, [helper.make_node("Identity", [a], [b]) for a, b in zip(names, names[1:])], [], 4)


def products(path, count, seed, features=4):
    draw = np.random.default_rng(seed)
    names = ["x", *(f"v{i}" for i in range(count))]
    weight = lambda i: draw.standard_normal((features, features), dtype=np.float32)
    weights = [numpy_helper.from_array(weight(i), f"w{i}") for i in range(count)]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(count)]
    save(path, nodes, weights, features)


def perceptron(path, widths, seed):
    draw = np.random.default_rng(seed)
    nodes, weights, x = [], [], "x"
    for i, (fan, size) in enumerate(zip(widths, widths[1:])):
        weight = draw.standard_normal((size, fan), dtype=np.float32) * np.float32((2 / fan) ** 0.5)
        weights += [numpy_helper.from_array(weight, f"w{i}"),
                    numpy_helper.from_array(np.zeros(size, np.float32), f"b{i}")]
        nodes.append(helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], [f"z{i}"], transB=1))
        x = f"z{i}"
        if i + 2 < len(widths):
            nodes.append(helper.make_node("Relu", [x], [f"y{i}"]))
            x = f"y{i}"
    save(path, nodes, weights, widths[0])


def seconds(*arguments):
    """Processor time of a run."""
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before = used()
    tool(*arguments)
    return used() - before


def merge(folder, models, samples):
    return seconds("merge", *models, "-o", folder / "joint.onnx", "--share", 1, *NEURONS,
                   "--samples", samples, "--no-verify", "--no-compare", "--runtime", "tract",
                   "--threads", 1)


def by_samples(folder, count):
    fixtures = [MODELS / f"lenet300_mnist_{net}.onnx" for net in "ab"]
    return merge(folder, fixtures, count)


def by_identities(folder, count):
    paths = [folder / f"{net}.onnx" for net in "ab"]
    for path in paths:
        identities(path, count)
    return seconds("plan", *paths)


def by_products(folder, count):
    paths = [folder / f"{net}.onnx" for net in "ab"]
    for seed, path in enumerate(paths):
        products(path, count, seed)
    return seconds("plan", *paths)


def by_tasks(folder, count):
    paths = [folder / f"task{task}.onnx" for task in range(count)]
    for seed, path in enumerate(paths):
        perceptron(path, [16, 24, 12, 4], seed)
    return merge(folder, paths, 256)


def by_width(folder, count):
    paths = [folder / f"{net}.onnx" for net in "ab"]
    for seed, path in enumerate(paths):
        perceptron(path, [count, 256, 10], seed)
    return merge(folder, paths, 512)


# What grows, its sizes in the short run and in the long one, and whether time must be linear in it.
CASES = [
    ("samples", by_samples, [8000, 32_000], [1000, 4000, 16_000, 64_000], True),
    ("nodes (Identity), plan", by_identities, [3000, 30_000], [1000, 10_000, 100_000], True),
    ("nodes (MatMul), plan", by_products, [500, 5000], [1000, 10_000], True),
    ("tasks", by_tasks, [16, 64], [2, 16, 64, 256], True),
    ("inputs of a layer", by_width, [512, 2048, 8192], [256, 1024, 4096, 16_384], False),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="larger sizes")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    options = parser.parse_args()
    print(f"{'':24} {'sizes':>32} {'processor seconds':>32} {'exponent':>9}")
    steep = []
    for name, measure, short, long, linear in CASES:
        if options.only not in name:
            continue
        sizes = long if options.large else short
        with tempfile.TemporaryDirectory() as folder:
            times = [measure(Path(folder), size) for size in sizes]
        exponent = math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2])
        texts = [", ".join(map(str, sizes)), ", ".join(f"{t:.2f}" for t in times)]
        print(f"{name:24} {texts[0]:>32} {texts[1]:>32} {exponent:9.2f}", flush=True)
        if linear and exponent > MOST:
            steep.append(name)
    if steep:
        sys.exit(f"steeper than linear: {', '.join(steep)}")


if __name__ == "__main__":
    main()
