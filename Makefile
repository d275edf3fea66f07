# Every target does its own set-up: `make demo` and `make test` work on a fresh clone with only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := compute,service,worker,local,postgres,parquet,cluster,studies,figures,dev
STAMP := $(VENV)/installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := install
.PHONY: install demo serve check audit test hostile faults fuzz format openapi bench evidence docs clean

install: $(STAMP) ## the virtual environment with everything that one machine needs

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Consilience needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say which with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	$(BIN)/python -m consilience.numerics.compiled
	@touch $@

demo: install ## two real embedding sets, from upload to score, in half a minute
	@$(BIN)/python examples/demo.py

serve: install ## the service with a worker and an embedded Redis, until Ctrl-C
	@$(BIN)/consilience serve

check: install ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

audit: install ## known faults of the pinned packages: asks PyPI and osv.dev, so not a part of check
	$(BIN)/pip install --quiet --target $(VENV)/audit pip-audit
	PYTHONPATH=$(VENV)/audit $(BIN)/python -m pip_audit --strict --requirement constraints.txt --no-deps --disable-pip

test: check ## everything: the checks and the whole test suite
	$(BIN)/pytest -n 2 --dist loadfile

hostile: install ## hostile files and requests against a real service, and what the worst of them cost
	$(BIN)/pytest tests/hostile/test_corpus.py -q

faults: install ## faults done to a real service under load: what became of its jobs (half an hour; as root on Linux also a full disk)
	$(BIN)/python -m benchmarks.faults

fuzz: install ## Schemathesis against a real service for five minutes; FUZZ_S=3600 for an hour
	$(BIN)/python -m tests.service.fuzzing $(or $(FUZZ_S),300)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: install ## write openapi/openapi.json anew
	$(BIN)/python -m service.openapi > openapi/openapi.json.new && mv openapi/openapi.json.new openapi/openapi.json

bench: install ## the figures of docs/benchmarks.md
	$(BIN)/python -m benchmarks

evidence: install ## docs/evidence.md anew: a quarter of an hour on two cores
	$(BIN)/python -m benchmarks.evidence --write

docs: install ## docs/metrics.md anew, from the contract
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .numba .mypy_cache .ruff_cache .pytest_cache build dist
