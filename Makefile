# `make demo` and `make test` set everything up by themselves; see `make help`.
# A Python other than python3, for the first call: PYTHON=python3.12 make demo

# Each of the many processes of a test or a sandbox would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv litellm lock demo sandbox test test-long lint format types bench gameday screenshots crash faults clean

python := .venv/bin/python
uv := UV_CACHE_DIR=.venv/cache/uv .venv/bin/uv
compile := $(uv) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header
two_at_a_time := -n 2 --dist loadgroup --no-loadscope-reorder
sources := blocks flows railway shared

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

venv: ## Create or update .venv from requirements.lock
	@shared/scripts/venv.sh

litellm: venv ## Install the LiteLLM gateway of the sandbox into .venv/litellm
	@shared/scripts/litellm.sh

demo: venv litellm ## Run a night on a stack of real engines: backup, drill, disaster, restore; writes demo-report.json
	@$(python) -m shared.sandbox.demo

sandbox: venv litellm ## Start that stack with its Prefect UI and keep it up until Ctrl-C
	@$(python) -m shared.sandbox

test: venv litellm ## Run the tests, two at a time; ARGS= goes to pytest instead: make test ARGS="tests/backup -x"
	@$(python) -m pytest $(or $(ARGS),-m "not long" $(two_at_a_time))

test-long: venv litellm ## Run the tests that take long by themselves: whole flows, killed containers, a dozen cases of the crash campaign
	@$(python) -m pytest -m long $(two_at_a_time)

lint: venv ## Check style
	@$(python) -m ruff check --no-cache .
	@$(python) -m ruff format --no-cache --check .

format: venv ## Correct style
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

types: venv ## Check types
	@$(python) -m mypy --strict $(sources)

bench: venv ## Measure speed and memory against plain tools; ARGS="--only buckets"; writes bench-report.json
	@$(python) -m shared.sandbox.bench $(ARGS)

gameday: venv litellm ## Break the stack in every way there is, watch it mend itself (long); ARGS="--only redis-policy"; writes gameday-report.json
	@$(python) -m shared.gameday $(ARGS)

screenshots: venv ## Take the README's pictures anew, in Debian's Chromium, on a stack that runs a few flows
	@$(python) -m shared.sandbox.screenshots

crash: venv ## Kill flows at every point, break the store, restart engines, damage objects (long); ARGS="--quick"; writes faults-report.json
	@$(python) -m shared.faults $(ARGS)

faults: crash ## The same as crash

lock: venv ## Resolve pyproject.toml anew into requirements.lock; what is locked stays unless it no longer fits
	@$(compile) --group sandbox --group dev pyproject.toml -o requirements.lock $(ARGS)
	@$(compile) --group drill --constraint requirements.lock pyproject.toml -o railway/worker/requirements.lock $(ARGS)
	@$(compile) shared/sandbox/litellm.in -o shared/sandbox/litellm.lock $(ARGS)
	@shared/scripts/venv.sh

clean: ## Delete what was made here: environment, caches, sandbox, reports
	rm -rf .venv .sandbox .mypy_cache .ruff_cache .pytest_cache .hypothesis *-report.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
