PYTHON ?= python3
TORCH ?= 2.13.0
BIN := .venv/bin

# Without a GPU, Linux gets the CPU build of torch: the default one brings gigabytes of CUDA libraries.
ifeq ($(shell uname -s),Linux)
ifeq ($(shell command -v nvidia-smi),)
CPU_BUILD := +cpu --extra-index-url https://download.pytorch.org/whl/cpu --retries 1
endif
endif

.PHONY: help install demo test lint format benchmark overhead quality clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

install: .venv/installed ## set up .venv with everything below (1.8 GB)

.venv/installed: pyproject.toml
	@echo "Installing into .venv: about two minutes, 1.8 GB"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==$(TORCH)$(CPU_BUILD)
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

demo: install ## train three text models, compare them, draw two pictures (4 minutes on 2 cores)
	$(BIN)/python examples/demo.py

test: install lint ## lint, check types and run all tests (5 minutes; the fast ones alone: pytest -m "not slow")
	$(BIN)/pytest --quiet

lint: install ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## correct the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: install ## time counting and scoring on large data
	$(BIN)/python benchmarks/data_speed.py

overhead: install ## time a step of training beside the stock Trainer (3 minutes)
	$(BIN)/python benchmarks/overhead.py

quality: install ## compare methods on a third of the data: text, images, digits (10 minutes; MNIST from the Hub)
	$(BIN)/python benchmarks/quality.py methods --quick

clean: ## remove .venv and outputs
	rm -rf .venv outputs
