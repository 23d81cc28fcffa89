# Weir's habits, one word each. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help demo test check bench differential up down clean lock install format docs

help: ## list what can be asked for
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST) | \
		{ if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }

# The virtual environment is made once and remade when the lock file or the project's metadata change.
$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) scripts/setup.py --venv $(VENV) --requirements requirements/dev.txt

install: $(VENV)/.installed ## make the virtual environment from the lock file

demo: $(VENV)/.installed ## run the whole pipeline on real input and print what came of it
	@$(BIN)/weir demo

test: $(VENV)/.installed ## run every check and every test, against a real Kafka
	@$(BIN)/weir dev fetch
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest

check: $(VENV)/.installed ## lint, types, import contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-timing 2>/dev/null || $(BIN)/lint-imports

format: $(VENV)/.installed ## put the code in its one format
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format .

docs: $(VENV)/.installed ## write the pages that are made from code: settings.md, events.md, log-sources.md
	@$(BIN)/weir settings > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	@$(BIN)/weir schemas docs > docs/events.md.new && mv docs/events.md.new docs/events.md
	@$(BIN)/python -m weir.tools.logsources_doc > docs/log-sources.md.new && mv docs/log-sources.md.new docs/log-sources.md

bench: $(VENV)/.installed ## measure events per CPU-second of each path
	@$(BIN)/python -m bench

differential: $(VENV)/.installed ## compare how other programs read flows (fetches three packages, for this run only)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		$(BIN)/python -m pip install -q --no-deps --require-hashes --target "$$folder" -r requirements/differential.txt && \
		WEIR_DIFFERENTIAL=1 PYTHONPATH="$$folder$${PYTHONPATH:+:$$PYTHONPATH}" $(BIN)/python -m pytest tests/differential

up: $(VENV)/.installed ## start a Kafka for development (or use KAFKA_BOOTSTRAP_SERVERS) and create the topics
	@$(BIN)/weir dev up

down: ## stop what `make up` started, and nothing else
	@if [ -x $(BIN)/weir ]; then $(BIN)/weir dev down; else echo "nothing to stop: $(VENV) does not exist"; fi

clean: ## stop what runs, remove data, caches and the virtual environment
	@if [ -x $(BIN)/weir ]; then $(BIN)/weir dev down || true; fi
	rm -rf .weir $(VENV) .mypy_cache .ruff_cache .import_linter_cache build services/*.egg-info

lock: ## write the lock files anew from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --extra dev pyproject.toml -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/differential.in -o requirements/differential.txt
