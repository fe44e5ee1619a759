"""Published methods of merging nets without a common initialisation, beside onnx-zip: a table of docs/results.md.

    .venv/bin/python examples/published_methods.py [--check | --all] [PAIR…]

All hidden layers of two nets become common, output layers stay the tasks' own. 3 000 unlabelled training images of
each task, nothing retrained, errors on 10 000 test images. The methods are written anew from their papers:
`pairings.py` finds out which channels belong together, `common_weights.py` makes weights for them. Variants of a
method are compared by the errors of the first 500 test images of each task, with layers fitted to as many images,
and the best is made and measured in full: a choice in favour of the peers. `--all` prints every variant. `--check`
merges each net with a copy whose channels are in another order, where no peer may lose anything, and prints how
far outputs move.

- Git Re-Basin (Ainsworth et al. 2023) permutes the second net, by weight or activation matching, and averages
  weights. Adapted: output layers count in weight matching only if the tasks are one; activations are compared by
  correlation, as REPAIR does.
- ZipIt! (Stoica et al. 2024) merges the channels most alike of both nets, greedily, a part b of them within a net;
  weights are means over clusters, and layers behind are unmerged. Both nets see the images of both tasks.
  Adapted: tensors that are added have one set of clusters; channels are compared before or after activations.
- PLeaS (Nasery et al. 2025) permutes like Git Re-Basin; then each layer is fitted by least squares, in closed form
  here, from the mean of both nets' inputs to the mean of their pre-activations. Adapted: output layers are fitted
  to their own task; in a variant (`own`), each net's features on the images of its task count in place of means.
- ZipIt!'s clusters with refit's least squares are no published method. They tell what pairs do from what the fit
  does: common weights are fitted in sequence, from what the merged layers before give to each net's own
  pre-activations on the images of its task.

All are tried with statistics anew, too, as the papers recommend (of BatchNorm; REPAIR, Jordan et al. 2023).
BatchNorm is folded into these nets, so each channel of a layer is scaled and shifted to the mean and deviation of
its members in the originals: for both tasks together, or per task, which takes two numbers per channel and task,
and a forward pass for each task.
"""

import argparse
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common_weights import Pair, original_statistics, pleas, refitted, statistics_anew, zipped
from curves import ROWS
from experiment import MODELS, NEURONS, OUT, error, errors, merge, pixels, subset, table
from pairings import (
    Pairing,
    channels,
    clusters,
    correlations,
    ends,
    is_depthwise,
    matched_by_activations,
    matched_by_weights,
    run,
)
from peers import Net

PAIRS = {
    "ResNet, two tasks": (["zoo/resnet_mnist", "zoo/resnet_fashion"], ["mnist", "fashion"]),
    "MobileNet, two tasks": (["zoo/mobilenet_mnist", "zoo/mobilenet_fashion"], ["mnist", "fashion"]),
    "LeNet-5, one task": (["lenet5_mnist_a", "lenet5_mnist_b"], ["mnist", "mnist"]),
}
SAMPLES, TESTS = 3000, 10_000
# Images of each task with which variants are compared, to fit and to test.
FEW = 500
OURS = {
    "onnx-zip, `--unit neuron --share 1`": (*NEURONS, "--share", 1),
    "onnx-zip, `--share 1`": ("--share", 1),
}
# Channels after activations, or before.
ACTIVATED = {"activations": True, "pre-activations": False}
# The part of the channels that ZipIt! may merge within a net (b), and its discount of merged channels (α).
GREEDY = ((0.0, 1.0), (0.2, 0.5), (1.0, 0.5), (1.0, 1.0))
# Statistics anew for each task, for both together, or kept.
STATISTICS = {"": None, ", statistics anew": False, ", statistics per task": True}

Images = list[np.ndarray]


class Way(NamedTuple):
    """A method's name and variant, its pairs, what fits common weights, and whether statistics are for tasks."""

    name: str
    variant: str
    pairing: Pairing
    fit: Callable[[Pair, Images], None]
    per_task: bool | None = None


def ways(nets: list[Net], images: Images, one_task: bool) -> Iterator[Way]:
    """Every way, with statistics as they are."""
    alike = {
        name: correlations(nets, np.concatenate(images), activated)
        for name, activated in ACTIVATED.items()
    }
    permutations = {"weights": matched_by_weights(nets, one_task)}
    permutations |= {name: matched_by_activations(found) for name, found in alike.items()}
    for name, pairing in permutations.items():
        yield Way("Git Re-Basin", name, pairing, lambda pair, _: zipped(pair))
        yield Way("PLeaS", f"{name}, means", pairing, lambda pair, images: pleas(pair, images, False))
        yield Way("PLeaS", f"{name}, own", pairing, lambda pair, images: pleas(pair, images, True))
    for name, found in alike.items():
        for within, discount in GREEDY:
            pairing = {of: clusters(matrix, within, discount) for of, matrix in found.items()}
            variant = f"{name}, b = {within:g}" + f", α = {discount:g}" * (within > 0)
            yield Way("ZipIt!", variant, pairing, lambda pair, _: zipped(pair))
            if discount == 1:
                yield Way("ZipIt!'s clusters, refit's least squares", variant, pairing, refitted)


def unlabelled(data: str) -> np.ndarray:
    """Training images of a task."""
    return pixels(subset(f"{data}_train", SAMPLES))


def made(paths: list[Path], way: Way, images: Images) -> Pair:
    """The merged nets of one way."""
    pair = Pair(paths, way.pairing)
    way.fit(pair, images)
    if way.per_task is not None:
        statistics_anew(pair, images, original_statistics(pair.originals, images), way.per_task)
    return pair


def measured(pair: Pair, sets: list[str], count: int) -> list[float]:
    """The errors of both merged nets on so many test images."""
    found = []
    for net, data in zip(pair.merged, sets):
        content = net.model.SerializeToString()
        path = OUT / "published_methods" / f"{sha256(content).hexdigest()[:16]}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found.append(error(path, None, subset(f"{data}_test", count)))
        path.unlink()
    return found


def best_ways(paths: list[Path], sets: list[str], print_all: bool) -> dict[str, Way]:
    """The variant of each method with the least error, fitted to a few images and measured on a few."""
    nets, images = [Net(path) for path in paths], [unlabelled(data) for data in sets]
    few = [own[:FEW] for own in images]
    originals = original_statistics(nets, few)
    best: dict[str, tuple[float, Way]] = {}
    for way in ways(nets, images, sets[0] == sets[1]):
        pair = made(paths, way, few)
        weights = pair.weights()
        for words, per_task in STATISTICS.items():
            pair.restore(weights)
            if per_task is not None:
                statistics_anew(pair, few, originals, per_task)
            after = np.mean(measured(pair, sets, FEW))
            variant = way._replace(variant=way.variant + words, per_task=per_task)
            if print_all:
                print(f"{way.name}: {variant.variant}: mean error {after:.2f}", flush=True)
            if after < best.get(way.name, (np.inf,))[0]:
                best[way.name] = after, variant
    return {name: way for name, (_, way) in best.items()}


def ours(paths: list[Path], sets: list[str], options: tuple) -> list[float]:
    """The test errors of onnx-zip's joint model."""
    words = [*(path.stem for path in paths), *map(str, options)]
    joint = OUT / "published_methods" / f"{'_'.join(words).replace('--', '')}.onnx"
    train = [subset(f"{data}_train", SAMPLES) for data in sets]
    merge(joint, paths, train, "--max-rows", ROWS, "--no-compare", *options)
    return [after for _, after in errors(joint, paths, [subset(f"{data}_test", TESTS) for data in sets])]


def permuted(path: Path) -> Path:
    """A copy of a net whose channels are in another order."""
    net, random = Net(path), np.random.default_rng(1)
    orders = {of: random.permutation(count) for of, count in channels(net).items()}
    for layer, (read, made) in zip(net.layers, ends(net)):
        if made in orders:
            net.permute(layer, orders[made])
        if not is_depthwise(layer):
            net.permute_columns(layer, orders[read])
    copy = OUT / "published_methods" / f"{path.stem}_permuted.onnx"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(net.model.SerializeToString())
    return copy


def check(path: Path, data: str) -> None:
    """Prints how far the outputs of merges of a net with its permuted copy are from its own, relative to them."""
    nets, images = [Net(path), Net(permuted(path))], [unlabelled(data)[:FEW]] * 2
    (before,) = (np.concatenate(found) for found in zip(*run(nets[0], nets[0].outputs, images[0])))
    for way in ways(nets, images, True):
        # Clusters of channels of one net lose something.
        if "α" in way.variant:
            continue
        for words, per_task in STATISTICS.items():
            pair = made([path, permuted(path)], way._replace(per_task=per_task), images)
            for net in pair.merged:
                (after,) = (np.concatenate(found) for found in zip(*run(net, net.outputs, images[0])))
                far = np.abs(after - before).max() / before.std()
                print(f"{path.stem}, {way.name}, {way.variant}{words}: {far:.1e}", flush=True)


def report(name: str, print_all: bool) -> dict[str, str]:
    """Prints a pair's table; the rise of the mean error of every method."""
    names, sets = PAIRS[name]
    paths = [MODELS / f"{model}.onnx" for model in names]
    before = [error(path, None, subset(f"{data}_test", TESTS)) for path, data in zip(paths, sets)]
    images = [unlabelled(data) for data in sets]
    found = {
        (method, way.variant): measured(made(paths, way, images), sets, TESTS)
        for method, way in best_ways(paths, sets, print_all).items()
    }
    found |= {(method, ""): ours(paths, sets, options) for method, options in OURS.items()}
    lines = [
        [*words, " / ".join(f"{task:.2f}" for task in after), f"{np.mean(np.subtract(after, before)):+.2f}"]
        for words, after in found.items()
    ]
    print(f"\n{name}, before {' / '.join(f'{task:.2f}' for task in before)}\n")
    print(table(["method", "best variant", "errors, %", "rise"], lines), flush=True)
    return {method: rise for method, *_, rise in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="print every variant")
    parser.add_argument("--check", action="store_true", help="merge nets with permuted copies")
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help=", ".join(PAIRS))
    arguments = parser.parse_args()
    names = arguments.pairs or list(PAIRS)
    if arguments.check:
        for name in names:
            models, sets = PAIRS[name]
            check(MODELS / f"{models[0]}.onnx", sets[0])
        return
    rises = [report(name, arguments.all) for name in names]
    lines = [[method, *(rise[method] for rise in rises)] for method in rises[0]]
    print(f"\n{table(['method', *names], lines)}")


if __name__ == "__main__":
    main()
