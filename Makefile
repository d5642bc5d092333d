# make up | test | check | bench | docs: each fills the project's own virtual environment first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help up test check format bench docs constraints clean
.DEFAULT_GOAL := help

help: ## Say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.runtime: pyproject.toml constraints.txt
	@echo "filling $(VENV) (a few minutes the first time)" >&2
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[engine,dashboard]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(INSTALL) --editable '.[engine,dashboard,dev]'
	@touch $@

up: $(VENV)/.runtime ## Start engine, collector, alerts, dashboard and a sample trace; Ctrl-C stops them
	@exec $(BIN)/loadline up

test: $(VENV)/.dev ## Run the tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev ## Lint, format, types and the house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/house

format: $(VENV)/.dev ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure against the peers and print the table of BENCHMARKS.md
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev ## Write the generated pages anew (metrics, signals)
	$(BIN)/python tests/house/generated_docs.py

constraints: $(VENV)/.dev ## Pin what the environment holds now
	{ echo '# Every package of a fresh environment, pinned; `make constraints` writes it anew.'; \
	  $(BIN)/python -m pip list --format=freeze --exclude-editable | grep -v '^pip=' | sed 's/+cpu//'; } > constraints.txt

clean: ## Drop the environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
