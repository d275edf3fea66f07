# Every target does its own set-up: `make demo` and `make test` work on a fresh clone with only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := compute,service,worker,local,postgres,parquet,images,models,vision,cluster,studies,figures,telemetry,dev
STAMP := $(VENV)/installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := install
.PHONY: install demo claims serve check audit test hostile faults fuzz format client openapi bench evidence docs clean browser kernels

install: $(STAMP) ## the virtual environment with everything that one machine needs

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Consilience needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say which with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	$(BIN)/python -m consilience.numerics.compile_kernels
	@touch $@

demo: install ## two real embedding sets, from upload to score, in half a minute
	@$(BIN)/python examples/demo.py

claims: install ## the article's claims, tried on small things through the service; writes docs/claims
	@$(BIN)/python -m examples.claims --out docs/claims

serve: install ## the service with a worker and an embedded Redis, until Ctrl-C
	@$(BIN)/consilience serve

check: install audit ## lint, format, types, import rules, known faults of the pinned packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

audit: install ## known faults of the pinned packages, from osv.dev; says that it was skipped where that cannot be reached
	@if ! $(BIN)/python -c 'import urllib.request as r; r.urlopen("https://api.osv.dev/v1/vulns/OSV-2020-111", timeout=5)' 2>/dev/null; then \
		echo "Audit of the pinned packages skipped: api.osv.dev cannot be reached from here."; \
	elif ! [ -d $(VENV)/audit ] && ! $(BIN)/pip install --quiet --target $(VENV)/audit pip-audit; then \
		echo "Audit of the pinned packages skipped: pip-audit cannot be installed from here."; \
	else \
		PYTHONPATH=$(VENV)/audit $(BIN)/python -m pip_audit --vulnerability-service osv --strict --requirement constraints.txt --no-deps --disable-pip; \
	fi

test: check ## everything: the checks and the whole test suite
	$(BIN)/pytest -n 2 --dist loadfile

browser: install ## the documentation page in a real browser; skipped if there is no chromium
	$(BIN)/pytest tests/browser -q

# The tests of numerics and metrics and of a score on a cluster, once for each row of the table in tests/kernels.py: kernels
# of OpenBLAS (SkylakeX where there is AVX-512), levels of FAISS and torch, 1 and 2 threads. Eight minutes on two cores.
kernels: install ## the tests of numerics under every kind of product that this processor has
	$(BIN)/python -m tests.kernels

hostile: install ## hostile files and requests against a real service, and what the worst of them cost
	$(BIN)/pytest tests/hostile/test_corpus.py -q

faults: install ## faults done to a real service under load: what became of its jobs (half an hour; as root on Linux also a full disk)
	$(BIN)/python -m benchmarks.faults

fuzz: install ## Schemathesis against a real service for five minutes; FUZZ_S=3600 for an hour
	$(BIN)/python -m tests.service.fuzzing $(or $(FUZZ_S),300)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

client: install ## write consilience/client/sync.py anew, from aio.py
	$(BIN)/python scripts/generate_sync_client.py

openapi: install ## write openapi/openapi.json anew
	$(BIN)/python -m service.openapi.__main__ > openapi/openapi.json.new && mv openapi/openapi.json.new openapi/openapi.json

bench: install ## the figures of docs/benchmarks.md
	$(BIN)/python -m benchmarks

evidence: install ## docs/evidence.md anew: a quarter of an hour on two cores
	$(BIN)/python -m benchmarks.evidence --write

docs: install ## docs/metrics.md anew, from the contract
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .numba .mypy_cache .ruff_cache .pytest_cache build dist
