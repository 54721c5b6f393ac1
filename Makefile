# Everything here needs only make and a python of at least 3.11.
#   make demo              train the spike-time regression; pictures and metrics in runs/
#   make test              run the tests          (more options: make test PYTEST="-k ties -n 0")
#   make test-newest PYTHON=python3.13            the same, with the newest versions that pip finds
#   make test-lowest       the same, with the lowest versions that pyproject.toml allows
#                          (numpy 2.0 and scikit-learn 1.5 are there for Python 3.11 and 3.12 only)
#   make smoke PYTHON=python3.13                  build the wheel, install and try it, as users do
#   make lint              style, format and type checks
#   make bench BENCH="ttfs-regression --peer eventax"
#   make clean             remove what these commands made
#
# All but the three in the middle install the versions of constraints.txt. Another environment:
#   make test PYTHON=python3.12 VENV=.venv-3.12 CONSTRAINTS=my-constraints.txt

PYTHON ?= python3
PYTEST ?=
BENCH ?= --help

VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
    $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: demo test test-newest test-lowest smoke lint bench clean

demo: $(VENV)/.base
	$(BIN)/eventsnn run ttfs-regression

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(PYTEST)

# A new environment each time, since the newest versions are those of today.
test-newest:
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

test-lowest: .venv-lowest/lowest.txt
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=.venv-lowest/lowest.txt

# The source archive, the wheel that is built from it, and what the wheel asks for.
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

bench: $(VENV)/.base
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf .venv .venv-* .bench-venvs runs build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp stands for one set of installed packages: it is renewed when the lists of packages change.
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
