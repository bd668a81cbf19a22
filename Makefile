# Two commands do everything on a machine with Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
ENV := OMP_NUM_THREADS=1
WORKERS ?= 2

.PHONY: help demo test test-slow lint clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: $(BIN)/.installed  ## train the default run (about a minute) and say where its pictures are
	$(BIN)/python train.py

test: $(BIN)/.installed  ## the fast suite
	$(ENV) $(BIN)/python -m pytest -n $(WORKERS)

test-slow: $(BIN)/.installed  ## what takes minutes: kills and resumes, sweeps, several processes
	$(ENV) $(BIN)/python -m pytest -n $(WORKERS) -m slow

lint: $(BIN)/.installed  ## the checks that CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove the environment and caches; outputs/ and data/ stay
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
