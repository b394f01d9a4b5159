# The one list of tasks: the same on a laptop and in CI. `make help` prints it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# For tests that leave one another alone; more processes than these would start longer than they run.
PROCESSES := --numprocesses auto --maxprocesses 4
# Tools, DOCKER_HOST and KUBECONFIG of the cluster at hand.
CLUSTER := eval "$$(dev/cluster/cluster.sh env)" &&

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------------------------------------- what users run

.PHONY: demo
demo: deploy ## Set everything up, run examples/licence-words.yaml and show the result (17 min the first time, 16 s again)
	@$(CLUSTER) python3 dev/demo.py

.PHONY: test
test: lint types unit simulation integration e2e helm-test ## Everything: lint, types, unit, simulation, integration, e2e and Helm tests

# --------------------------------------------------------------------------------------------------------- checks

.PHONY: lint
lint: $(VENV)/.complete crds-check ## Style, layers, dead code, shell scripts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports
	@$(BIN)/vulture
	@$(BIN)/shellcheck -x dev/*.sh dev/*/*.sh dev/offline/node/{entrypoint,prepare} dev/offline/runc-without-sys-resource .ci/run

.PHONY: types
types: $(VENV)/.complete ## Types, strictly
	@$(BIN)/mypy

.PHONY: unit
unit: $(VENV)/.complete tools ## Unit and property tests
	@$(BIN)/pytest $(PROCESSES) tests/unit

.PHONY: simulation
simulation: $(VENV)/.complete ## Whole runs on a simulated cluster and a fake clock
	@$(BIN)/pytest $(PROCESSES) tests/simulation

.PHONY: soak
soak: $(VENV)/.complete ## 1,000 simulated runs with every kind of fault; deaths at every point of a small one (10 min)
	@$(BIN)/python -m tests.simulation.chaos --seeds 0-999
	@$(BIN)/pytest tests/simulation/soak.py

.PHONY: integration
integration: $(VENV)/.complete cluster-up images ## Adapters and CRD against a real API server
	@$(CLUSTER) $(BIN)/pytest $(PROCESSES) tests/integration

.PHONY: e2e
e2e: $(VENV)/.complete deploy ## The installed operator with real agents
	@dev/cluster/cluster.sh audit-clear
	@$(CLUSTER) $(BIN)/pytest tests/e2e

.PHONY: helm-test
helm-test: $(VENV)/.complete deploy ## The chart's release from installation to removal; its rights against what e2e used of them
	@$(CLUSTER) $(BIN)/pytest tests/helm

.PHONY: chaos
chaos: $(VENV)/.complete deploy ## Kill operators, a node, a kubelet, the bucket and the API server of the local cluster under running jobs (11 min)
	@$(CLUSTER) $(BIN)/pytest --log-cli-level=INFO tests/chaos

.PHONY: fields
fields: $(VENV)/.complete ## Show that every field of the API has a test that fails when it is ignored (7 min)
	@$(BIN)/python -m tests.fields

.PHONY: crds-check
crds-check: $(VENV)/.complete
	@$(BIN)/python -m mapreduce_operator.api.crd --check crds
	@$(BIN)/python -m mapreduce_operator.api.crd --check charts/mapreduce-operator/files/crds
	@$(BIN)/python -m mapreduce_operator.api.reference --check docs/api-reference.md

# -------------------------------------------------------------------------------------------------------- cluster

.PHONY: tools
tools: ## Install kind, helm, kubectl and Prometheus into the cache folder
	@dev/tools.sh

.PHONY: cluster-up
cluster-up: tools ## Start the local kind cluster, or check the one behind KUBECONFIG
	@dev/cluster/cluster.sh up

.PHONY: cluster-down
cluster-down: ## Delete the local cluster and all that it left on the machine
	@dev/cluster/cluster.sh down

.PHONY: cluster-status
cluster-status: ## Say how the cluster is
	@dev/cluster/cluster.sh status

.PHONY: images
images: cluster-up ## Build the operator's image and load it into the cluster
	@$(CLUSTER) dev/images.sh load

.PHONY: deploy
deploy: images ## Install the operator into the cluster by Helm
	@$(CLUSTER) dev/deploy.sh

.PHONY: bench
bench: $(VENV)/.complete tools ## The operator beside a bare client on simulated nodes; ARGS="--items 500" (docs/benchmarks.md)
	@dev/bench/bench.sh $(ARGS)

.PHONY: bench-checkpoints
bench-checkpoints: $(VENV)/.complete ## Time and bytes of a save and of a load at 100 to 100,000 items (docs/benchmarks.md)
	@$(BIN)/python -m tests.bench.checkpoints $(ARGS)

# ---------------------------------------------------------------------------------------------------- maintenance

.PHONY: setup
setup: $(VENV)/.complete ## Make the Python environment in .venv

.PHONY: crds
crds: $(VENV)/.complete ## Generate the CRDs and the API reference from the models
	@$(BIN)/python -m mapreduce_operator.api.crd crds
	@$(BIN)/python -m mapreduce_operator.api.crd charts/mapreduce-operator/files/crds
	@$(BIN)/python -m mapreduce_operator.api.reference docs/api-reference.md

.PHONY: format
format: $(VENV)/.complete ## Format the code
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

.PHONY: lock
lock: $(VENV)/.complete ## Lock the dependencies anew
	@$(BIN)/uv pip compile -q pyproject.toml --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links -o requirements/runtime.txt
	@$(BIN)/uv pip compile -q pyproject.toml --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --extra cli --group dev -o requirements/dev.txt

$(VENV)/.complete: requirements/dev.txt pyproject.toml dev/venv.sh
	@dev/venv.sh $(VENV)
	@touch $@
