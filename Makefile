# The two commands of README are `make run` and `make test`. Each makes the environment it needs, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
# One test after the other is handed to whoever is free: their order (tests/conftest.py) puts the longest first.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxschedchunk 1

# The tests start many servers: where the environment forbids bytecode, each of them would compile everything anew.
test test-slow: export PYTHONDONTWRITEBYTECODE =

.PHONY: help run demo test test-slow check format bench bench-ledger bench-economy bench-economy-litellm bench-kills faults lock clean
help:
	@echo "make run       start the server on 127.0.0.1:4000"
	@echo "make demo      show what the cache saves; needs no key"
	@echo "make test      run the tests"
	@echo "make test-slow run the long fault and kill tests too"
	@echo "make check     format, lint, types, import contracts, sizes"
	@echo "make bench     measure side by side"
	@echo "make bench-ledger           measure what it takes until money is on the disk"
	@echo "make bench-economy          measure tokens paid / tokens that had to be paid"
	@echo "make bench-economy-litellm  the same of LiteLLM, in an environment of its own"
	@echo "make bench-kills            kill servers in mid-flight, a hundred times a store, and count what it cost"
	@echo "make faults    bring faults upon real stores under load, and print what it cost"
	@echo "make lock      pin the newest allowed dependencies again"

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: $(VENV)/made requirements/run.txt requirements/build.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: $(VENV)/run requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

run: $(VENV)/run
	$(BIN)/cache-proxy serve

demo: $(VENV)/run
	$(BIN)/cache-proxy demo

test: $(VENV)/dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/dev
	$(PYTEST)

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/sizes.py

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev
	$(BIN)/python -m bench

bench-ledger: $(VENV)/dev
	$(BIN)/python -m bench.ledger $(ARGS)

bench-economy: $(VENV)/dev
	$(BIN)/python -m bench.economy $(ARGS)

# Not of this project: a program to measure beside ours, installed from the index where nothing else can see it. Never in CI.
LITELLM := $(VENV)/litellm
$(LITELLM)/made:
	$(PYTHON) -m venv $(LITELLM)
	$(LITELLM)/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.106.2'
	@touch $@

bench-economy-litellm: $(VENV)/dev $(LITELLM)/made
	$(BIN)/python -m bench.economy.litellm $(LITELLM)/bin/python $(ARGS)

bench-kills: $(VENV)/dev
	$(BIN)/python -m bench.economy.kills $(ARGS)

faults: $(VENV)/dev
	$(BIN)/python -m tests.faults

lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade --extra postgres pyproject.toml -o requirements/run.txt
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade --group build -o requirements/build.txt
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade -c requirements/run.txt pyproject.toml --group dev -o requirements/dev.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
