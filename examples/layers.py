"""Whole layers as the unit of sharing, beside neurons: sizes and errors of four pairs of nets.

    .venv/bin/python examples/layers.py [NET…]

The pairs and samples of examples/curves.py, nothing retrained. Prints one table per pair: a merge
without any option, merges to two sizes, merges that share all layers with biases per task and with
common ones, and a merge that shares 90 % of the neurons of every layer.
"""

import sys

from curves import NETS, measured, point, rise
from experiment import OUT, table

WAYS = {
    "knee": (),
    "57": ("--target-size", "57%"),
    "60": ("--target-size", "60%"),
    "full": ("--share", "1"),
    "full_shared_biases": ("--share", "1", "--biases", "shared"),
}


def main() -> None:
    for net in sys.argv[1:] or NETS:
        points = {}
        for name, options in WAYS.items():
            words = f"`{' '.join(options)}`" if options else "none"
            points[words] = measured(net, OUT / "layers" / f"{net}_{name}.onnx", *options)
        points["`--unit neuron --share 0.9`"] = point(net, "refit", 0.9)
        rows = []
        for words, (size, errors) in points.items():
            after = " / ".join(f"{after:.2f}" for _, after in errors)
            rows.append([words, f"{size:.1%}", after, f"{rise(errors):+.2f}"])
        before = " / ".join(f"{before:.2f}" for before, _ in errors)
        print(f"\n{NETS[net]}, before {before}\n")
        print(table(["options", "parameters", "MNIST / Fashion-MNIST", "rise"], rows), flush=True)


if __name__ == "__main__":
    main()
