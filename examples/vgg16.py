"""Merges a pair of VGG-16 of random weights: size, memory and time against what the plan announces.

    .venv/bin/python examples/vgg16.py                       # a quarter of the width, 64 x 64 images
    .venv/bin/python examples/vgg16.py --width 1 --size 224  # the paper's net: 138 and 134 million parameters
    .venv/bin/python examples/vgg16.py --memory 3GiB A.onnx B.onnx
    .venv/bin/python examples/vgg16.py --width 1 --size 224 --images 8 --only-merge

The second net has 40 classes in place of 1000. Everything is shared but the output layers, neuron by
neuron. Models that are named are merged in place of made ones; their images are of --size.
"""

import argparse
import json
import resource
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from experiment import NEURONS, OUT, tool

BLOCKS = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]


class Net:
    """A chain of layers with weights as He draws them."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)
        self.nodes, self.weights, self.at = [], [], "image"

    def layer(self, op, name, rows, columns, **attributes):
        scale = np.float32((2 / np.prod(columns)) ** 0.5)
        weight = self.draw.standard_normal((rows, *columns), dtype=np.float32) * scale
        self.weights += [numpy_helper.from_array(weight, f"{name}.weight"),
                         numpy_helper.from_array(np.zeros(rows, np.float32), f"{name}.bias")]
        self.node(op, name, [f"{name}.weight", f"{name}.bias"], **attributes)

    def node(self, op, name, weights=(), **attributes):
        self.nodes.append(helper.make_node(op, [self.at, *weights], [name], name=name, **attributes))
        self.at = name

    def save(self, path, size):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])
        scores = helper.make_tensor_value_info(self.at, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "vgg16", [image], [scores], self.weights)
        opset = [helper.make_opsetid("", 13)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def vgg16(path, classes, seed, width, size):
    net, channels = Net(seed), 3
    for block, (layers, full) in enumerate(BLOCKS, 1):
        for layer in range(1, layers + 1):
            name, made = f"conv{block}_{layer}", int(full * width)
            net.layer("Conv", name, made, (channels, 3, 3), kernel_shape=[3, 3], pads=[1] * 4)
            net.node("Relu", f"{name}.relu")
            channels = made
        net.node("MaxPool", f"pool{block}", kernel_shape=[2, 2], strides=[2, 2])
    net.node("Flatten", "flat")
    inputs, hidden = channels * (size // 2 ** len(BLOCKS)) ** 2, int(4096 * width)
    for name, columns in [("fc6", inputs), ("fc7", hidden)]:
        net.layer("Gemm", name, hidden, (columns,), transB=1)
        net.node("Relu", f"{name}.relu")
    net.layer("Gemm", "fc8", classes, (hidden,), transB=1)
    net.save(path, size)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="two models")
    parser.add_argument("--width", type=float, default=0.25, help="part of the channels")
    parser.add_argument("--size", type=int, default=64, help="height and width of images")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--memory", help="as of onnx-zip merge")
    parser.add_argument("--only-merge", action="store_true", help="no verification, no comparison")
    options = parser.parse_args()
    memory = ["--memory", options.memory] if options.memory else []
    checks = ["--no-verify", "--no-compare"] if options.only_merge else []
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        folder = Path(folder)
        models, images = options.models, folder / "images.npz"
        if not models:
            models = [folder / "a.onnx", folder / "b.onnx"]
            for seed, (path, classes) in enumerate(zip(models, [1000, 40])):
                vgg16(path, classes, seed, options.width, options.size)
        draw = np.random.default_rng(7)
        shape = (options.images, 3, options.size, options.size)
        np.savez(images, image=draw.random(shape, dtype=np.float32))
        plan = json.loads(tool("plan", *models, *memory, "--json"))
        report = folder / "report.json"
        tool("merge", *models, "-o", folder / "joint.onnx", "--data", images, "--share", 1,
             *NEURONS, "--report", report, *memory, *checks)
        report = json.loads(report.read_text())
    # The largest of the processes that have run.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = used.ru_maxrss * 1024
    announced = plan["memory"]["models"] + plan["memory"]["work"]
    parameters = report["joint"]["parameters"]
    print(f"joint model: {report['compression']}")
    print(f"parameters: {parameters}")
    print(f"peak: {taken / 2**20:.0f} MiB, announced {announced / 2**20:.0f} MiB,"
          f" {taken / announced:.2f} of it")
    print(f"processor time: {used.ru_utime + used.ru_stime:.0f} s")
    for stage in report["seconds"]:
        print(f"{stage['stage']:>16} {stage['seconds']:8.2f} s")
    for layer in report["layers"]:
        left_out = [layer["reason"], layer.get("hint")]
        if layer["reason"]:
            print(f"{layer['layers'][0]}: {'; '.join(filter(None, left_out))}")


if __name__ == "__main__":
    main()
