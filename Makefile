# Everything here needs only make and a python of at least 3.11.
#   make demo              train the spike-time regression; pictures and metrics in runs/
#   make test              run the tests          (more options: make test PYTEST="-k ties -n 0")
#   make lint              style, format and type checks
#   make bench BENCH="ttfs-regression --peer eventax"
#   make clean             remove what these commands made

PYTHON ?= python3
PYTEST ?=
BENCH ?= --help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint bench clean

demo: $(VENV)/.base
	$(BIN)/eventsnn run ttfs-regression

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto $(PYTEST)

lint: $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/.base
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) .bench-venvs runs build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp stands for one set of installed packages: it is renewed when the lists of packages change.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "eventsnn needs python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.base
	$(PIP) --editable '.[lint]'
	@touch $@
