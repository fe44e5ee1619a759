#!/usr/bin/env bash
# Prepares a Debian or Ubuntu machine for building and testing; installs only what is missing.
#   OpenBLAS and Fashion-MNIST   from the distribution's packages
#   a headless browser           where the distribution has one
#   .venv                        onnx, onnxruntime and numpy at the pinned versions
#   .venv-training               ONNX Runtime training, where there is a wheel of it
#   .venv-wheel                  what builds the Python package
#   .onnxruntime                 the ONNX Runtime library, where onnx-zip looks for it
#   fixtures/data/fashion_*.npz  converted from the package's files
#   scripts/setup.sh demo        only what the demo needs: OpenBLAS, Fashion-MNIST, .venv and .onnxruntime
#   scripts/setup.sh packages    only the distribution's packages
set -euo pipefail
cd "$(dirname "$0")/.."

readonly scope=${1:-all}

readonly python=${PYTHON:-python3}
readonly fashion_source=${FASHION_MNIST_DIR:-/usr/share/datasets/fashion-mnist}

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
        -o Acquire::Retries=3 "$@"
}

fashion_converted() {
    [ -s fixtures/data/fashion_train.npz ] && [ -s fixtures/data/fashion_test.npz ]
}

# One package name a line for everything that the build and the tests miss.
missing_packages() {
    command -v make >/dev/null || echo make
    command -v cc >/dev/null || printf '%s\n' gcc libc6-dev
    # The tests kill runs of the program at each of their system calls.
    [ "$scope" != all ] || command -v strace >/dev/null || echo strace
    # pkg-config is not needed: without it the build links plain -lopenblas, as this does.
    echo 'int main(void) { return 0; }' | cc -x c - -lopenblas -o /dev/null 2>/dev/null ||
        echo libopenblas-dev
    fashion_converted || [ -e "$fashion_source/train-images-idx3-ubyte.gz" ] ||
        echo dataset-fashion-mnist
    if ! command -v "$python" >/dev/null; then
        printf '%s\n' python3 python3-venv
    elif [ ! -x .venv/bin/python ] && ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo python3-venv
    fi
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "this system has no apt-get. Please install OpenBLAS" \
        "with its development files, make, a C compiler, strace, Python 3.11 or later with venv, and" \
        "the four .gz files of Fashion-MNIST in $fashion_source (or set FASHION_MNIST_DIR), then run" \
        "this again; missing here, by their Debian names: ${packages[*]}."
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || fail "this system has no sudo. Please" \
        "run 'apt-get install ${packages[*]}' as root, then run this again."
    say "installing ${packages[*]}"
    # The first try fails where the package lists are missing or too old.
    apt install -y --no-install-recommends "${packages[@]}" || {
        # One broken third-party source is no reason to stop: what counts is the next line.
        apt update || say "not every package list could be fetched"
        apt install -y --no-install-recommends "${packages[@]}"
    }
}

# A browser opens the reports in a test. Not every distribution has one as a package.
install_browser() {
    local name
    for name in chromium-headless-shell chromium chromium-browser google-chrome chrome; do
        if command -v "$name" >/dev/null; then return 0; fi
    done
    say "installing chromium-headless-shell"
    { command -v apt-get >/dev/null && apt install -y --no-install-recommends \
        chromium-headless-shell; } || say "there is no browser: reports will not be opened in one"
}

check_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or later is needed and $python is $("$python" --version);" \
            "please name another one in PYTHON."
}

# make_venv FOLDER REQUIREMENTS: a virtual environment with the packages of a requirements file.
make_venv() {
    # The stamp is written last, so an interrupted installation is started afresh.
    local folder=$1 requirements=$2 stamp=$1/installed-requirements.txt
    if [ -x "$folder/bin/python" ] && cmp -s "$requirements" "$stamp"; then return 0; fi
    say "installing $(paste -sd' ' "$requirements") into $folder"
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --retries 5 \
        --requirement "$requirements"
    cp "$requirements" "$stamp"
}

# ONNX Runtime training needs an environment of its own: it takes the place of onnxruntime.
make_training_venv() {
    if "$python" scripts/training_wheel.py; then
        make_venv .venv-training src/handoff/python/requirements.txt
    else
        say "ONNX Runtime training has no wheel for $("$python" --version) on $(uname -sm):" \
            "the hand-off to it will not be tested"
    fi
}

link_onnxruntime() {
    local found=(.venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*)
    [ -e "${found[0]}" ] || fail "no libonnxruntime.so in .venv; delete .venv and run this again."
    local target="../${found[0]}"
    [ "$(readlink .onnxruntime/libonnxruntime.so || true)" != "$target" ] || return 0
    say "linking .onnxruntime/libonnxruntime.so to $(basename "$target")"
    mkdir -p .onnxruntime
    ln -sfn "$target" .onnxruntime/libonnxruntime.so
}

convert_fashion_mnist() {
    fashion_converted && return 0
    say "converting Fashion-MNIST"
    .venv/bin/python fixtures/fashion_mnist.py
}

install_packages
[ "$scope" != packages ] || exit 0
check_python
make_venv .venv fixtures/requirements.txt
if [ "$scope" = all ]; then
    install_browser
    make_training_venv
    make_venv .venv-wheel python/requirements.txt
fi
link_onnxruntime
convert_fashion_mnist
say "ready"
