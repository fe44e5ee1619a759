# Every command that a developer needs. All builds use the release profile, so that dependencies,
# which are most of the build, are compiled once.

python := $(CURDIR)/.venv/bin/python

# The Rust tests find Python here; the tool itself finds ONNX Runtime in .onnxruntime/.
export ONNX_ZIP_PYTHON := $(python)
unexport ORT_DYLIB_PATH

# A test is not busy on all processors all the time.
export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))

.PHONY: setup build wheel test test-rust test-python test-wheel check lint demo demo-setup demo-build fuzz bench speed scaling peers retraining step-time gpu clean
.DEFAULT_GOAL := build

setup: ## install what is missing: OpenBLAS, Python packages, ONNX Runtime, Fashion-MNIST
	scripts/setup.sh

build: ## the optimised binary, target/release/onnx-zip
	cargo build --release

wheel: setup ## the Python package, in out/wheels
	scripts/wheel.sh build

# The last two mostly keep one processor busy each.
test: test-rust ## all tests
	$(MAKE) --jobs=2 --output-sync=target test-python test-wheel

# With the whole workspace, so that dependencies have the features that the wheel needs, too.
test-rust: setup
	cargo test --release --workspace

test-python: setup
	cargo build --release --workspace
	tests/python/run.sh

test-wheel: wheel
	scripts/wheel.sh test

lint: ## formatting, Clippy and the API's documentation
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps

check: ## everything a change must pass
	$(MAKE) lint
	$(MAKE) test

# A first build takes minutes, so the demo leaves out what it does not use: tract and Parquet. Where all is
# built already, that is used.
demo_features := $(if $(wildcard target/release/onnx-zip),--workspace,--no-default-features --features cli)

demo: ## merge three pairs of networks and print one table
	scripts/setup.sh packages
	$(MAKE) --jobs=2 demo-setup demo-build
	examples/demo.sh

demo-setup:
	scripts/setup.sh demo

demo-build:
	cargo build --release $(demo_features)

fuzz: setup ## changed and hostile files, so many minutes per target: make fuzz MINUTES=10 [SEED=1]
	cargo test --release --workspace --test fuzz --no-run
	ulimit -v 16000000; ONNX_ZIP_FUZZ_MINUTES=$(or $(MINUTES),2) ONNX_ZIP_FUZZ_SEED=$(SEED) \
		cargo test --release --workspace --test fuzz -- --nocapture

bench: setup
	cargo bench

speed: setup ## the time of a merge against that of its runtime passes and products alone
	cargo run --release --example speed

scaling: setup build ## how time grows with samples, nodes, tasks and width; larger sizes: make scaling LARGE=1
	$(python) examples/scaling.py $(if $(LARGE),--large)

peers: setup build ## merges beside the paper's method in plain NumPy and beside other published methods
	$(python) examples/peers.py
	$(python) examples/published_methods.py

retraining: setup build ## test errors of merged nets before and after retraining
	$(python) examples/retraining.py

step-time: setup build ## the time of a training step against that of ONNX Runtime training
	examples/step_time.py

gpu: setup build ## CUDA against the CPU; without a GPU, small cases on the CPU alone
	scripts/gpu.sh prove

clean:
	cargo clean
	rm -rf out .venv .venv-training .venv-wheel .onnxruntime fixtures/data/fashion_*.npz
