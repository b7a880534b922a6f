# Everything a contributor runs; CI runs `make check` and nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Modules are compiled when one is first imported, and kept, whatever the caller's environment says: the tests start
# hundreds of programs, and few of the files that are installed are ever imported.
export PYTHONDONTWRITEBYTECODE :=
PIP := -m pip install --quiet --no-compile -c constraints.txt

VENV := .venv
PEER := .venv-peer
BIN := $(VENV)/bin
RUNS := $(or $(KGE_STUDY_HOME),runs)

# The first of these that is new enough becomes the virtual environment; name one to choose.
PYTHON ?= $(BIN)/python python3.11 python3.12 python3.13 python3
# Extra pip arguments for the torch step, such as an index that holds builds for your device.
TORCH_ARGS ?=
# Processes that share the tests of make check, each file to one of them.
JOBS ?= 2
# Options of make bench, such as --libkge PATH.
BENCH_ARGS ?=

.PHONY: help setup demo check test-slow test-crash test-cluster test-docker test-browser test-peer bench format clean

help:
	@echo "make setup        virtual environment .venv with the tested versions"
	@echo "make demo         set-up, a small study on the built-in graph and its report"
	@echo "make check        set-up and everything CI runs"
	@echo "make test-slow    set-up and the tests that take minutes"
	@echo "make test-crash   set-up, then kills studies and their servers at dozens of moments"
	@echo "make test-cluster set-up, then studies on several Ray nodes: one joins, one is lost, a token is asked for"
	@echo "make test-docker  set-up, then the service of docker/ under Compose: built, run, broken, repaired"
	@echo "make test-browser set-up, then MLflow's pages of a study in a real Chromium (packages chromium, chromium-driver)"
	@echo "make test-peer    PyKEEN in an environment of its own, then our models, losses and ranks against its"
	@echo "make bench        both environments, then training, ranking and starts beside PyKEEN and the machine's limits"
	@echo "make format       set-up, then ruff's fixes and formatting, in place"
	@echo "make clean        remove .venv and caches; runs/ stays"

setup: $(VENV)/.stamp

# torch first: what is installed satisfies the packages that want it, so none of them chooses another build.
$(VENV)/.stamp: pyproject.toml constraints.txt
	python=$$(bash .ci/find-python $(PYTHON)); [ "$$python" = $(BIN)/python ] || "$$python" -m venv --clear $(VENV)
	$(BIN)/python $(PIP) pip
	$(BIN)/python $(PIP) $(TORCH_ARGS) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python $(PIP) -e '.[dev]'
	$(BIN)/python -m pip check
	touch $@

demo: setup
	@if $(BIN)/study status demo >/dev/null 2>&1; then $(BIN)/study resume demo; else $(BIN)/study run demo; fi
	@$(BIN)/study report demo
	@echo
	@echo "Report   open $(RUNS)/demo/report/index.html in a browser"
	@echo "MLflow   $(BIN)/study ui demo, then http://127.0.0.1:5000"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict kge study
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile

test-slow: setup
	$(BIN)/pytest -m slow --timeout 3600

test-crash: setup
	$(BIN)/python -m tests.crash

test-cluster: setup
	$(BIN)/pytest -m cluster --timeout 3600

test-docker: setup
	$(BIN)/pytest -m docker --timeout 3600

test-browser: setup
	$(BIN)/pytest -m browser --timeout 1800

test-peer: $(PEER)/.stamp
	$(PEER)/bin/python -m pytest -m peer tests/peer

bench: setup $(PEER)/.stamp
	$(BIN)/python -m benchmarks.peers --pykeen $(PEER)/bin/python $(BENCH_ARGS)

$(PEER)/.stamp: tests/peer/requirements.txt constraints.txt
	python=$$(bash .ci/find-python python3.11 python3.12 python3.13 python3); "$$python" -m venv --clear $(PEER)
	$(PEER)/bin/python $(PIP) pip
	$(PEER)/bin/python $(PIP) $(TORCH_ARGS) "$$(grep '^torch==' constraints.txt)"
	$(PEER)/bin/python $(PIP) -r tests/peer/requirements.txt
	touch $@

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEER) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
