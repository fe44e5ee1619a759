"""Common weights of two nets whose channels are paired, as published methods make them.

Git Re-Basin and ZipIt! average weights; PLeaS fits them to the nets' features; onnx-zip's `refit` fits them one
layer after the other, behind the layers merged before. Statistics of channels can then be taken anew.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

from pairings import Pairing, blocks, channels, ends, is_depthwise, run
from peers import DAMPING, POSITIONS, Net, rows

Batches = Iterable[tuple[np.ndarray, np.ndarray]]


class Pair:
    """Two nets whose channels are paired, and two that get common weights in all layers but the last."""

    def __init__(self, paths: list[Path], pairing: Pairing):
        self.originals = [Net(path) for path in paths]
        self.merged = [Net(path) for path in paths]
        self.channels, self.ends = channels(self.originals[0]), ends(self.originals[0])
        self.inner = range(len(self.ends) - 1)
        self.member = {0: [np.eye(1)] * 2}
        for of, labels in pairing.items():
            self.member[of] = [np.eye(self.channels[of])[own] for own in labels]

    def layers(self, number: int) -> list[onnx.NodeProto]:
        return [net.layers[number] for net in self.originals]

    def average(self, of: int, nets: Iterable[int] = (0, 1)) -> list[np.ndarray]:
        """What the channels of each net weigh in the common ones, as means over members in these nets. A row
        is zero where there are none."""
        size = np.maximum(sum(self.member[of][net].sum(axis=0) for net in nets), 1)
        return [(self.member[of][net] / size).T for net in nets]

    def set(self, number: int, common: np.ndarray) -> None:
        for net in self.merged:
            net.set_weight(net.layers[number], common)

    def weights(self) -> list[list[np.ndarray]]:
        return [[net.weight(layer) for layer in net.layers] for net in self.merged]

    def restore(self, weights: list[list[np.ndarray]]) -> None:
        for net, own in zip(self.merged, weights):
            for layer, values in zip(net.layers, own):
                net.set_weight(layer, values)


def zipped(pair: Pair) -> None:
    """Means over members; what reads a common channel reads it in place of each of its members."""
    for number, (read, made) in enumerate(pair.ends):
        unmerged = []
        for net, layer, member in zip(pair.originals, pair.layers(number), pair.member[read]):
            weight = blocks(net, layer, pair.channels[read])
            if not is_depthwise(layer):
                weight = np.einsum("oib,ic->ocb", weight, member)
            unmerged.append(np.hstack([weight.reshape(len(weight), -1), net.weight(layer)[:, -1:]]))
        if number in pair.inner:
            pair.set(number, sum(mean @ own for mean, own in zip(pair.average(made), unmerged)))
        else:
            for net, own in zip(pair.merged, unmerged):
                net.set_weight(net.layers[number], own)


def inputs(net: Net, number: int, images: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of a layer's input, at the same positions for all nets of one architecture."""
    random, layer = np.random.default_rng(0), net.layers[number]
    for (values,) in run(net, [layer.input[0]], images):
        yield rows(layer, values, POSITIONS, random)


def outputs(net: Net, layer: onnx.NodeProto, x: np.ndarray) -> np.ndarray:
    """Pre-activations of rows of a layer's input."""
    weight = net.weight(layer)
    if not is_depthwise(layer):
        return x @ weight.T
    parts = x[:, :-1].reshape(len(x), len(weight), -1)
    return np.einsum("ncb,cb->nc", parts, weight[:, :-1]) + weight[:, -1]


def mixed(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows of a layer's input, their channels mixed."""
    parts = x[:, :-1].reshape(len(x), weights.shape[1], -1)
    common = np.matmul(weights.astype(np.float32), parts).reshape(len(x), -1)
    return np.hstack([common, x[:, -1:]])


class LeastSquares:
    """Sums for the weights that give wanted outputs from inputs."""

    def __init__(self, layer: onnx.NodeProto):
        self.is_depthwise = is_depthwise(layer)
        self.grams, self.products, self.weights = [], [], []

    def add(self, batches: Batches, weights: np.ndarray) -> None:
        """Rows of inputs and outputs, with a weight for each output."""
        gram = product = 0.0
        for x, y in batches:
            if self.is_depthwise:
                parts = x[:, :-1].reshape(len(x), y.shape[1], -1).transpose(1, 0, 2)
                parts = np.concatenate([parts, np.ones((*parts.shape[:2], 1), np.float32)], axis=2)
                turned = parts.transpose(0, 2, 1)
                gram = gram + (turned @ parts).astype(float)
                product = product + (turned @ y.T[:, :, None]).astype(float)[..., 0]
            else:
                gram, product = gram + (x.T @ x).astype(float), product + (y.T @ x).astype(float)
        self.grams.append(gram)
        self.products.append(product)
        self.weights.append(weights)

    def solve(self) -> np.ndarray:
        """Rows of weights, the bias last."""
        found = np.empty(self.products[0].shape)
        patterns, kinds = np.unique(np.transpose(self.weights), axis=0, return_inverse=True)
        for kind, weights in enumerate(patterns):
            of = np.flatnonzero(kinds.ravel() == kind)
            grams = [gram[of] if self.is_depthwise else gram for gram in self.grams]
            gram = sum(weight * gram for weight, gram in zip(weights, grams))
            product = sum(weight * product[of] for weight, product in zip(weights, self.products))
            size = gram.shape[-1]
            damping = DAMPING * np.trace(gram, axis1=-2, axis2=-1) / size
            gram = gram + damping[..., None, None] * np.eye(size)
            if self.is_depthwise:
                found[of] = np.linalg.solve(gram, product[..., None])[..., 0]
            else:
                found[of] = np.linalg.solve(gram, product.T).T
        return found


def features(pair: Pair, number: int, images: np.ndarray, nets: list[int], output_of: int | None) -> Batches:
    """Rows of a layer's input and of its pre-activations in common channels, as means over these nets; or the
    pre-activations of one net's own output layer."""
    read, made = pair.ends[number]
    layers = pair.layers(number)
    for several in zip(*(inputs(pair.originals[net], number, images) for net in nets)):
        x = sum(mixed(own, mean) for own, mean in zip(several, pair.average(read, nets)))
        x[:, -1] = 1
        y = [outputs(pair.originals[net], layers[net], own) for net, own in zip(nets, several)]
        if output_of is None:
            yield x, sum(own @ mean.T for own, mean in zip(y, pair.average(made, nets)))
        else:
            yield x, y[nets.index(output_of)]


def pleas(pair: Pair, images: list[np.ndarray], own: bool) -> None:
    """Least squares from original inputs to original pre-activations: means over both nets on all images, or
    each net's own on the images of its task."""
    for number in range(len(pair.ends)):
        layer, is_inner = pair.layers(number)[0], number in pair.inner
        sums = [LeastSquares(layer)] * 2 if is_inner else [LeastSquares(layer), LeastSquares(layer)]
        for task, pixels in enumerate(images):
            nets = [task] if own else [0, 1]
            batches = features(pair, number, pixels, nets, None if is_inner else task)
            sums[task].add(batches, np.ones(len(pair.originals[task].weight(layer))))
        if is_inner:
            pair.set(number, sums[0].solve())
        else:
            for net, total in zip(pair.merged, sums):
                net.set_weight(net.layers[number], total.solve())


def refitted(pair: Pair, images: list[np.ndarray]) -> None:
    """Least squares in sequence: from what the merged layers before give to each net's own pre-activations, on
    the images of its task."""
    zipped(pair)
    for number in pair.inner:
        sums = LeastSquares(pair.layers(number)[0])
        for task, pixels in enumerate(images):
            (mean,) = pair.average(pair.ends[number][1], [task])
            sums.add(followed(pair, number, task, pixels, mean), mean.any(axis=1).astype(float))
        pair.set(number, sums.solve())


def followed(pair: Pair, number: int, task: int, images: np.ndarray, mean: np.ndarray) -> Batches:
    """Rows of the input of a merged layer, and the pre-activations that the task's net had there."""
    net, layer = pair.originals[task], pair.layers(number)[task]
    for x, before in zip(inputs(pair.merged[task], number, images), inputs(net, number, images)):
        yield x, outputs(net, layer, before) @ mean.T


def moments(net: Net, numbers: range, images: np.ndarray) -> list[np.ndarray]:
    """Mean and mean square of each channel that each of these layers makes."""
    totals = [0.0] * len(numbers)
    for several in run(net, [net.layers[number].output[0] for number in numbers], images):
        for place, values in enumerate(several):
            values = values.reshape(*values.shape[:2], -1)
            found = np.stack([values.mean(axis=2), np.square(values).mean(axis=2)])
            totals[place] = totals[place] + found.sum(axis=1, dtype=float)
    return [total / len(images) for total in totals]


def spread(found: np.ndarray) -> np.ndarray:
    """Mean and deviation from mean and mean square."""
    return np.stack([found[0], np.sqrt(np.maximum(found[1] - found[0] ** 2, 1e-10))])


def original_statistics(nets: list[Net], images: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Mean and deviation of the channels of every hidden layer of each net, on the images of its task."""
    return [
        [spread(found) for found in moments(net, range(len(net.layers) - 1), pixels)]
        for net, pixels in zip(nets, images)
    ]


def statistics_anew(pair: Pair, images: list[np.ndarray], originals: list, per_task: bool) -> None:
    """Scales and shifts each channel to the mean and deviation that its members have in the originals: for both
    tasks together, or for each by the members of its net."""
    for number in pair.inner:
        made = pair.ends[number][1]
        here = range(number, number + 1)
        now = [moments(net, here, pixels)[0] for net, pixels in zip(pair.merged, images)]
        wanted = sum(own[number] @ mean.T for own, mean in zip(originals, pair.average(made)))
        members = np.ones(wanted.shape[1], bool)
        for task, net in enumerate(pair.merged):
            found = spread(now[task] if per_task else np.mean(now, axis=0))
            if per_task:
                (mean,) = pair.average(made, [task])
                wanted, members = originals[task][number] @ mean.T, mean.any(axis=1)
            scale = np.where(members, wanted[1] / found[1], 1)
            weight = net.weight(net.layers[number]) * scale[:, None]
            weight[:, -1] += np.where(members, wanted[0] - found[0] * scale, 0)
            net.set_weight(net.layers[number], weight)
