# Two commands that set up everything: make demo, make test.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || echo python3)
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help setup demo test test-reliability lint bench clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'

setup:  ## make .venv; compiles mmcv once per machine
	@$(PYTHON) tools/setup_env.py --venv $(VENV)

demo: setup  ## train, evaluate and submit on synthetic data, minutes on a CPU
	@$(RUN) tools/demo.py

# Two workers of one thread each: OpenMP's waiting threads would fight for the cores.
# The same examples every time: a rare one must not fail another change by chance.
test: setup lint  ## all tests
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal --hypothesis-profile=ci \
		-m "not reliability"

test-reliability: setup  ## kills, faults, two processes, soak: tens of minutes
	@OMP_NUM_THREADS=1 $(RUN) -m pytest tests/reliability -m reliability

lint: setup  ## style
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

bench: setup  ## the figures of docs/performance.md
	@$(RUN) benchmarks/run_all.py

clean:  ## remove the environment and caches, keep data and runs
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
