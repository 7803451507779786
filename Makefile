# make demo  — everything needed on a fresh machine, then the station on a simulated camera (ARGS="--port 9000")
# make test  — everything needed on a fresh machine, then all checks and tests
# make check — linting, types and import rules only
# make bench — the station's throughput and the network's time per frame on this machine's CPU
# make bench-gpu — training cost and time per image on an NVIDIA GPU (ARGS="--data DIR")

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: demo test check bench bench-gpu clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo-ready
	$(BIN)/tfanet-edge demo $(ARGS)

test: $(VENV)/.dev-ready
	$(MAKE) --no-print-directory check
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

check: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev-ready
	$(BIN)/python benchmarks/station_throughput.py
	$(BIN)/python benchmarks/frame_time.py

bench-gpu: $(VENV)/.dev-ready
	$(BIN)/python benchmarks/gpu.py $(ARGS)

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

clean:
	rm -rf $(VENV) simulator/native/build .mypy_cache .ruff_cache .pytest_cache
