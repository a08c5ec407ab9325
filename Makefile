# Two commands do everything: `make demo` and `make test`. Both make their own virtual environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)

.PHONY: help demo test lint types floors unit unit-fast docs docs-serve format bench bench-peers constraints clean

help:
	@echo "make demo    watch an agent answer questions over a real database, offline"
	@echo "make test    format, lint, types, floors, docs and every test"
	@echo "make format  let ruff rewrite the sources"
	@echo "make bench   measure ours against the plain SDK (make bench-peers: against other libraries too)"
	@echo "make docs    build the documentation into site/ (make docs-serve shows it)"
	@echo "make clean   remove the virtual environment and everything that was built"

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(SOURCES)
	@test -e $(VENV)/.dev -a -z "$$(find $(SOURCES) -newer $(VENV)/.dev 2>/dev/null)" \
		|| $(BIN)/python scripts/install.py demo
	@touch $@

$(VENV)/.dev: $(BIN)/python $(SOURCES)
	@$(BIN)/python scripts/install.py dev
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

test: lint types floors docs unit

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy
	for plugin in plugins/*; do MYPYPATH=$$plugin $(BIN)/mypy $$plugin/tests || exit 1; done

floors: $(VENV)/.dev
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	LOOM_FAST=0 $(BIN)/pytest -n auto --dist loadgroup

unit-fast: $(VENV)/.dev
	LOOM_FAST=1 $(BIN)/pytest -n auto --dist loadgroup

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.dev
	$(BIN)/mkdocs serve

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

bench-peers: $(VENV)/.dev
	$(BIN)/python -m benchmarks --peers $(if $(CACHE),--cache $(CACHE))

constraints:
	$(PYTHON) scripts/pin_versions.py

clean:
	rm -rf $(VENV) .make site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
