"""BatchNormalization folded into the layers before a merge, or kept by each task.

    .venv/bin/python examples/batchnorm.py

The nets of fixtures/models/zoo had their BatchNormalization folded when they were exported. Here it
is put back: behind every convolution, its outputs are normalised by their mean and variance on
training images and then scaled and shifted back, so that the net computes what it computed. Then
MNIST and Fashion-MNIST are merged at full share in both ways, by both methods, and the statistics that are
kept are also taken anew from the joint model (`--reset-bn`).
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from experiment import DATA, MODELS, NEURONS, OUT, errors, merge, subset, table

FOLDER = OUT / "batchnorm"
NETS = {"resnet": "ResNet", "mobilenet": "MobileNet", "inception": "Inception", "vggbn": "VGG"}
TASKS = ("mnist", "fashion")
SAMPLES = 3000
WAYS = {
    "fold": ("--batchnorm", "fold"),
    "per-task": ("--batchnorm", "per-task"),
    "anew": ("--batchnorm", "per-task", "--reset-bn"),
}


def normalised(net: str, task: str) -> Path:
    """The net with BatchNormalization behind its convolutions, whose outputs have variance 1."""
    path = FOLDER / f"{net}_{task}.onnx"
    if path.exists():
        return path
    model = onnx.load(MODELS / "zoo" / f"{net}_{task}.onnx")
    statistics = moments(model, subset(f"{task}_train", SAMPLES))
    constants = {c.name: c for c in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type != "Conv":
            continue
        mean, deviation = statistics[node.output[0]]
        weight = numpy_helper.to_array(constants[node.input[1]])
        bias = numpy_helper.to_array(constants[node.input[2]])
        scaled = weight / deviation.reshape(-1, *[1] * (weight.ndim - 1))
        name = output = node.output[0]
        node.input[1], node.output[0] = f"{name}.weight", f"{name}.before"
        del node.input[2]
        new = {
            "weight": scaled,
            "scale": deviation,
            "shift": mean,
            "mean": (mean - bias) / deviation,
            "variance": np.ones_like(mean),
        }
        for part, values in new.items():
            constant = numpy_helper.from_array(values.astype(np.float32), f"{name}.{part}")
            model.graph.initializer.append(constant)
        inputs = [node.output[0], *(f"{name}.{p}" for p in ("scale", "shift", "mean", "variance"))]
        nodes.append(helper.make_node("BatchNormalization", inputs, [output], epsilon=0.0))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [c for c in model.graph.initializer if c.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def moments(model: onnx.ModelProto, samples: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each channel of each convolution's output."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    run = ort.InferenceSession(probed.SerializeToString()).run
    images = np.load(samples)["image"][:1000, None].astype(np.float32) / 255
    found = zip(names, run(names, {"image": images}))
    axes = (0, 2, 3)
    # A dead channel has no variance to divide by.
    return {n: (v.mean(axis=axes), np.maximum(v.std(axis=axes), 1e-3)) for n, v in found}


def row(net: str, method: str) -> list[str]:
    """Test errors of both tasks, and the file's size as a part of both nets', in all ways."""
    models = [normalised(net, task) for task in TASKS]
    train = [subset(f"{task}_train", SAMPLES) for task in TASKS]
    test = [DATA / f"{task}_test.npz" for task in TASKS]
    cells = []
    for how, options in WAYS.items():
        joint = FOLDER / f"{net}_{method}_{how}.onnx"
        merge(joint, models, train, *NEURONS, "--share", 1, "--method", method, *options)
        measured = errors(joint, models, test)
        size = joint.stat().st_size / sum(m.stat().st_size for m in models)
        cells.append(" / ".join(f"{after:.2f}" for _, after in measured))
        cells += [f"{size:.1%}"] if how != "anew" else []
    before = " / ".join(f"{before:.2f}" for before, _ in measured)
    return [NETS[net], f"`{method}`", before, *cells]


def main() -> None:
    rows = [row(net, method) for net in NETS for method in ("refit", "mtz")]
    print(table(["net", "method", "before", "folded", "size", "per task", "size", "anew"], rows))


if __name__ == "__main__":
    main()
