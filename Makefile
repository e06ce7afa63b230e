# `make run` and `make test` need nothing but Python 3.11 or newer, and ask nothing.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -q
# Many tests wait for processes of their own, so there may be half as many more of them as there are cores.
WORKERS = $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2)))
COMPILED := $(wildcard src/landed/*/*.pyx src/landed/*/*.pxi)
# pytest's exit code where ARGS leave no test to one of the two.
NONE := 5

.DEFAULT_GOAL := help
.PHONY: help run test check bench networks tables clean

help: ## Say what there is to make
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

run: $(VENV)/installed ## Install what is needed and start the demo
	@$(BIN)/landed demo $(ARGS)

test: $(VENV)/installed-dev ## Install what is needed and run all tests, those that load the machine by themselves
	@$(PYTEST) -n $(WORKERS) --dist loadfile -m "not alone" $(ARGS) || [ $$? -eq $(NONE) ]
	@$(PYTEST) -m alone $(ARGS) || [ $$? -eq $(NONE) ]

check: $(VENV)/installed-dev ## Lint, formatting and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(VENV)/installed-bench ## Measure (wrk and nginx, where they are, are what to compare with)
	@for bench in bench/*.py; do $(BIN)/python $$bench || exit 1; done

networks: $(VENV)/bin/python ## Make the table of mobile networks again, from its source on the web
	@$(BIN)/python tools/networks.py $(ARGS) > $(VENV)/networks.tsv && mv $(VENV)/networks.tsv src/landed/domain/networks.tsv

tables: $(VENV)/installed ## Write the documents that are made from the program's tables
	@$(BIN)/python tools/tables.py

clean: ## Remove what was installed and cached
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "landed needs Python 3.11 or newer: install one, or name it with make PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: pyproject.toml $(COMPILED) | $(VENV)/bin/python
	@echo "Installing landed into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml $(COMPILED) | $(VENV)/bin/python
	@echo "Installing landed and its tests' tools into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/installed $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	@echo "Installing what the benchmarks compare with into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@
