"""The command ``onnx-zip``."""

import sys

from . import _native
from ._place import program


def main():
    """Runs the command line and ends the process with its exit code."""
    sys.exit(_native.main(program(), ["onnx-zip", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
