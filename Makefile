# make demo  — everything needed on a fresh machine, then the station on a simulated camera (ARGS="--port 9000")
# make test  — everything needed on a fresh machine, then all checks and tests
# make check — linting, types and import rules only
# make bench — the station's throughput and the network's time per frame on this machine's CPU
# make chaos — an hour of random faults, ten minutes without; what was lost and what grew (CHAOS_SECONDS=300 ARGS="--seed 1")
# make sbom  — what a station installs, as CycloneDX: dist/sbom.cdx.json
# make test-gpu — the tests that need an NVIDIA GPU
# make sanitize-gpu — the CUDA engine's under compute-sanitizer: memory, races, barriers, what was never written
# make bench-gpu — the CUDA pipeline from raw frames to verdicts on an NVIDIA GPU
# make bench-training — training cost and time per image on an NVIDIA GPU (ARGS="--data DIR")
# For these four on a machine that downloads nothing, WHEELS=DIR holds what its Python has not: wheels, and PyCUDA's
# source or a wheel of it. Torch and whatever else that Python has is used as it is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Many tests wait more than they compute.
WORKERS ?= 3

ifdef WHEELS
GPU_VENV := .venv-gpu
GPU_BIN := $(GPU_VENV)/bin
GPU_READY := $(GPU_VENV)/.ready
OFFLINE_PIP := $(GPU_BIN)/python -m pip --disable-pip-version-check install --quiet --no-index --no-deps
else
GPU_BIN := $(BIN)
GPU_READY := $(VENV)/.dev-ready
endif

.PHONY: demo test check bench chaos test-gpu sanitize-gpu bench-gpu bench-training sbom clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo-ready
	$(BIN)/tfanet-edge demo $(ARGS)

# Threads of several processes that wait for each other by spinning would take most of the time.
test: export OMP_NUM_THREADS ?= 1
test: export CHAOS_SECONDS ?= 300
test: $(VENV)/.dev-ready
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		--durations=25 --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

check: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev-ready
	$(BIN)/python benchmarks/station_throughput.py
	$(BIN)/python benchmarks/frame_time.py

chaos: CHAOS_SECONDS ?= 3600
chaos: $(VENV)/.dev-ready
	$(BIN)/python benchmarks/chaos_run.py --seconds $(CHAOS_SECONDS) $(ARGS)

sbom: $(VENV)/.dev-ready
	mkdir -p dist
	$(BIN)/python tools/sbom.py --output dist/sbom.cdx.json

test-gpu: $(GPU_READY)
	$(GPU_BIN)/python -m pytest -m gpu $(ARGS)

sanitize-gpu: $(GPU_READY)
	for tool in memcheck racecheck synccheck initcheck; do \
		compute-sanitizer --tool $$tool --error-exitcode 1 --target-processes all \
			$(GPU_BIN)/python -m pytest -m gpu tests/edge/engines/test_cuda_engine.py || exit 1; \
	done

bench-gpu: $(GPU_READY)
	$(GPU_BIN)/python benchmarks/cuda_pipeline.py $(ARGS)

bench-training: $(GPU_READY)
	$(GPU_BIN)/python benchmarks/gpu.py $(ARGS)

# A system package is only asked for when what it provides is missing.
$(VENV)/.demo-system: Makefile tools/system_packages.sh
	SUDO="$(SUDO)" tools/system_packages.sh demo
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.dev-system: $(VENV)/.demo-system
	SUDO="$(SUDO)" tools/system_packages.sh dev
	touch $@

$(VENV)/.demo-ready: $(VENV)/.demo-system setup.py constraints.txt $(wildcard simulator/native/*.[ch] simulator/native/*.xml)
	$(PIP) install --quiet -c constraints.txt -e '.[demo]'
	$(BIN)/python -m simulator.build
	touch $@

$(VENV)/.dev-ready: $(VENV)/.dev-system $(VENV)/.demo-ready $(wildcard tools/tensorrt*) tools/pycuda_wheel.py
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python tools/tensorrt_bindings.py
	$(BIN)/python tools/pycuda_wheel.py
	touch $@

ifdef WHEELS
# Wheels first: what builds PyCUDA may be among them.
$(GPU_VENV)/.ready: setup.py $(wildcard $(WHEELS)/*)
	$(PYTHON) -m venv --system-site-packages $(GPU_VENV)
	$(OFFLINE_PIP) $(wildcard $(WHEELS)/*.whl)
	$(OFFLINE_PIP) --no-build-isolation $(wildcard $(WHEELS)/*.tar.gz) -e .
	touch $@
endif

clean:
	rm -rf $(VENV) .venv-gpu simulator/native/build .mypy_cache .ruff_cache .pytest_cache .coverage*
