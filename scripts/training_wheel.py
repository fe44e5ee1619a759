"""Whether ONNX Runtime training has a wheel for this Python: exits with 0 or 1."""

import platform
import sys

on_linux = sys.platform == "linux" and platform.machine() == "x86_64"
sys.exit(not (on_linux and sys.version_info[:2] in [(3, 11), (3, 12)]))
