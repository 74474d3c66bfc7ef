# The commands of this project. `make help` lists them; each makes its environment first if that is missing or out of date.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt lint-openapi sdk bench prove mutants browser
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MUTANTS := .venv-mutants
SDK := .venv-sdk
LINT := openapi/lint
BROWSER := .venv-browser
CHROMIUM ?= /usr/bin/chromium
CODE := $(wildcard service tests bench migrations)

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(STAMP) ## make .venv with the hash-pinned requirements (done once, and again when they change)

$(STAMP): requirements/all.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "python3 is not on PATH. Python 3.11 or newer is needed; name another with PYTHON=/path/to/python3.11."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, %s is %d.%d. Name another with PYTHON=/path/to/python3.11." % (sys.executable, *sys.version_info[:2]) or 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot make environments: its venv module is missing (Debian: apt install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP) ## play a month of orders and one payout run, then leave the service running (DEMO_EXIT=1 ends it)
	DEMO_EXIT=$(DEMO_EXIT) $(BIN)/python -m bench.demo

test: $(STAMP) ## run every test; ARGS= goes to pytest
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## lint, formatting, types, import contract
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

fmt: $(STAMP) ## format the code and mend what the linter can mend
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

lint-openapi: $(LINT)/node_modules/.installed ## lint openapi/openapi.json with Redocly and Spectral (needs Node.js)
	cd $(LINT) && npx redocly lint ../openapi.json
	cd $(LINT) && npx spectral lint --fail-severity=warn ../openapi.json

$(LINT)/node_modules/.installed: $(LINT)/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not on PATH. Node.js 20 or newer brings it (Debian: apt install nodejs npm)."; exit 1; }
	cd $(LINT) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

sdk: $(SDK)/.installed ## generate a Python client of the API: OUT= a new folder outside this one
	@test -n "$(OUT)" || { echo "Say where: make sdk OUT=../koc-client"; exit 1; }
	$(BIN)/koc sdk --out $(OUT) --generator $(SDK)/bin/openapi-python-client

# An environment of its own: the generator wants older versions of what the service uses.
$(SDK)/.installed: $(STAMP) requirements/sdk.txt
	$(PYTHON) -m venv $(SDK)
	$(SDK)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sdk.txt
	@touch $@

bench: $(STAMP) ## measure: WHAT=orders, redirect, postings, payouts, overload, simulate, reports or statements, N= how many
	$(BIN)/python -m bench $(WHAT) $(if $(N),--n $(N))

prove: $(STAMP) ## try to break a promise: WHAT=books, sdk, confluence, machine, chaos, faults, fuzz, simulate, payout-model, payout-races or crash-matrix, N= and SEED=
	$(BIN)/python -m bench.prove $(WHAT) $(if $(N),--n $(N)) $(if $(SEED),--seed $(SEED))

mutants: $(MUTANTS)/.installed ## change lines, see whether tests notice: WHAT=domain or ledger, N= and SEED= of a sample
	nice $(MUTANTS)/bin/python -m bench.mutants $(WHAT) $(if $(N),--n $(N)) $(if $(SEED),--seed $(SEED))

# An environment of its own, for what mutmut needs is of no use to anything else.
$(MUTANTS)/.installed: $(STAMP) requirements/mutants.txt
	$(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.txt -r requirements/mutants.txt
	@touch $@

browser: ## run the tests in a real Chromium; CHROMIUM= is its path
	@if [ -x "$(CHROMIUM)" ]; then $(MAKE) --no-print-directory $(BROWSER)/.installed && \
	KOC_TEST_CHROMIUM="$(CHROMIUM)" PYTHONPATH=$(BROWSER) $(BIN)/python -m pytest -n 0 tests/browser $(ARGS); else \
	echo "No Chromium at $(CHROMIUM). Install it (Debian: apt-get install chromium), or name it: make browser CHROMIUM=/path/to/it"; \
	[ "$(CI)" != true ]; fi

# Beside the environment, not in it: nothing else needs the driver.
$(BROWSER)/.installed: $(STAMP) requirements/browser.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $(BROWSER) -r requirements/browser.txt
	@touch $@
