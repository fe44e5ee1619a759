#!/usr/bin/env python3
"""The nets and samples on which CUDA and the CPU are compared.

    cases.py DIR      copies the trained nets and a part of their data from fixtures/ into DIR
"""

import shutil
import sys
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).resolve().parent.parent.parent / "fixtures"
NETS = ["lenet5_mnist_a", "lenet5_mnist_b", "zoo/resnet_mnist", "zoo/resnet_fashion"]
PACKED_IMAGES = 4000


def copy_fixtures(to: Path) -> None:
    for net in NETS:
        target = to / "models" / f"{net}.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FIXTURES / "models" / f"{net}.onnx", target)
    (to / "data").mkdir(exist_ok=True)
    for name in ["mnist", "fashion"]:
        stored = np.load(FIXTURES / "data" / f"{name}_train.npz")
        part = {array: stored[array][:PACKED_IMAGES] for array in stored.files}
        np.savez_compressed(to / "data" / f"{name}_train.npz", **part)


def conv_stack(path: Path, seed: int, widths: list[int], size: int = 32) -> None:
    """3×3 convolutions of random weights over size×size pixels, pooled after every second; weights are
    drawn so that activations keep their scale from layer to layer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    nodes, weights, value, channels = [], [], "x", 3

    def drawn(name: str, shape: tuple, bound: float) -> str:
        array = random.uniform(-bound, bound, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(array, name))
        return name

    def add(op: str, name: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    for i, width in enumerate(widths):
        kernel = drawn(f"w{i}", (width, channels, 3, 3), (6 / (9 * channels)) ** 0.5)
        bias = drawn(f"b{i}", (width,), 0.1)
        value = add("Conv", f"conv{i}", [value, kernel, bias], kernel_shape=[3, 3], pads=[1] * 4)
        value = add("Relu", f"relu{i}", [value])
        if i % 2 == 1:
            value = add("MaxPool", f"pool{i}", [value], kernel_shape=[2, 2], strides=[2, 2])
            size //= 2
        channels = width
    flat = channels * size * size
    value = add("Flatten", "flat", [value])
    value = add("Gemm", "scores", [value, drawn("fc", (10, flat), (6 / flat) ** 0.5)], transB=1)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", 10])
    model = helper.make_model(helper.make_graph(nodes, "stack", [x], [y], weights),
                              opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def random_images(path: Path, count: int) -> None:
    images = np.random.default_rng(1).uniform(-1, 1, (count, 3, 32, 32))
    np.save(path, images.astype(np.float32))


if __name__ == "__main__":
    copy_fixtures(Path(sys.argv[1]))
