# Every target makes .venv itself when it is missing. Needs Python 3.11+ and a package index; uv is used when present.
PYTHON ?= python3
UV ?= $(shell command -v uv 2>/dev/null)
VENV := .venv
BIN := $(VENV)/bin
TAG := $(shell $(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])' 2>/dev/null)
PINS := constraints/$(TAG).txt
STAMP := $(VENV)/.installed-$(TAG)

export UV_PYTHON_DOWNLOADS = never
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help venv quickstart test test-fast chaos lint format bench constraints clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "make %-12s %s\n", $$1, $$2}'

venv: $(STAMP) ## Make .venv and install the pinned packages

quickstart: $(STAMP) ## Grow a model over four real tasks (about three minutes)
	$(BIN)/python -m mutant.cli.main quickstart --dir quickstart

test: $(STAMP) ## Run all tests, the chaos tests with one strike of each kind
	$(BIN)/python -m pytest --chaos-points 1

test-fast: $(STAMP) ## Run the tests that are not slow
	$(BIN)/python -m pytest -m "not slow"

chaos: $(STAMP) ## Kill what a run consists of 20 times each, read 2,200 damaged databases (40 minutes)
	$(BIN)/python -m pytest -m chaos --numprocesses 2

lint: $(STAMP) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP) ## Apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Run every benchmark
	@set -e; for script in benchmarks/*.py; do \
		[ -e "$$script" ] || { echo "No benchmarks yet."; break; }; \
		echo "== $$script"; $(BIN)/python "$$script"; \
	done

constraints: ## Pin the newest packages for every Python (needs uv)
	@[ -n "$(UV)" ] || { echo "make constraints needs uv: $(PYTHON) -m pip install uv" >&2; exit 1; }
	constraints/update

clean: ## Remove .venv, the quick start's system and all caches
	rm -rf $(VENV) quickstart build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp names the Python, so another interpreter makes .venv anew; new pins only bring it up to date.
$(STAMP): pyproject.toml $(wildcard $(PINS))
	@[ -n "$(TAG)" ] || { echo "No Python at '$(PYTHON)'. Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@[ -e "$(PINS)" ] || { \
		echo "mutant runs on Python $$(ls constraints/py3*.txt | sed -E 's/.*py3([0-9]+).*/3.\1/' | paste -s -d ' ' -);" \
		     "'$(PYTHON)' is $$($(PYTHON) --version). Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
ifneq ($(UV),)
	[ -e $@ ] || "$(UV)" venv --quiet --clear --python "$$(command -v $(PYTHON))" $(VENV)
	"$(UV)" pip install --quiet --python $(BIN)/python --require-hashes -r $(PINS)
	"$(UV)" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	[ -e $@ ] || $(PYTHON) -m venv --clear $(VENV) || { echo "No venv module: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes -r $(PINS)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endif
	@touch $@
