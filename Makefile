# Two commands do everything on a fresh machine: `make demo` and `make test`. Nothing is installed outside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real data sets are looked for here first, then in the download cache.
export NNSIM_DATA ?= $(wildcard $(abspath ../shared/data))

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   install, run the spiral example (3 minutes), print its numbers, draw demo/landscape.png"
	@echo "make test   install and run all tests"
	@echo "make lint   ruff and mypy"
	@echo "make bench  the speed of a step, beside a plain PyTorch loop"

# The stamp is newer than pyproject.toml exactly if the environment is up to date.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	@mkdir -p demo
	$(BIN)/nnsim run examples/spiral_wlmd.py --output demo/spiral.zarr --overwrite
	$(BIN)/nnsim analyze equilibrium demo/spiral.zarr --of accuracy_test --between -2 0 --output demo/equilibrium.csv
	$(BIN)/nnsim plot landscape demo/spiral.zarr --observable accuracy_test --between -2 0 --output demo/landscape.png

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# mypy sees the package as users get it: an installed wheel, from a folder where nothing shadows it.
lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build $(VENV)/lint && mkdir -p $(VENV)/lint
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(VENV)/lint .
	@rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/lint/site $(VENV)/lint/*.whl
	cd $(VENV)/lint && MYPYPATH=site ../bin/mypy --config-file ../../pyproject.toml --python-executable ../bin/python -p nnsim

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf $(VENV) build demo *.egg-info
