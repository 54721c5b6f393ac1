# Requirements: make and Python 3.11 or newer.
#   make demo              train the spike-time regression; pictures and metrics in runs/
#   make test              run the tests (pytest options: make test PYTEST="-k ties -n 0")
#   make test-newest PYTHON=python3.13            run the tests with the newest versions in pip
#   make test-lowest       run the tests with the lowest versions that pyproject.toml allows
#                          (numpy 2.0 and scikit-learn 1.5 exist only for Python 3.11 and 3.12)
#   make smoke PYTHON=python3.13                  build, install and test the wheel
#   make lint              check style, format and types
#   make docs              build the documentation in build/site
#   make notebooks NOTEBOOKS="delays layers"      run notebooks and store their outputs
#   make bench BENCH="ttfs-regression --peer eventax"                run a benchmark
#   make clean             remove all generated files
#
# All commands except test-newest, test-lowest and smoke install the versions in constraints.txt.
# To use another environment:
#   make test PYTHON=python3.12 VENV=.venv-3.12 CONSTRAINTS=my-constraints.txt

PYTHON ?= python3
PYTEST ?=
BENCH ?= --help

VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
    $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: demo test test-newest test-lowest smoke lint docs notebooks bench clean

demo: $(VENV)/.base
	$(BIN)/eventsnn run ttfs-regression

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(PYTEST)

# Recreate the environment on every call, because the newest versions change.
test-newest:
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

test-lowest: .venv-lowest/lowest.txt
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=.venv-lowest/lowest.txt

# Build the source archive, build the wheel from it, and install the wheel with its dependencies.
SMOKE := .venv-smoke

smoke:
	rm -rf $(SMOKE)
	@$(MAKE) --no-print-directory VENV=$(SMOKE) $(SMOKE)/.python
	$(SMOKE)/bin/python -m pip install --quiet --disable-pip-version-check build
	$(SMOKE)/bin/python -m build --outdir $(SMOKE)/dist . >$(SMOKE)/build.log
	$(SMOKE)/bin/python -m pip install --quiet --disable-pip-version-check $(SMOKE)/dist/*.whl
	$(SMOKE)/bin/python -I tests/smoke.py

lint: $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The pages of the notebooks show stored outputs; nothing is executed. Warnings are errors.
docs: $(VENV)/.docs
	$(BIN)/python tools/notebooks.py
	PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Without NOTEBOOKS, all notebooks run, in about a quarter of an hour.
notebooks: $(VENV)/.docs
	$(BIN)/python tools/run_notebooks.py $(NOTEBOOKS)

bench: $(VENV)/.base
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf .venv .venv-* .bench-venvs runs build dist .cache docs/notebooks .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp file marks one set of installed packages; it is updated when the package lists change.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "eventsnn needs python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

.venv-lowest/lowest.txt: pyproject.toml tests/lowest.py
	mkdir -p $(@D)
	$(PYTHON) tests/lowest.py >$@

$(VENV)/.base: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.base
	$(PIP) --editable '.[lint]'
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(PIP) --editable '.[docs]'
	@touch $@
