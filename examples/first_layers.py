"""What it costs to share first layers: nets merged with and without their weights.

    .venv/bin/python examples/first_layers.py [NET…]

The pairs, samples and shares of examples/curves.py, by `refit`. Once all hidden layers share their
weights; once the first one keeps its own (`--own-weights`), and its channels are only paired.
"""

import sys

from curves import METHODS, NETS, SHARES, point, rise
from experiment import table

FIRST = "*features.0/features.0.0*"
METHODS["own"] = ("--method", "refit", "--own-weights", FIRST)


def main() -> None:
    for net in sys.argv[1:] or NETS:
        rows = []
        for share in SHARES[1:]:
            row = [f"{share:.0%}"]
            for method in ("refit", "own"):
                size, measured = point(net, method, share)
                errors = " / ".join(f"{after:.2f}" for _, after in measured)
                row += [f"{size:.1%}", errors, f"{rise(measured):+.2f}"]
            rows.append(row)
        print(f"\n{NETS[net]}\n")
        header = ["share", "size", "all layers", "rise", "size", "first layer own", "rise"]
        print(table(header, rows), flush=True)


if __name__ == "__main__":
    main()
