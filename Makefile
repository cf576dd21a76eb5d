# make demo    the whole walk on synthetic EM, from a bare clone
# make test    the tests
# make check   style, types and the import contract
# make env     only the environment, in .venv
# make clean   removes environments and caches; run folders stay
#
# Needs Python 3.11 or newer, no compiler. Another interpreter: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

BIN := $(VENV)/bin
# The constraints go to every call that can see torch: a looser pin may bring gigabytes of GPU libraries.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --constraint constraints.txt

.PHONY: env demo test check clean
.DELETE_ON_ERROR:

env: $(VENV)/.dev

# what the demo needs
$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: ssns needs Python 3.11 or newer, and '$(PYTHON)' is none: name one, as in make PYTHON=python3.12" >&2; \
	    exit 1; }
	@echo "make: installing into $(VENV), once; this takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade 'pip>=25.1'
	$(INSTALL) --editable '.[train]'
	@touch $@

# and what the tests and checks need; --group is why pip is brought up to date above
$(VENV)/.dev: $(VENV)/.run
	$(INSTALL) --group dev
	@touch $@

demo: $(VENV)/.run
	$(BIN)/ssns demo

# one thread in each worker: more would fight over the cores
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .venv-notorch .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -path ./.git -prune -o -name __pycache__ -type d -exec rm -rf {} +
