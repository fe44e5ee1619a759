"""The paper's method in plain NumPy beside onnx-zip: time and accuracy of the same merges.

    .venv/bin/python examples/peers.py [--samples N] [PAIR ...]

The peer is what one writes from the paper: per layer, both nets as merged so far run over all samples,
windows become rows (im2col), Hessians are averages of products (eqs. 7-8), costs and common weights come
from inverses (eqs. 10-12), pairs are chosen greedily, and added layers keep the channels' order of the
first of them (sec. 3.7). ONNX Runtime computes its forward passes. It sees every position of every
image; a second row sees as many positions as onnx-zip does. Everything is shared but the output layers.
"""

import argparse
import time

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from experiment import DATA, MODELS, NEURONS, OUT, data_options, error, errors, subset, table, tool

PAIRS = {
    "LeNet-300": (["lenet300_mnist_a", "lenet300_mnist_b"], ["mnist", "mnist"]),
    "LeNet-5": (["lenet5_mnist_a", "lenet5_mnist_b"], ["mnist", "mnist"]),
    "ResNet": (["zoo/resnet_mnist", "zoo/resnet_fashion"], ["mnist", "fashion"]),
}
DAMPING = 1e-4
BATCH = 200
# Positions of one image that onnx-zip takes as rows of a layer.
POSITIONS = 16


class Net:
    """A chain of convolutions, matrices and additions, as an ONNX model whose weights can be set."""

    def __init__(self, source):
        """`source` is a path, or a model, which is changed when weights are set."""
        self.model = source if isinstance(source, onnx.ModelProto) else onnx.load(source)
        self.initializers = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.nodes = list(self.model.graph.node)
        self.layers = [node for node in self.nodes if node.op_type in ("Conv", "Gemm")]
        self.outputs = [output.name for output in self.model.graph.output]

    def weight(self, layer):
        """Rows of a layer's weight, with the bias as the last column."""
        weight, bias = (self.array(name) for name in layer.input[1:3])
        return np.hstack([weight.reshape(len(weight), -1), bias[:, None]])

    def set_weight(self, layer, rows):
        shape = self.array(layer.input[1]).shape
        self.set_array(layer.input[1], rows[:, :-1].reshape(shape))
        self.set_array(layer.input[2], rows[:, -1])

    def array(self, name):
        return numpy_helper.to_array(self.initializers[name])

    def set_array(self, name, values):
        values = np.ascontiguousarray(values, dtype=np.float32)
        self.initializers[name].CopyFrom(numpy_helper.from_array(values, name))

    def inputs(self, layer, images):
        """The layer's input, batch by batch, from the net as it is now."""
        wanted = onnx.ModelProto()
        wanted.CopyFrom(self.model)
        name = layer.input[0]
        if name != "image":
            wanted.graph.output.append(onnx.ValueInfoProto(name=name))
        session = ort.InferenceSession(wanted.SerializeToString())
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            yield batch if name == "image" else session.run([name], {"image": batch})[0]

    def permute(self, layer, order):
        """Put the channels that a layer makes into another order, wherever they are read."""
        self.set_weight(layer, self.weight(layer)[order])

    def permute_columns(self, layer, order):
        """Follow a permutation of the channels that a layer reads; a matrix may read them flattened."""
        name = layer.input[1]
        weight = self.array(name)
        blocks = weight.reshape(len(weight), len(order), -1)[:, order]
        self.set_array(name, blocks.reshape(weight.shape))


def rows(layer, values, positions, random):
    """Rows of a layer's input with a constant one: im2col for a convolution, at some positions or all."""
    if layer.op_type == "Conv":
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in layer.attribute}
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        values = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
        down, across = attributes.get("strides", [1, 1])
        windows = sliding_window_view(values, attributes["kernel_shape"], (2, 3))
        windows = windows[:, :, ::down, ::across].transpose(0, 2, 3, 1, 4, 5)
        count = windows.shape[1] * windows.shape[2]
        if positions and positions < count:
            taken = random.choice(count, (len(windows), positions))
            image = np.arange(len(windows))[:, None]
            windows = windows[image, taken // windows.shape[2], taken % windows.shape[2]]
            values = windows.reshape(len(windows) * positions, -1)
        else:
            values = windows.reshape(len(windows) * count, -1)
    return np.hstack([values, np.ones((len(values), 1), np.float32)])


def hessian(net, layer, images, positions):
    """Half of the mean of x xᵀ (eqs. 7-8, with alpha one half), damped."""
    random = np.random.default_rng(0)
    total, count = 0.0, 0
    for values in net.inputs(layer, images):
        x = rows(layer, values, positions, random)
        total = total + (x.T @ x).astype(np.float64)
        count += len(x)
    matrix = total / (2 * count)
    return matrix + DAMPING * np.trace(matrix) / len(matrix) * np.eye(len(matrix))


def pairs_of(cost):
    """Greedy pairs: the cheapest first, each neuron once; in the order of the first net."""
    partner = np.full(len(cost), -1)
    taken = np.zeros(cost.shape[1], bool)
    for place in np.argsort(cost, axis=None):
        i, j = divmod(int(place), cost.shape[1])
        if partner[i] < 0 and not taken[j]:
            partner[i], taken[j] = j, True
    return partner


def groups(net):
    """For each layer, the first layer whose channels are added to its own: both keep one order."""
    source, first = {}, {}
    for node in net.nodes:
        if node in net.layers:
            source[node.output[0]] = node.output[0]
        elif node.op_type == "Add":
            one, other = (source[name] for name in node.input)
            early, late = sorted((one, other), key=[n.output[0] for n in net.layers].index)
            first[late] = first.get(early, early)
            source[node.output[0]] = first[late]
        elif node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
    return source, first


def zipped(nets, images, positions):
    """Merge two nets in place, layer by layer: afterwards all layers but the last are equal."""
    source, first = groups(nets[0])
    orders = {}
    for a, b in zip(nets[0].layers[:-1], nets[1].layers[:-1]):
        h_a, h_b = (hessian(n, l, x, positions) for n, l, x in zip(nets, (a, b), images))
        w_a, w_b = nets[0].weight(a).astype(float), nets[1].weight(b).astype(float)
        inverse_a, inverse_b = np.linalg.inv(h_a), np.linalg.inv(h_b)
        middle = np.linalg.inv(inverse_a + inverse_b)
        square = lambda w: np.einsum("ij,jk,ik->i", w, middle, w, optimize=True)
        cost = (square(w_a)[:, None] + square(w_b)[None] - 2 * w_a @ middle @ w_b.T) / 2
        made = a.output[0]
        leader = first.get(made, made)
        if leader not in orders:
            orders[leader] = pairs_of(cost)
            follow(nets[1], source, leader, orders[leader])
            w_b = w_b[orders[leader]]
        common = w_a - (w_a - w_b) @ middle @ inverse_a
        nets[0].set_weight(a, common)
        nets[1].set_weight(b, common)


def follow(net, source, leader, order):
    """Permute all layers that make or read a group of channels."""
    first = groups(net)[1]
    # Both nets are one architecture, with names of their own.
    for layer in net.layers:
        made = layer.output[0]
        if first.get(made, made) == leader:
            net.permute(layer, order)
        if source.get(layer.input[0]) == leader:
            net.permute_columns(layer, order)


def peer(models, train, test, positions):
    """Seconds that the peer takes, and its errors."""
    arrays = [np.load(file)["image"].reshape(-1, 1, 28, 28) for file in train]
    started = time.perf_counter()
    images = [pixels.astype(np.float32) / np.float32(255) for pixels in arrays]
    nets = [Net(model) for model in models]
    zipped(nets, images, positions)
    taken = time.perf_counter() - started
    found = []
    for number, (net, samples) in enumerate(zip(nets, test)):
        path = OUT / "peers" / f"{models[number].stem}_{number}_{positions}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(net.model, path)
        found.append(error(path, None, samples))
    return taken, found


def ours(models, train, test, method):
    """Seconds that onnx-zip takes, and its errors."""
    joint = OUT / "peers" / f"{'_'.join(model.stem for model in models)}_{method}.onnx"
    joint.parent.mkdir(parents=True, exist_ok=True)
    options = ["--share", 1, "--method", method, "--no-verify", "--no-compare", *NEURONS]
    started = time.perf_counter()
    tool("merge", *models, "-o", joint, *data_options(train), *options)
    taken = time.perf_counter() - started
    return taken, [after for _, after in errors(joint, models, test)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help=", ".join(PAIRS))
    arguments = parser.parse_args()
    lines = []
    for name in arguments.pairs or PAIRS:
        names, sets = PAIRS[name]
        models = [MODELS / f"{model}.onnx" for model in names]
        train = [subset(f"{data}_train", arguments.samples) for data in sets]
        test = [DATA / f"{data}_test.npz" for data in sets]
        before = [error(model, None, samples) for model, samples in zip(models, test)]
        runs = {
            "NumPy, all positions": peer(models, train, test, None),
            f"NumPy, {POSITIONS} positions": peer(models, train, test, POSITIONS),
            "onnx-zip, mtz": ours(models, train, test, "mtz"),
            "onnx-zip, refit": ours(models, train, test, "refit"),
        }
        reference = runs["onnx-zip, mtz"][0]
        for method, (taken, after) in runs.items():
            rise = np.mean(np.subtract(after, before))
            errors_text = " / ".join(f"{e:.2f}" for e in after)
            lines.append([name, method, errors_text, f"{rise:+.2f}", f"{taken / reference:.1f}"])
    print(table(["pair", "method", "errors, %", "mean rise", "time over onnx-zip's mtz"], lines))


if __name__ == "__main__":
    main()
