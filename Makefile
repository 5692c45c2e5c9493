# `make train` and `make test` start from a fresh clone: they create .venv, install and run.
# PYTHON chooses the interpreter, ARGS adds flags: make train ARGS=--config.fusion=iaff

PYTHON ?= python3
WORKDIR ?= runs/digits
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: train test test-all test-weekly test-optimized test-minimum test-newest test-plan docs lint format clean

train: .venv/train.stamp
	$(BIN)/python -m train --config=configs/digits.py --workdir=$(WORKDIR) $(ARGS)

test: lint
	$(BIN)/python -m pytest --numprocesses=2 -m 'not slow' $(ARGS)

# With the slow tests, and once more with the programs that users run. CI, .ci/run, adds
# test-minimum.
test-all: lint
	$(BIN)/python -m pytest --numprocesses=2 -m 'not weekly' $(ARGS)
	$(MAKE) test-optimized

# The largest networks, whose classes `make test-all` covers with small ones.
test-weekly: .venv/dev.stamp
	$(BIN)/python -m pytest --numprocesses=2 -m weekly $(ARGS)

# The tests of what networks and steps compute, compiled with all optimizations, and with run-time
# checks of the annotated types and shapes.
test-optimized: .venv/dev.stamp
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 CHECK_SHAPES=1 $(BIN)/python -m pytest --numprocesses=2 -m 'not slow' \
	    $(addprefix tests/aff_jax/, attention fast fusion nn) tests/train/steps $(ARGS)

docs: .venv/dev.stamp
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env docs build/docs

# The library with the oldest supported versions and with the newest ones: the tests that need
# neither PyTorch nor the packages of the training application.
LIBRARY_TESTS := $(addprefix tests/aff_jax/, attention fast fusion hosts/test_resnet.py inference nn \
	test_hub.py test_lookup.py test_nnx.py test_serialization.py)
TEST_TOOLS := chex hypothesis pytest pytest-xdist

# The oldest Flax uses names that JAX has deprecated, so deprecation warnings are not errors here.
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

# Programs compiled for TPU and GPU, in an environment with both compilers: 420 MiB to download, and
# JAX reports there at every start that it found no GPU.
test-plan:
	$(PYTHON) -m venv .venv-plan
	.venv-plan/bin/python -m pip install --quiet --constraint tests/constraints.txt \
	    --editable '.[train,export,plan]' $(TEST_TOOLS)
	REQUIRE_COMPILERS=1 .venv-plan/bin/python -m pytest --numprocesses=2 \
	    tests/train/plan/test_compilers.py tests/benchmarks/test_compiled.py $(ARGS)

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
	$(PIP) install --constraint tests/constraints.txt --editable '.[train,torch,export,hub,docs,dev]'
	touch $@

clean:
	rm -rf .venv .venv-minimum .venv-newest .venv-plan .pytest_cache build dist
