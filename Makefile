# `make train` and `make test` go from a fresh clone to done: each makes .venv, installs, runs.
# PYTHON chooses the interpreter, ARGS adds flags: make train ARGS=--config.fusion=iaff

PYTHON ?= python3
WORKDIR ?= runs/digits
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: train test test-all test-minimum test-newest docs lint format clean

train: .venv/train.stamp
	$(BIN)/python -m train --config=configs/digits.py --workdir=$(WORKDIR) $(ARGS)

test: lint
	$(BIN)/python -m pytest --numprocesses=2 -m 'not slow' $(ARGS)

# As CI: the slow ones too, and programs optimised as those of users are.
test-all: lint
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest --numprocesses=2 $(ARGS)

docs: .venv/dev.stamp
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env docs build/docs

# The library alone, with the oldest versions allowed and with the newest there are: tests that
# need neither PyTorch nor what trains.
LIBRARY_TESTS := $(addprefix tests/aff_jax/, attention fusion hosts/test_resnet.py \
	test_batch_norm.py test_checks.py test_export.py test_folding.py test_frozen.py test_hub.py \
	test_inference.py test_layers.py test_moments.py test_nnx.py test_serialization.py test_tables.py)
TEST_TOOLS := chex hypothesis pytest pytest-xdist

# The oldest Flax itself uses what JAX deprecates, so deprecations are no errors with it.
test-minimum:
	$(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet --constraint tests/minimum.txt \
	    --editable '.[export,hub]' $(TEST_TOOLS)
	.venv-minimum/bin/python -m pytest --numprocesses=2 -m 'not slow' \
	    -W ignore::DeprecationWarning $(LIBRARY_TESTS) $(ARGS)

test-newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable '.[export,hub]' $(TEST_TOOLS)
	.venv-newest/bin/python -m pytest --numprocesses=2 -m 'not slow' $(LIBRARY_TESTS) $(ARGS)

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
	rm -rf .venv .venv-minimum .venv-newest build dist
