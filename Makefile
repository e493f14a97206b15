# Andon for people at a shell. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# All tests are shared between this many processes; tests that are named run in one.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && n=4; echo $$n)

.DEFAULT_GOAL := help
.PHONY: help demo run test long check bench conformance format lock clean

help:
	@echo "make demo    a whole plant on this machine, with a live table (ARGS=\"--for 30s --json\")"
	@echo "make test    all tests, on WORKERS=n processes (ARGS=\"tests/statemodel -k packml\" for some, on one)"
	@echo "make long    the state engine's properties on 10,000 models and histories each"
	@echo "make check   lint, types, import contracts"
	@echo "make bench   figures against floors measured in the same run (ONLY=latency for one part)"
	@echo "make conformance   Sparkplug B by the standard: each of its 215 rules, judged on the wire (ARGS=--json)"
	@echo "make run     andon run CONFIG (ARGS=path/to/andon.toml)"

# The environment is made again whenever the lock file changes.
$(STAMP): requirements.lock scripts/make-environment
	@scripts/make-environment "$(PYTHON)" "$(VENV)"
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/andon demo $(ARGS)

run: $(STAMP)
	@$(BIN)/andon run $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n $(WORKERS) --dist worksteal)

long: $(STAMP)
	@ANDON_TEST_PROFILE=long $(BIN)/python -m pytest tests/statemodel --timeout 3600 $(ARGS)

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@echo "check: clean"

bench: $(STAMP)
	@$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY)) $(ARGS)

# Needs a real Mosquitto (scripts/real-parts).
conformance: $(STAMP)
	@$(BIN)/python -m tests.conformance.sparkplug $(ARGS)

format: $(STAMP)
	@$(BIN)/ruff check -q --fix . || true
	@$(BIN)/ruff format -q .

# Needs uv; only for those who change dependencies.
lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
