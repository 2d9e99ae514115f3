# Each target is one sentence; `make help` prints them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each process of the tests starts a PostgreSQL of its own.
TEST_PROCESSES ?= 2

# Compiling our modules anew takes seconds of each start, also where the environment forbids Python
# to keep them beside the sources: they are kept in the virtual environment.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.DEFAULT_GOAL := help
.PHONY: help run test test-slow check bench lock clean

help: ## Print what each target does.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

run: $(VENV)/.runtime ## Start the hub with an embedded PostgreSQL, send one real HL7 message and show where it arrived.
	@exec $(BIN)/qiao up --demo

test: $(VENV)/.developer ## Run the tests (a real PostgreSQL is started for them).
	@$(BIN)/python -m pytest -m "not slow" --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(VENV)/.developer ## Run the long tests: fuzzing, search oracle, crash tests at full size.
	@$(BIN)/python -m pytest -m slow --timeout 3600 $(ARGS)

check: $(VENV)/.developer ## Check style, types and the direction of imports.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo 2>&1 | tail -20; exit $${PIPESTATUS[0]}
	@$(BIN)/mypy

bench: $(VENV)/.developer ## Measure speed as ratios against the raw limit of the same run; prints JSON.
	@$(BIN)/qiao bench $(ARGS)

lock: $(VENV)/.developer ## Write the lock files anew from requirements*.in.
	@$(BIN)/python -m tools.lock

clean: ## Remove the virtual environment and caches; the data folder .qiao stays.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info

# uv installs in seconds what pip installs in a minute; where it cannot be had, pip does the same work.
$(VENV)/.runtime: requirements.lock requirements-uv.lock pyproject.toml
	@tools/install.sh $(PYTHON) $(VENV) requirements.lock
	@touch $@

$(VENV)/.developer: requirements-dev.lock requirements-uv.lock pyproject.toml
	@tools/install.sh $(PYTHON) $(VENV) requirements-dev.lock
	@touch $@ $(VENV)/.runtime
