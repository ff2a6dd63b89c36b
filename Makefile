# make demo   set up, analyse a real clip, show the labels, write the files to demo/
# make test   set up, check style and types, run every test
# make bench  set up, run the benchmarks into benchmarks/results/

SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

FORKS := tests/faults/test_f36_hostile_media.py

.PHONY: demo test lint bench clean

demo: .venv/runtime.stamp
	$(BIN)/streamfuse demo -o demo

test: lint .venv/system.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/integration --ignore=tests/nemesis --ignore=$(FORKS)
	$(BIN)/python -m pytest $(FORKS)  # forks its confined readers: from a process that nothing else has grown
	$(BIN)/python -m pytest tests/integration tests/nemesis  # real cameras and processes want the machine to themselves

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/bench.stamp
	for b in benchmarks/bench_*.py; do $(BIN)/python $$b || exit 1; done

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "streamfuse needs Python 3.11, 3.12 or 3.13 with venv; none was found (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# A stamp is newer than the files that decide what is installed: a second run installs nothing.
.venv/runtime.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

.venv/dev.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	$(BIN)/python -m streamfuse.training.torchaudio_cpu
	@touch $@ .venv/runtime.stamp

.venv/bench.stamp: .venv/dev.stamp
	$(PIP) -e '.[bench]'
	@touch $@

# Packages of the operating system that some integration tests use; those tests name what is missing.
.venv/system.stamp: tests/system-packages.sh | $(BIN)/python
	bash tests/system-packages.sh
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info demo
