# Thin targets: logic lives in the `pipeline` command. Needs Python >= 3.11 with venv, make and curl.
PYTHON ?= python3
BIN := .venv/bin
# Only what it takes to run: tests and linters are installed for `make check` and `make test`.
RUNS := .venv/.runs

.DEFAULT_GOAL := help
.PHONY: help setup up down demo doctor test compose-test chaos trials check docs proofs format unit bench wheel lock lock-jars lock-platforms clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready .venv/.native ## build the whole environment, tests and linters too, from the hashed locks

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11 up"; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

$(RUNS): requirements-local.lock pyproject.toml | .venv/.made
	@$(BIN)/python -m deploy.local.fetch.install requirements-local.lock
	@touch $@

.venv/.ready: requirements-dev.lock $(RUNS)
	@$(BIN)/python -m deploy.local.fetch.install requirements-dev.lock
	@touch $@

.venv/.native: $(wildcard native/*.toml native/Cargo.lock native/src/*.rs) .venv/.ready
	@$(BIN)/python -m tools.native dist
	@touch $@

wheel: setup ## build the extension that reads orders as a wheel for this platform, into dist/
	@$(BIN)/python -m tools.native dist

up: $(RUNS) ## start the whole pipeline, stay in the foreground; Ctrl-C stops all of it
	@$(BIN)/pipeline up

down: $(RUNS) ## stop a pipeline that runs detached; its data stays
	@$(BIN)/pipeline down

demo: $(RUNS) ## start, post 20 orders, kill a worker in between, prove the books, stop
	@$(BIN)/pipeline demo

doctor: $(RUNS) ## look at the machine; every finding comes with its cure
	@$(BIN)/pipeline doctor

test: setup ## prove it: unit, integration and system tests on servers of their own
	@$(BIN)/pytest -n 3 --dist loadgroup

compose-test: setup ## the same in containers: build, up, demo, a kill in mid-work, the proof, down
	@tools/compose-test.sh

chaos: setup ## prove it under faults: 48 kills, 12 zombies, mixed faults, a model; about eight minutes
	@$(BIN)/pipeline chaos

trials: setup ## the same for a guest's handler: the ledger of onceloop, killed at every point; about two minutes
	@$(BIN)/pytest -q --onceloop examples/ledger

check: setup ## format, lint, types, import contracts, schemas, docs, unit tests: about a minute
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pipeline schemas check --offline
	@$(BIN)/python -m tools.site
	@! ls dist/order_scan-*.whl > /dev/null 2>&1 || $(BIN)/python -m tools.native lint
	@$(BIN)/pytest -q -n 2 --dist loadgroup tests/unit

docs: setup ## build the documentation site into .site/site, with its links checked
	@$(BIN)/python -m tools.site

proofs: setup ## write docs/proofs.md, the tests behind the guarantees, from docs/proofs.toml
	@$(BIN)/python -m tools.proofs

format: setup ## format and fix what can be fixed
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

unit: setup ## unit tests alone
	@$(BIN)/pytest -q -n 2 --dist loadgroup tests/unit

bench: setup ## measure: the whole way from POST to notified, then the worker against one order per transaction
	@$(BIN)/pipeline bench whole
	@$(BIN)/pipeline bench reserve

lock: setup ## resolve pyproject.toml again into the three hashed lock files
	@$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --quiet -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --extra local --group build --universal --generate-hashes \
		--no-header --quiet -c requirements.lock -o requirements-local.lock
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group build --group test --group lint --group docs --group native --universal --generate-hashes \
		--no-header --quiet -c requirements-local.lock -o requirements-dev.lock
	@$(MAKE) --no-print-directory lock-platforms

lock-jars: setup ## resolve deploy/local/fetch/pom.xml again into jars.lock (needs Maven)
	@$(BIN)/python -m tools.lock_jars
	@$(MAKE) --no-print-directory lock-platforms

lock-platforms: setup ## record which locked file each kind of machine gets; fail if one is missing
	@$(BIN)/python -m tools.lock_platforms

clean: ## remove the environment and caches; data of `make up` stays in .pipeline
	rm -rf .venv dist native/target .site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
