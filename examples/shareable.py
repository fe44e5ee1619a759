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

from experiment import OUT, table, tool

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
    """Layers, parameters, and the part of them that is stored once, of all and of hidden layers."""
    paths = [seeded(name, seed) for seed in (1, 2)]
    plan = json.loads(tool("plan", *paths, "--json"))
    layers = {
        layer["name"]: layer["parameters"]
        for layer in json.loads(tool("inspect", paths[0], "--json"))["layers"]
    }
    for path in paths:
        path.unlink()
    prediction = plan["prediction"]
    unshared = {s["layers"][0]: s["reason"] for s in prediction["sites"] if s["reason"]}
    total = prediction["sizes"]["originals"][0]
    shared = prediction["sizes"]["shared"]
    answers = sum(layers[n] for n, reason in unshared.items() if reason == "a model output")
    others = [f"{n}: {reason}" for n, reason in unshared.items() if reason != "a model output"]
    cells = f"{shared / total:.1%}", f"{shared / (total - answers):.1%}", f"{answers / total:.1%}"
    return [NAMES[name], str(plan["layers"][0]), f"{total:,}", *cells, "; ".join(others) or "–"]


def main() -> None:
    header = ["architecture", "layers", "parameters", "shared", "of hidden layers"]
    header += ["output layer", "other layers that are not shared"]
    print(table(header, [row(name) for name in NAMES]))


if __name__ == "__main__":
    main()
