# `make train` and `make test` go from a fresh clone to done: each makes .venv, installs, runs.
# PYTHON chooses the interpreter, ARGS adds flags: make train ARGS=--config.fusion=iaff

PYTHON ?= python3
WORKDIR ?= runs/digits
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: train test lint format clean

train: .venv/train.stamp
	$(BIN)/python -m train --config=configs/digits.py --workdir=$(WORKDIR) $(ARGS)

test: lint
	$(BIN)/python -m pytest --numprocesses=2 $(ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/train.stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) install --editable '.[train]'
	touch $@

.venv/dev.stamp: pyproject.toml tests/constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --constraint tests/constraints.txt --editable '.[train,torch,export,hub,dev]'
	touch $@

clean:
	rm -rf .venv build dist
