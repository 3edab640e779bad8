# The commands a developer needs. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml deploy/*/pyproject.toml))
IMAGE := libs/adapters libs/client libs/contracts libs/kafka libs/runtime $(patsubst %/pyproject.toml,%,$(wildcard services/*/pyproject.toml)) deploy/provision
EXPORT := --quiet --no-emit-workspace --no-header --no-annotate

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready ## everything the project needs, into .venv

.venv/ready: deploy/requirements.txt $(addsuffix /pyproject.toml,$(PACKAGES))
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --require-hashes -r deploy/requirements.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	touch $@

lock: ## choose dependencies anew and write the requirements files in deploy and tests/load
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export $(EXPORT) --all-packages --all-groups --no-group bench -o deploy/requirements.txt
	$(BIN)/uv export $(EXPORT) --no-dev --extra traces $(foreach package,$(notdir $(IMAGE)),--package orderstream-$(package)) -o deploy/requirements-image.txt
	$(BIN)/uv export $(EXPORT) --only-group bench -o tests/load/requirements.txt

TOOLS := $(or $(OMS_STACK_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/orderstream)/tools
PROMETHEUS := v0.316.0
PROMTOOL := $(TOOLS)/$(PROMETHEUS)/promtool

promtool: $(PROMTOOL) ## Prometheus' tool, for the tests of the alarms: built once, with Go

$(PROMTOOL):
	GOBIN=$(@D) go install -tags remove_all_sd -ldflags=-s github.com/prometheus/prometheus/cmd/promtool@$(PROMETHEUS)

demo: setup ## a week of baskets from order to delivery; leaves the stack up
	$(BIN)/python -m oms_demo $(DEMO)

up: setup ## the stack: Kafka, PostgreSQL and the services
	$(BIN)/oms stack up

down: ## stop the stack; its data stays
	$(BIN)/oms stack down

lint: setup ## style, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: lint ## everything: lint, types, contracts, unit, property, integration, end to end
	$(BIN)/python -m oms_contracts --check
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"
	$(BIN)/python -m pytest -q -m alone

test-outages: setup ## broker and database go away for ten minutes each, under load
	OMS_TEST_OUTAGE_SECONDS=600 $(BIN)/python -m pytest -q libs/runtime/tests/test_outages.py

test-faults: setup ## 100 kills, pauses and restarts of everything with 50,000 orders under way, twice; says how far it is
	mkdir -p .orderstream
	OMS_FAULTS=long $(BIN)/python -m pytest -q -s --basetemp=.orderstream/faults tests/faults

test-floods: setup ## the gateway under floods of all kinds for ten minutes, with orders under way
	OMS_TEST_FLOOD_SECONDS=600 $(BIN)/python -m pytest -q -k floods_of_the_gateway tests/end_to_end/test_apis.py

bench: .venv/bench ## what an order costs, and how fast orders come through: ten minutes at most
	$(BIN)/python -m tests.load $(BENCH)

bench-full: .venv/bench ## the same at 10,000 and 100,000 orders of history
	$(BIN)/python -m tests.load --full $(BENCH)

.venv/bench: .venv/ready tests/load/requirements.txt
	$(BIN)/uv pip install --quiet --no-deps --require-hashes -r tests/load/requirements.txt
	touch $@

.PHONY: help setup lock promtool demo up down lint test test-outages test-faults test-floods bench bench-full
