PYTHON ?= python3
TORCH ?= 2.13.0
OLDEST_TORCH := $(shell sed -n 's/.*"torch>=\([0-9.]*\)".*/\1/p' pyproject.toml).0
OLD := pandas==1.5.3 pyarrow==21.0.0 scipy==1.10.1
PYTHONS := 3.10 3.12 3.13
BIN := .venv/bin

# On Linux without a GPU, use the CPU build of torch if it is available: the default one needs gigabytes for CUDA.
ifeq ($(shell uname -s),Linux)
ifeq ($(shell command -v nvidia-smi),)
CPU_BUILD := --extra-index-url https://download.pytorch.org/whl/cpu --retries 1
NEWEST_BUILD := --torch-backend cpu
endif
endif

# The Python of `make gpu`, which installs nothing because the machine may have no network.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: help install demo test lint docs benchmark gpu quality build test-oldest test-matrix licences clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

install: .venv/installed ## set up .venv with everything that the other targets need (1.8 GB)

.venv/installed: pyproject.toml
	@echo "Installing into .venv: about two minutes, 1.8 GB"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==$(TORCH) $(CPU_BUILD)
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

demo: install ## train three text models, compare them, draw two pictures (4 minutes on two cores)
	$(BIN)/python examples/demo.py

test: install lint ## lint, check types and run all tests (5 minutes; only the fast tests: pytest -n 2 --dist loadfile -m "not slow")
	$(BIN)/pytest --quiet --numprocesses 2 --dist loadfile

lint: install ## check style and types (to correct the style: .venv/bin/ruff format .)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install ## build a site from README.md, docs/ and the docstrings: outputs/site/index.html (half a minute)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: install ## measure the speed of counting, scoring, the loss (up to a million labels) and training (7 minutes)
	$(BIN)/python benchmarks/data_speed.py
	$(BIN)/python benchmarks/loss_speed.py
	$(BIN)/python benchmarks/overhead.py

gpu: ## run the tests and measurements that need a CUDA device: outputs/gpu (10 minutes, no network; make install first)
	$(GPU_PYTHON) benchmarks/gpu.py

quality: install ## compare methods on a third of the data: text, images, digits (10 minutes; MNIST from the Hub)
	$(BIN)/python benchmarks/quality.py methods --quick

build: install ## make the wheel and the sdist in dist/, and test both in a new environment (3 minutes)
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/check-wheel-contents --toplevel hf_plm --package hf_plm dist/*.whl
	$(PYTHON) -m venv --clear .venv-build
	.venv-build/bin/pip install --quiet torch==$(TORCH) $(CPU_BUILD)
	.venv-build/bin/pip install --quiet dist/*.whl
	.venv-build/bin/python tests/smoke.py
	.venv-build/bin/pip install --quiet --force-reinstall --no-deps dist/*.tar.gz
	.venv-build/bin/pip check
	.venv-build/bin/python tests/smoke.py

test-oldest: .venv-oldest/installed ## run the fast tests with the oldest versions that pyproject.toml allows (5 minutes)
	.venv-oldest/bin/pytest --quiet --numprocesses 2 --dist loadfile -m "not slow"

# OLD: indirect dependencies; newer versions need a newer NumPy.
.venv-oldest/installed: .venv/installed
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/pip install --quiet torch==$(OLDEST_TORCH) $(CPU_BUILD)
	$(BIN)/uv pip install --quiet --python .venv-oldest --resolution lowest-direct --editable '.[test]' $(OLD)
	@touch $@

test-matrix: $(PYTHONS:%=.venv-%/installed) .venv-newest/installed ## run the fast tests on Python 3.10, 3.12 and 3.13, and with the newest versions (20 minutes)
	for version in $(PYTHONS) newest; do \
	  .venv-$$version/bin/pytest --quiet --numprocesses 2 --dist loadfile -m "not slow" || exit 1; \
	done

# uv downloads a missing interpreter.
.venv-3.%/installed: .venv/installed
	$(BIN)/uv venv --quiet --clear --seed --python 3.$* .venv-3.$*
	.venv-3.$*/bin/pip install --quiet torch==$(TORCH) $(CPU_BUILD)
	.venv-3.$*/bin/pip install --quiet --editable '.[test]'
	@touch $@

.venv-newest/installed: .venv/installed
	$(PYTHON) -m venv --clear .venv-newest
	$(BIN)/uv pip install --quiet --python .venv-newest --upgrade --resolution highest $(NEWEST_BUILD) --editable '.[test]'
	@touch $@

licences: install ## make the tables of docs/licences.md again
	$(BIN)/python docs/licences.py

clean: ## remove every .venv, dist and outputs
	rm -rf .venv .venv-build .venv-oldest .venv-newest $(PYTHONS:%=.venv-%) dist outputs
