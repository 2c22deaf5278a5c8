# Two commands do everything on a fresh machine: `make demo` and `make test`. Nothing is installed outside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real data sets are looked for here first, then in the download cache.
export NNSIM_DATA ?= $(wildcard $(abspath ../shared/data))
# Processes begin sooner from modules that are compiled already.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-interop test-wheel wheel kernels campaign lint bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   install, equilibrium against training on the spiral (a minute): table and demo/figure1a.png"
	@echo "make test   install and run all tests"
	@echo "make test-fast   the quick tests only, in three minutes"
	@echo "make test-interop   install MDAnalysis in .venv-interop and read what nnsim export writes"
	@echo "make test-wheel   build the wheel, install it in an empty environment and use it there"
	@echo "make campaign   60 kills, 1000 bit flips, 500 bad inputs, 40 full disks: the table of docs/reliability.md"
	@echo "make lint   ruff and mypy"
	@echo "make docs   install mkdocs and build the site of docs/ in site/, without warnings"
	@echo "make bench  the speed of dynamics, Monte Carlo, tangent kernel and random numbers, beside plain programs"

# The stamp is newer than pyproject.toml exactly if the environment is up to date. Two first runs compile, side by side, most
# of what is compiled, which is kept.
FIRST_RUNS := wlmc training
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@$(foreach one,$(FIRST_RUNS),$(BIN)/nnsim run examples/spiral_$(one).py --steps 10 --overwrite --no-progress \
	  --output $(VENV)/first_$(one).zarr > /dev/null 2>&1 & ) wait
	@touch $@

# Figure 1a of arXiv 2503.13145: four independent Wang-Landau runs, and a hundred training runs to compare them with, which
# take a core of their own meanwhile. The figure of the docs has DEMO_STEPS=5e7.
DEMO_STEPS := 1.2e7
DEMO_RUNS := 0 1 2 3
DEMO_WLMC := $(DEMO_RUNS:%=demo/wlmc_%.zarr)

demo: $(VENV)/.installed
	@mkdir -p demo
	@$(BIN)/nnsim run examples/spiral_training.py --output demo/sgd.zarr --overwrite > demo/training.txt 2>&1 & training=$$!; \
	for seed in $(DEMO_RUNS); do \
	  $(BIN)/nnsim run examples/spiral_wlmc.py --set seed=$$seed --steps $(DEMO_STEPS) --output demo/wlmc_$$seed.zarr --overwrite \
	    || { kill $$training; exit 1; }; \
	done; \
	wait $$training; status=$$?; cat demo/training.txt; exit $$status
	$(BIN)/nnsim analyze advantage $(DEMO_WLMC) --training demo/sgd.zarr --of accuracy_test --width 1 --centred \
	  --output demo/advantage.csv
	$(BIN)/nnsim plot landscape $(DEMO_WLMC) --training demo/sgd.zarr --between -5 0.5 --output demo/figure1a.png

# A worker for each core, of one thread each; a file's tests stay together, since they share what takes long to make.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile
test: $(VENV)/.installed
	$(PYTEST) --no-loadscope-reorder $(PYTEST_FLAGS)

# Compiled code is kept: most of what the tests need is compiled once here, rather than in each of their processes.
kernels: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS) tests/platforms/test_native_dynamics.py \
	  tests/engine/test_platforms.py -k "BAOAB or neither_threads or stays_near or numbers_of_a_walker"

# What takes seconds is marked slow: statistics, processes that are killed, examples and campaigns.
test-fast: $(VENV)/.installed
	$(PYTEST) -m "not slow" $(PYTEST_FLAGS)

# Kills, bit flips, full disks and bad input by the hundred; half an hour on two cores.
campaign: $(VENV)/.installed
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m campaign $(CAMPAIGN_FLAGS)

# MDAnalysis reads Zarr through zarr 2 and nnsim writes it with zarr 3, hence an environment of its own. It has exactly the
# packages that the reader imports: without dependencies, most of which are clients of cloud stores.
INTEROP := .venv-interop
$(INTEROP)/.installed: constraints-interop.txt | $(VENV)/.installed
	$(PYTHON) -m venv --without-pip $(INTEROP)
	@echo '*' > $(INTEROP)/.gitignore
	$(BIN)/python -m pip --python $(INTEROP)/bin/python install --quiet --no-deps --requirement constraints-interop.txt
	@touch $@

test-interop: $(VENV)/.installed $(INTEROP)/.installed
	NNSIM_INTEROP_PYTHON=$(abspath $(INTEROP))/bin/python $(BIN)/python -m pytest $(PYTEST_FLAGS) interop/test_mdanalysis.py

# The wheel of what lies here now.
wheel: $(VENV)/.installed
	@rm -rf build $(VENV)/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(VENV)/wheel .
	@rm -rf build

# As users install it, beside nothing else; see interop/test_wheel.py.
test-wheel: wheel
	NNSIM_WHEELS=$(abspath $(VENV))/wheel $(BIN)/python -m pytest $(PYTEST_FLAGS) interop/test_wheel.py

# mypy sees the package as users get it: an installed wheel, from a folder where nothing shadows it.
lint: wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf $(VENV)/lint
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/lint/site $(VENV)/wheel/*.whl
	cd $(VENV)/lint && MYPYPATH=site ../bin/mypy --config-file ../../pyproject.toml --python-executable ../bin/python -p nnsim

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/performance.py $(if $(JAX),--jax $(JAX))
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/monte_carlo.py
	$(BIN)/python benchmarks/ntk.py
	$(BIN)/python benchmarks/random_numbers.py

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

# Nothing is fetched, neither now nor when the site is read.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) $(INTEROP) build demo site *.egg-info
