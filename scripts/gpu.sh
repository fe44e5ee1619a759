#!/usr/bin/env bash
# Proves the CUDA half of onnx-zip on a machine that has a GPU and no network.
#
#   scripts/gpu.sh pack DIR      here: puts what such a machine lacks into DIR/1, DIR/2, …, none of them
#                                larger than PART_MIB (46) MiB
#   scripts/gpu.sh prove [DIR]   there, in a checkout: puts the parts together and compares CUDA with the
#                                CPU in backend tests, merges and retraining, in one table
#
# `prove` without DIR takes what is built here and small cases; without a GPU it measures the CPU half and
# says why there is no other. The table and its numbers go to $OUT (out/gpu) as gpu.md and gpu.json.
#
# That machine needs Python 3 with NumPy and ONNX, the NVIDIA driver, and CUDA and cuDNN 9, in the system
# or as packages of Python. CUDA_ARCH (90) names the GPUs that the pack is for, as in sm_90; `all` keeps
# the kernels of every GPU and makes the pack three times as large.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly cargo=${CARGO:-cargo}
readonly arch=${CUDA_ARCH:-90}

fail() {
    echo "gpu: $*" >&2
    exit 1
}

usage() {
    sed -n '3,9s/^# \?//p' "$0" >&2
    exit 2
}

# The unit tests, which hold the backend suite.
suite() {
    "$cargo" test --release --lib --no-run --message-format=json | "$1" -c '
import json, sys
built = [json.loads(line).get("executable") for line in sys.stdin if line.startswith("{")]
print(next(path for path in built if path))'
}

# wheel PYTHON DIR: onnxruntime-gpu in the version of the runtime that the tests use.
wheel() {
    local version
    version=$(sed -n 's/^onnxruntime==//p' fixtures/requirements.txt)
    if [ -z "$(compgen -G "$2/onnxruntime_gpu-$version-*.whl")" ]; then
        "$1" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --dest "$2" "onnxruntime-gpu==$version"
    fi
    compgen -G "$2/onnxruntime_gpu-$version-*.whl" | head -1
}

# stage PYTHON WHEEL DIR: everything that travels, as it will lie there.
stage() {
    local python=$1 wheel=$2 to=$3 library
    mkdir -p "$to/bin" "$to/lib"
    strip -o "$to/bin/onnx-zip" target/release/onnx-zip
    strip -o "$to/bin/suite" "$(suite "$python")"
    # What a machine without OpenBLAS lacks.
    for library in openblas gfortran quadmath; do
        library=$(ldd target/release/onnx-zip | sed -n "s|.*=> \(.*/lib$library\.so[^ ]*\).*|\1|p")
        [ -z "$library" ] || cp -L "$library" "$to/lib/"
    done
    "$python" -m zipfile -e "$wheel" "$to/wheel"
    mv "$to"/wheel/onnxruntime/capi/libonnxruntime.so.* \
        "$to"/wheel/onnxruntime/capi/libonnxruntime_providers_{shared,cuda}.so "$to/lib/"
    rm -r "$to/wheel"
    "$python" scripts/gpu/kernels.py "$to/lib/libonnxruntime_providers_cuda.so" --keep "$arch"
    "$python" scripts/gpu/cases.py "$to/fixtures"
}

pack() {
    local dir=$1 python=.venv/bin/python tree parts number=0 part
    [ -x $python ] || fail "there is no .venv; run make setup first."
    mkdir -p "$dir"
    dir=$(realpath "$dir")
    tree=$(mktemp -d)
    trap "rm -rf '$tree'" EXIT
    "$cargo" build --release
    stage $python "$(wheel $python "$dir")" "$tree/files"
    tar -C "$tree/files" -c . | xz -T0 -6 >"$tree/all"
    rm -rf "$dir"/[0-9]*
    split -a 2 -d -b "${PART_MIB:-46}m" "$tree/all" "$tree/part."
    parts=("$tree"/part.*)
    for part in "${parts[@]}"; do
        number=$((number + 1))
        mkdir "$dir/$number"
        mv "$part" "$dir/$number/part"
        # Each part knows how many there are, and what they come to.
        echo "${#parts[@]} $(sha256sum <"$tree/all" | cut -d' ' -f1)" >"$dir/$number/all"
    done
    du -h --apparent-size "$dir"/[0-9]*/part
}

# unpack DIR TREE
unpack() {
    local dir=$1 tree=$2 of sum number
    [ -f "$dir/1/all" ] || fail "$dir/1 is not there; make it with scripts/gpu.sh pack $dir."
    read -r of sum <"$dir/1/all"
    for number in $(seq "$of"); do
        [ -f "$dir/$number/part" ] || fail "part $number of $of is not in $dir; bring it, too."
        cat "$dir/$number/part"
    done >"$tree/all"
    sha256sum "$tree/all" | grep -q "^$sum " || fail "the parts in $dir are not of one pack."
    mkdir "$tree/files"
    if command -v xz >/dev/null; then
        xz -T0 -dc "$tree/all" | tar -C "$tree/files" -x
    else
        python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1], "r:xz").extractall(sys.argv[2])' \
            "$tree/all" "$tree/files"
    fi
    rm "$tree/all"
}

prove() {
    local tree files
    if [ $# -eq 0 ]; then
        "$cargo" build --release
        exec .venv/bin/python scripts/gpu/prove.py --tool target/release/onnx-zip --small
    fi
    tree=$(mktemp -d)
    trap "rm -rf '$tree'" EXIT
    unpack "$1" "$tree"
    files=$tree/files
    python3 scripts/gpu/prove.py --tool "$files/bin/onnx-zip" --suite "$files/bin/suite" \
        --libraries "$files/lib" --fixtures "$files/fixtures"
}

case "${1:-}" in
    pack) [ $# -eq 2 ] || usage ;;
    prove) [ $# -le 2 ] || usage ;;
    *) usage ;;
esac
"$@"
