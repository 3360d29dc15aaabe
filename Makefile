# Two commands do everything: `make run` and `make test`. Each sets up what it needs first, once.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: setup run test lint clean

PYTHON ?= python3
VENV := .venv
# The real data beside the checkout, where it exists; without it the tests that need it skip with a message.
export FETALFLEX_DATA ?= $(wildcard $(CURDIR)/../shared/data)

setup: $(VENV)/.ready

# uv installs in seconds what takes pip minutes. It takes the same wheel folders as pip (PIP_FIND_LINKS).
$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "== setting up $(VENV): exact versions from constraints.txt"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --compile-bytecode -c constraints.txt "torch==2.13.0" -e '.[dev]'
	@touch $@

run: setup
	$(VENV)/bin/fetalflex run

test: setup lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) .work .fetalflex data/frames data/masks data/synthetic data/test_only/*/ models reports incoming dvc.lock fingerprints.yaml
