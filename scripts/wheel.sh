#!/usr/bin/env bash
# The Python package: `wheel.sh build` builds the wheel, with OpenBLAS in it, into out/wheels;
# `wheel.sh test` installs it into fresh environments, one for the oldest Python at hand and one for the
# newest, and runs its tests there.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly wheels=out/wheels

build() {
    rm -rf "$wheels"
    # The profile and folder of all other builds, so that dependencies are not compiled again.
    PATH="$PWD/.venv-wheel/bin:$PATH" maturin build --release --locked --auditwheel repair \
        --manifest-path python/Cargo.toml --out "$wheels"
}

# The Pythons at hand that the wheel is for, oldest first.
pythons() {
    local minor
    for minor in 10 11 12 13 14 15; do
        # What pyenv puts in the place of a version that is not chosen fails.
        "python3.$minor" -c "import venv" 2>/dev/null && command -v "python3.$minor" || true
    done
}

run_tests() {
    local python=$1 folder
    folder=$(mktemp -d)
    echo "wheel: testing with $("$python" --version) in a fresh environment"
    "$python" -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 5 \
        "$wheels"/onnx_zip-*.whl --requirement fixtures/requirements.txt \
        --requirement python/tests/requirements.txt
    # From elsewhere, so that the package is the installed one; without what would name another runtime.
    (cd "$folder" && env -u ORT_DYLIB_PATH -u VIRTUAL_ENV PYTHONDONTWRITEBYTECODE=1 \
        venv/bin/python -m pytest -q -p no:cacheprovider "$OLDPWD/python/tests")
    rm -rf "$folder"
}

case ${1:-} in
build) build ;;
test)
    mapfile -t found < <(pythons)
    [ ${#found[@]} -gt 0 ] || found=("$(command -v python3)")
    run_tests "${found[0]}"
    [ ${#found[@]} -eq 1 ] || run_tests "${found[-1]}"
    ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac
