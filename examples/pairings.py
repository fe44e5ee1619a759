"""Which channels of two nets of one architecture belong together, by published ways to find out.

A pairing holds for every space of channels one array per net: the number of the common channel that each of
the net's channels becomes part of. Layers whose outputs are added, and depthwise layers and what they read,
have one space. Both nets have as many channels in a space as come out of it.
"""

import numpy as np
import onnx
import onnxruntime as ort

from peers import BATCH, Net

Pairing = dict[int, list[np.ndarray]]
# What brings a channel's numbers into another range without mixing channels.
ACTIVATIONS = ("Relu", "Clip")


def is_depthwise(layer: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in layer.attribute)


def spaces(net: Net) -> dict[str, int]:
    """The space of channels of every tensor; that of the image is 0."""
    space = {"image": 0}
    for number, node in enumerate(net.nodes, 1):
        read = {space[name] for name in node.input if name in space}
        if node.op_type in ("Conv", "Gemm") and not is_depthwise(node):
            space[node.output[0]] = number
        elif read:
            kept = min(read)
            space = {name: kept if of in read else of for name, of in space.items()}
            space[node.output[0]] = kept
    return space


def ends(net: Net) -> list[tuple[int, int]]:
    """The spaces that each layer reads and makes."""
    space = spaces(net)
    return [(space[layer.input[0]], space[layer.output[0]]) for layer in net.layers]


def channels(net: Net) -> dict[int, int]:
    """The number of channels of every space but that of the outputs."""
    makers = zip(net.layers[:-1], ends(net))
    return {0: 1} | {made: len(net.array(layer.input[1])) for layer, (_, made) in makers}


def blocks(net: Net, layer: onnx.NodeProto, read: int) -> np.ndarray:
    """A layer's weight as outputs × channels read × numbers per channel."""
    weight = net.array(layer.input[1])
    return weight.reshape(len(weight), 1 if is_depthwise(layer) else read, -1).astype(float)


def run(net: Net, names: list[str], images: np.ndarray):
    """Tensors of the net as it is now, batch by batch."""
    model = onnx.ModelProto()
    model.CopyFrom(net.model)
    wanted = [name for name in names if name != "image"]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted or net.outputs)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        found = dict(zip(wanted, session.run(wanted, {"image": batch}))) if wanted else {}
        yield [found.get(name, batch) for name in names]


def correlations(nets: list[Net], images: np.ndarray, activated: bool) -> dict[int, np.ndarray]:
    """Of all channels of both nets in each space, over images and positions: the mean over the tensors that
    layers and additions make, or over those that activations make."""
    kinds = ACTIVATIONS if activated else ("Conv", "Gemm", "Add")
    numbers = [n for n, node in enumerate(nets[0].nodes[:-1]) if node.op_type in kinds]
    names = [[net.nodes[n].output[0] for n in numbers] for net in nets]
    sums, products, counts = ([0.0] * len(numbers) for _ in range(3))
    for tensors in zip(*(run(net, own, images) for net, own in zip(nets, names))):
        for place, pair in enumerate(zip(*tensors)):
            both = np.concatenate(pair, axis=1)
            columns = np.moveaxis(both, 1, -1).reshape(-1, both.shape[1])
            sums[place] = sums[place] + columns.sum(axis=0, dtype=float)
            products[place] = products[place] + (columns.T @ columns).astype(float)
            counts[place] += len(columns)
    space = spaces(nets[0])
    found: dict[int, list[np.ndarray]] = {}
    for place, name in enumerate(names[0]):
        mean = sums[place] / counts[place]
        covariance = products[place] / counts[place] - np.outer(mean, mean)
        scale = np.sqrt(np.maximum(np.diag(covariance), 1e-10))
        found.setdefault(space[name], []).append(covariance / np.outer(scale, scale))
    return {of: np.mean(several, axis=0) for of, several in found.items()}


def clusters(correlation: np.ndarray, within: float, discount: float) -> list[np.ndarray]:
    """ZipIt!'s greedy merges: the most alike first, until as many channels are left as one net has.

    `within` (b) is the part of a net's channels that may go into others of the same net. Merged channels are
    as alike to others as the less alike of them, times `discount` (α).
    """
    count = len(correlation) // 2
    alike = correlation.copy()
    np.fill_diagonal(alike, -np.inf)
    label = np.arange(2 * count)
    has = np.repeat(np.eye(2, dtype=bool), count, axis=0)
    gone = [0, 0]
    for _ in range(count):
        allowed = alike.copy()
        for net in (0, 1):
            if gone[net] + 1 > within * count:
                allowed[np.outer(has[:, net], has[:, net])] = -np.inf
        kept, merged = divmod(int(allowed.argmax()), 2 * count)
        gone = [lost + int(h) for lost, h in zip(gone, has[kept] & has[merged])]
        has[kept] |= has[merged]
        label[label == merged] = kept
        alike[kept] = alike[:, kept] = discount * np.minimum(alike[kept], alike[merged])
        alike[kept, kept] = -np.inf
        alike[merged] = alike[:, merged] = -np.inf
    numbers = np.unique(label, return_inverse=True)[1]
    return [numbers[:count], numbers[count:]]


def assigned(benefit: np.ndarray) -> np.ndarray:
    """The column of each row in the assignment of the largest sum (Hungarian method, shortest paths)."""
    count = len(benefit)
    cost = -benefit
    rows, columns = np.zeros(count), np.zeros(count + 1)
    owner = np.full(count + 1, -1)
    for row in range(count):
        owner[count], column = row, count
        least, previous = np.full(count, np.inf), np.full(count, count)
        done = np.zeros(count + 1, bool)
        while owner[column] >= 0:
            done[column] = True
            reduced = cost[owner[column]] - rows[owner[column]] - columns[:-1]
            shorter = ~done[:-1] & (reduced < least)
            least[shorter], previous[shorter] = reduced[shorter], column
            following = int(np.where(done[:-1], np.inf, least).argmin())
            step = least[following]
            rows[owner[done]] += step
            columns[done] -= step
            least[~done[:-1]] -= step
            column = following
        while column < count:
            before = previous[column]
            owner[column] = owner[before]
            column = before
    found = np.empty(count, int)
    found[owner[:-1]] = np.arange(count)
    return found


def pairing_of_order(order: np.ndarray) -> list[np.ndarray]:
    """The first net's channels in their order, and the second's that `order` puts beside them."""
    return [np.arange(len(order)), np.argsort(order)]


def matched_by_activations(correlation: dict[int, np.ndarray]) -> Pairing:
    """Permutations of the largest sum of correlations."""
    halves = {of: len(matrix) // 2 for of, matrix in correlation.items()}
    return {
        of: pairing_of_order(assigned(matrix[: halves[of], halves[of] :]))
        for of, matrix in correlation.items()
    }


def matched_by_weights(nets: list[Net], one_task: bool) -> Pairing:
    """Git Re-Basin's weight matching: one space after the other takes the permutation of the largest product
    of both nets' weights, until none changes. Outputs count if both nets have the same."""
    counts, between = channels(nets[0]), ends(nets[0])
    orders = {of: np.arange(count) for of, count in counts.items()}
    orders[between[-1][1]] = np.arange(len(nets[0].weight(nets[0].layers[-1])))
    compared = list(zip(*(net.layers for net in nets), between))[: None if one_task else -1]
    changes = True
    while changes:
        changes = False
        for of in [of for of in counts if of]:
            benefit = sum(alike(nets, pair, between, counts, orders, of) for *pair, between in compared)
            order = assigned(benefit)
            changes |= (benefit[range(counts[of]), order] - benefit[range(counts[of]), orders[of]]).sum() > 1e-6
            orders[of] = order
    return {of: pairing_of_order(orders[of]) for of in counts if of}


def alike(nets, layers, between, counts, orders, of) -> np.ndarray | float:
    """Products of the weights with which a layer of two nets makes or reads the channels of a space."""
    read, made = between
    if of not in between:
        return 0.0
    first, second = (blocks(net, layer, counts[read]) for net, layer in zip(nets, layers))
    if of != made:
        return np.einsum("oib,ojb->ij", first, second[orders[made]], optimize=True)
    if not is_depthwise(layers[0]):
        second = second[:, orders[read]]
    biases = (net.array(layer.input[2]) for net, layer in zip(nets, layers))
    return first.reshape(len(first), -1) @ second.reshape(len(second), -1).T + np.outer(*biases)
