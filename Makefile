# What can be done with a checkout. Needs Python 3.11 to 3.13 and make; everything else is installed into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check fmt test test-all bench demo lock clean

BIN := .venv/bin
READY := .venv/.ready
ARGS ?=
NIGHTS ?= 1
# Test processes: many tests wait for servers and child processes, and each process wants about 1.5 GB.
JOBS ?= 2
export PYTHON TORCH_INDEX

# Tests of small models on shared cores lose more to spinning threads than they win.
test test-all: export OMP_NUM_THREADS ?= 1
# What one process has compiled, the children that tests start and the next run need not compile again.
test test-all: export PYTHONDONTWRITEBYTECODE :=
# Of the dearest properties the fast tests look at a fourth of the examples (tests/few_examples.py).
test-all: export TRACEMILL_EXAMPLES ?= all

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## .venv with the pinned set (PYTHON=…, TORCH_INDEX=… to choose)
	@:

$(READY): pyproject.toml $(wildcard requirements/*)
	@requirements/setup.sh
	@touch $@

check: setup ## format, lint, types, layers
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; echo "run: make fmt"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@out=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$out"; exit 1; }
	@echo "check: format, lint, types and layers hold"

fmt: setup ## format and fix what can be fixed
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet .

test: setup ## the fast tests (ARGS="-k gate -x" to choose; TRACEMILL_DATA=… for those on real logs)
	@[ -n "$$TRACEMILL_DATA" ] || echo "TRACEMILL_DATA is unset: tests that want real agent logs are skipped"
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

test-all: setup ## every test: also the slow ones and those with the embedded model
	@[ -n "$$TRACEMILL_DATA" ] || echo "TRACEMILL_DATA is unset: tests that want real agent logs are skipped"
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "slow or not slow" $(ARGS)

bench: setup ## every benchmark, quick (ARGS=--full for the runs of bench/RESULTS.md)
	@set -e; for file in bench/*.py; do \
	  [ -e "$$file" ] || { echo "no benchmark here yet"; break; }; \
	  echo "== $$file"; $(BIN)/python "$$file" $(or $(ARGS),--quick); done

demo: setup ## an agent that learns from its own night (NIGHTS=2 adds a night of offline RL)
	@$(BIN)/tracemill demo --nights $(NIGHTS)

lock: setup ## resolve the newest versions again into requirements/lock.txt
	@$(BIN)/python requirements/lock.py

clean: ## .venv, caches and build leftovers away; data stays
	@rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
