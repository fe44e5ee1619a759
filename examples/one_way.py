"""A one-way trunk for two tasks that see the same pictures, beside the ways of one_input.py.

    .venv/bin/python examples/one_way.py

Shared neurons read shared neurons only, and each task's own neurons read both, so that the shared part of
every layer is computed once: S² + P_A (S + P_A) + P_B (S + P_B) weights, and as many multiply-adds per position.
Channels are paired by the correlation of their activations, and the best pairs of each space are shared: the same
part of all, or less in later stages. Then layers are fitted one after the other, in closed form: shared rows from
shared inputs to the mean of both nets' pre-activations, own rows from both kinds of inputs to those of their net.
Samples, nets and test images are those of one_input.py, and nothing is retrained. Prints one table.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from common_weights import inputs
from curves import SAMPLES, rise
from experiment import DATA, MODELS, apart, error, pixels, subset, table
from one_input import NETS, kinds
from pairings import channels, correlations, ends, matched_by_activations, run
from peers import DAMPING, Net

# Shared parts of the channels, from the first stage to the last; the last number counts for all that follow.
PARTS = [(0.25,), (0.5,), (0.75,), (0.9,), (1.0,), (1.0, 0.5, 0.25), (1.0, 0.75, 0.5), (1.0, 1.0, 0.5), (1.0, 1.0, 0.75)]


class Space(NamedTuple):
    """Channels of both nets: the shared ones, as pairs, and each net's own."""

    shared: list[np.ndarray]
    own: list[np.ndarray]

    def parts(self) -> list[np.ndarray]:
        """The places of the shared channels, and of each task's, in the net of both tasks."""
        widths = [len(self.shared[0]), *map(len, self.own)]
        return np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1])


def divided(net: Net, likeness: dict[int, np.ndarray], parts: Sequence[float]) -> dict[int, Space]:
    """Shares the pairs of each space that are most alike. Spaces of one width are a stage."""
    widths = channels(net)
    stages = sorted({widths[of] for of in likeness})
    found = {0: Space([np.arange(1)] * 2, [np.arange(0)] * 2)}
    for of, labels in matched_by_activations(likeness).items():
        count, stage = widths[of], stages.index(widths[of])
        places = [np.argsort(own) for own in labels]
        alike = likeness[of][places[0], count + places[1]]
        best = np.argsort(-alike, kind="stable")[: round(parts[min(stage, len(parts) - 1)] * count)]
        shared = [place[best] for place in places]
        found[of] = Space(shared, [np.setdiff1d(np.arange(count), own) for own in shared])
    return found


class Trunk:
    """A net of both tasks, whose channels are the shared ones and those of each task."""

    def __init__(self, nets: list[Net], division: dict[int, Space]):
        self.nets, self.ends = nets, ends(nets[0])
        classes = [len(net.array(net.layers[-1].input[1])) for net in nets]
        outputs = Space([np.arange(0)] * 2, [np.arange(count) for count in classes])
        self.spaces = {**division, self.ends[-1][1]: outputs}
        model = onnx.ModelProto()
        model.CopyFrom(nets[0].model)
        model.graph.output[0].ClearField("type")
        self.joint = Net(model)
        for layer, between in zip(self.joint.layers, self.ends):
            read, made = (sum(map(len, self.spaces[of].parts())) for of in between)
            kernel = self.joint.array(layer.input[1]).shape[2:]
            self.joint.set_array(layer.input[1], np.zeros((made, read, *kernel)))
            self.joint.set_array(layer.input[2], np.zeros(made))

    def blocks(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of a layer's weight with the columns they may read, the bias last: the shared, and each task's."""
        read, made = (self.spaces[of].parts() for of in self.ends[number])
        size = self.joint.weight(self.joint.layers[number]).shape[1] - 1
        each = np.arange(size).reshape(sum(map(len, read)), -1)
        for task, own in enumerate(made):
            heard = read[0] if task == 0 else np.append(read[0], read[task])
            if len(own):
                yield own, np.append(each[heard].ravel(), size)

    def fit(self, number: int, images: np.ndarray) -> None:
        """Least squares of one layer, behind those fitted before."""
        space, layers = self.spaces[self.ends[number][1]], [net.layers[number] for net in self.nets]
        gram = product = 0.0
        for x, *before in zip(*(inputs(net, number, images) for net in [self.joint, *self.nets])):
            both = [b @ net.weight(layer).T for b, net, layer in zip(before, self.nets, layers)]
            mean = sum(y[:, own] for y, own in zip(both, space.shared)) / 2
            wanted = np.hstack([mean, *(y[:, own] for y, own in zip(both, space.own))])
            gram, product = gram + (x.T @ x).astype(float), product + (wanted.T @ x).astype(float)
        weight = np.zeros(product.shape)
        for rows, columns in self.blocks(number):
            part = gram[np.ix_(columns, columns)]
            part = part + DAMPING * np.trace(part) / len(part) * np.eye(len(part))
            block = np.ix_(rows, columns)
            weight[block] = np.linalg.solve(part, product[block].T).T
        self.joint.set_weight(self.joint.layers[number], weight)

    def costs(self, positions: list[int]) -> np.ndarray:
        """Parameters, and multiply-adds of one run of both tasks."""
        numbers = range(len(positions))
        weights = [sum(len(r) * (len(c) - 1) for r, c in self.blocks(n)) for n in numbers]
        biases = sum(len(rows) for n in numbers for rows, _ in self.blocks(n))
        return np.array([sum(weights) + biases, np.dot(weights, positions)])

    def errors(self, tests: list[Path]) -> list[float]:
        """Wrong answers of each task, in percent."""
        found = []
        for test, own in zip(tests, self.spaces[self.ends[-1][1]].parts()[1:]):
            answers = [y[:, own].argmax(axis=1) for (y,) in run(self.joint, self.joint.outputs, pixels(test))]
            found.append(apart(np.concatenate(answers), np.load(test)["labels"]))
        return found


def positions(net: Net) -> list[int]:
    """At how many places of an image each layer is computed."""
    made = next(run(net, [layer.output[0] for layer in net.layers], np.zeros((1, 1, 28, 28), np.float32)))
    return [int(np.prod(values.shape[2:])) for values in made]


def costs_of(net: Net, positions: list[int]) -> np.ndarray:
    """Parameters and multiply-adds of an original."""
    weights = [net.weight(layer) for layer in net.layers]
    work = sum(weight[:, :-1].size * count for weight, count in zip(weights, positions))
    return np.array([sum(weight.size for weight in weights), work])


def main() -> None:
    paths = [MODELS / "zoo" / f"{net}.onnx" for net in NETS]
    nets = [Net(path) for path in paths]
    images = pixels(subset("fashion_train", SAMPLES))
    tests, places = [DATA / "fashion_test.npz", kinds("test")], positions(nets[0])
    before = [error(path, None, test) for path, test in zip(paths, tests)]
    whole = sum(costs_of(net, places) for net in nets)
    likeness = correlations(nets, images, activated=True)
    rows = []
    for parts in PARTS:
        trunk = Trunk(nets, divided(nets[0], likeness, parts))
        for number in range(len(places)):
            trunk.fit(number, images)
        after = trunk.errors(tests)
        size, work = trunk.costs(places) / whole
        shares = ", ".join(f"{part:.0%}" for part in parts)
        answers = " / ".join(f"{value:.2f}" for value in after)
        rows.append([shares, f"{size:.0%}", f"{work:.0%}", answers, f"{rise(list(zip(before, after))):+.2f}"])
    print("before " + " / ".join(f"{value:.2f}" for value in before) + "\n")
    print(table(["shared", "parameters", "multiply-adds", "classes / kinds", "rise"], rows))


if __name__ == "__main__":
    main()
