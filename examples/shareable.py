"""How much of nine well-known architectures can be shared, and what cannot.

    .venv/bin/python examples/shareable.py

The architectures are those of the `light_*` models in the Python package `onnx`, whose weights are
placeholders. Here each gets its full width and two sets of random weights, and `plan` tells what a
merge of the two would store once.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from experiment import NEURONS, OUT, table, tool

FOLDER = OUT / "light"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = {
    "bvlc_alexnet": "AlexNet",
    "densenet121": "DenseNet-121",
    "inception_v1": "Inception v1",
    "inception_v2": "Inception v2",
    "resnet50": "ResNet-50",
    "shufflenet": "ShuffleNet",
    "squeezenet": "SqueezeNet",
    "vgg19": "VGG-19",
    "zfnet512": "ZFNet-512",
}


def seeded(name: str, seed: int) -> Path:
    """The architecture with random weights, positive ones so that they may be variances."""
    path = FOLDER / f"{name}_{seed}.onnx"
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(seed)
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        shape = constants[node.input[0]]
        drawn = rng.uniform(0.01, 0.1, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(drawn, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def row(name: str) -> list[str]:
    """Layers, parameters, the part of them that is stored once, and what is not shared with outputs."""
    paths = [seeded(name, seed) for seed in (1, 2)]
    ways = ((), ("--share-outputs",))
    plans = [json.loads(tool("plan", *paths, *NEURONS, "--json", *way)) for way in ways]
    for path in paths:
        path.unlink()
    sizes = [plan["prediction"]["sizes"] for plan in plans]
    total = sizes[0]["originals"][0]
    parts = [f"{size['shared'] / total:.1%}" for size in sizes]
    sites = plans[1]["prediction"]["sites"]
    unshared = [f"{s['layers'][0]}: {s['reason']}" for s in sites if s["reason"]]
    return [NAMES[name], str(plans[0]["layers"][0]), f"{total:,}", *parts, "; ".join(unshared) or "–"]


def main() -> None:
    header = ["architecture", "layers", "parameters", "shared", "with outputs"]
    header += ["layers that are not shared"]
    print(table(header, [row(name) for name in NAMES]))


if __name__ == "__main__":
    main()
