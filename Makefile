# SPDX-License-Identifier: Apache-2.0
# `make help` lists what there is. Prerequisites: Python >= 3.11, Go >= 1.26, make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV_VERSION := 0.13.8
PYTHON ?= python3
TOOLS := .cache/tools
UV := $(TOOLS)/bin/uv
RUN := .venv/bin/python
WORKERS ?= 2
export PYTHONPATH := operator:forecasting:tools

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 24

$(UV):
	@command -v $(PYTHON) >/dev/null || { echo "Embellie needs Python 3.11 or newer: install it, or name it with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Embellie needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): name a newer one with PYTHON=..."; exit 1; }
	@echo "installing uv $(UV_VERSION) into $(TOOLS)"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet uv==$(UV_VERSION)

.venv/.synced: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --python $(PYTHON)
	@touch $@

.PHONY: setup
setup: .venv/.synced ## install the locked Python environment into .venv

.PHONY: tools
tools: setup ## build the control plane's binaries (cached outside the work tree)
	@$(RUN) -m embellie_testbed.build

.PHONY: demo-model
demo-model: tools ## train the forecaster for the demo (cached)
	@$(RUN) -m embellie_testbed.demo --prepare

.PHONY: demo
demo: demo-model ## the main job on an embedded control plane (HEADLESS=1, OUT=demo.json, LEDGER=ledger.sqlite, FACTOR=900)
	@$(RUN) -m embellie_testbed.demo $(if $(HEADLESS),--headless) $(if $(OUT),--out $(OUT)) $(if $(LEDGER),--ledger $(LEDGER)) $(if $(FACTOR),--factor $(FACTOR))

.PHONY: test
test: check tools ## all tests, on the same embedded control plane
	$(RUN) -m pytest tests/replays -n $(WORKERS)
	$(RUN) -m pytest tests/control_plane -n $(WORKERS) --dist loadfile

.PHONY: unit
unit: setup ## unit and property tests
	$(RUN) -m pytest tests/unit tests/property -n $(WORKERS)

.PHONY: fuzz
fuzz: setup ## property tests with new random examples, ROUNDS times (20)
	@for round in $$(seq $(or $(ROUNDS),20)); do \
	  HYPOTHESIS_PROFILE=fuzz $(RUN) -m pytest tests/property -q -n $(WORKERS) --hypothesis-seed=$$RANDOM || exit 1; \
	done

.PHONY: soak
soak: tools ## random users and trouble on a real control plane, judged by its audit log (SEEDS=3 MINUTES=3, SEED=)
	@$(RUN) -m embellie_testbed.soak --seeds $(or $(SEEDS),3) --minutes $(or $(MINUTES),3) $(if $(SEED),--seed $(SEED))

.PHONY: lint
lint: setup ## lint, format and types
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	.venv/bin/lint-imports --no-cache

.PHONY: check
check: lint unit ## what must pass before every commit

.PHONY: generate
generate: setup ## write manifests/crds, the chart's copy, the boards and the metrics page from the code
	$(RUN) -m embellie.api.generate
	$(RUN) -m embellie_boards

.PHONY: cluster
cluster: tools ## start an embedded cluster and leave it running
	@$(RUN) -m embellie_testbed.cluster up

.PHONY: cluster-down
cluster-down: setup ## stop it
	@$(RUN) -m embellie_testbed.cluster down

.PHONY: image
image: tools ## build the image with docker or podman, and run in it what the chart runs (ENGINE=, TAG=, FLAGS=)
	@$(RUN) -m embellie_testbed.image $(if $(ENGINE),--engine=$(ENGINE)) $(if $(TAG),--tag=$(TAG)) \
	  $(foreach flag,$(FLAGS),--build-flag=$(flag))

.PHONY: bench
bench: tools ## the numbers: scale, release rate, idle cost
	@missed=0; for bench in planner scale; do $(RUN) tests/bench/bench_$$bench.py || missed=1; done; exit $$missed

.PHONY: bench-thermal
bench-thermal: setup ## heat models on measured data, and drills of 20 seeds on the plant (SEEDS=3, MONTH=0: less)
	@$(RUN) tests/bench/bench_thermal_models.py
	@$(RUN) tests/bench/bench_thermal.py

.PHONY: bench-thermal-losses
bench-thermal-losses: setup ## where drills lose utilisation, by cause (seeds 101 to 103)
	@$(RUN) tests/bench/bench_thermal_losses.py

.PHONY: bench-proof
bench-proof: tools ## closure, coverage of the savings' interval, a ledger of a million decisions, boards' queries
	@$(RUN) tests/bench/bench_proof.py
	@$(RUN) tests/bench/bench_boards.py

.PHONY: bench-plan
bench-plan: setup ## the planner's proved gaps, its time in a turn, what small MILPs gain, and replays of published results
	@$(RUN) tests/bench/bench_plan.py
	@$(RUN) tests/bench/bench_planner.py
	@$(RUN) tests/bench/bench_milp.py
	@$(RUN) tests/bench/bench_replay.py
	@$(RUN) tests/bench/bench_split.py
	@$(RUN) tests/bench/bench_two_grids.py

.PHONY: bench-forecast
bench-forecast: setup ## the forecaster on ten grids by the published protocols; its feeds' false alarms; what is SIMULATED
	@OMP_NUM_THREADS=2 $(RUN) tests/bench/bench_forecast.py
	@OMP_NUM_THREADS=2 $(RUN) tests/bench/bench_saving.py
	@OMP_NUM_THREADS=2 $(RUN) tests/bench/bench_forecast_simulated.py
	@OMP_NUM_THREADS=2 $(RUN) tests/bench/bench_feeds.py
	@OMP_NUM_THREADS=2 $(RUN) tests/bench/bench_onsite.py

.PHONY: clean
clean: ## remove what make created in the work tree
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis demo.json
