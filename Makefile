# Pull & Push. `make` alone lists what can be made. GNU make 3.81 (macOS) is enough.

PYTHON ?= python3
JOBS ?= 2
PORT ?= 8000
PROFILE ?= quick
PAGE ?=
RERUN ?=
HOURS ?=
UPGRADE ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HTML := _build/html
SNAKEMAKE := $(BIN)/python -m snakemake -s papermill_runs/Snakefile --nolock --rerun-incomplete --keep-going \
	--quiet host reason rules --cores $(JOBS) --config

# One thread for each worker: two workers on two cores must not fight over them.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help env book runs exercises pdf serve test lint bench lock clean

help: ## list what can be made
	@echo "make TARGET, where TARGET is"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' Makefile
	@echo "Python is $(PYTHON); another one by: make env PYTHON=python3.12"

env: $(STAMP) ## the Python environment .venv, exactly as requirements.lock pins it
	@$(BIN)/python -c 'import sys; print("Environment: $(VENV), Python %d.%d.%d" % sys.version_info[:3])'

# The installer (uv) is itself taken from the lock, so that every file that is installed has its hash checked.
$(STAMP): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "No $(PYTHON) here. Install Python 3.11, 3.12 or 3.13, or name one: make env PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "$(PYTHON) is Python %d.%d; Pull & Push needs 3.11, 3.12 or 3.13. Name one: make env PYTHON=python3.12" % v)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@sed -n '/^uv==/,/# via/p' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline -e .
	@$(BIN)/python -m compileall -q lib
	@touch $(STAMP)

book: env ## run every notebook at quick size, then render the site
	$(SNAKEMAKE) profile=quick
	$(BIN)/python -m pullpush.stage
	@echo "Open file://$(CURDIR)/$(HTML)/index.html, or: make serve"

runs: env ## the runs of a profile that have no record yet: PROFILE=laptop|paper [RERUN=stale|RUN] [HOURS=yes] [JOBS=2]
	$(SNAKEMAKE) profile=$(PROFILE) $(if $(RERUN),rerun=$(RERUN)) $(if $(HOURS),hours=yes)

exercises: env ## the chapters as notebooks for students, without their solutions, into _build/exercises
	@$(BIN)/python -m pullpush.cli exercises

pdf: env ## the chapters of the built site as PDF, into _build/pdf (PAGE=similarity for one)
	@$(BIN)/python -m pullpush.printing $(PAGE)

# A notebook's cells stay on one worker (loadfile); the last line is pytest's summary.
test: env ## the tests, ruff and mypy among them, and every notebook at quick size
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval-lax tests book

lint: env ## ruff and mypy alone
	$(BIN)/ruff check --quiet
	$(BIN)/mypy

bench: env ## measure our parts against their peers, into _build/bench.json (nothing else should run)
	$(BIN)/python tests/benchmarks

serve: ## show the built site on this machine (PORT=8000)
	@test -f $(HTML)/index.html || { echo "No site yet: make book" >&2; exit 1; }
	@echo "http://localhost:$(PORT)/ (stop with Ctrl-C)"
	@$(BIN)/python -m http.server --bind localhost --directory $(HTML) $(PORT)

lock: env ## pin again what pyproject.toml asks for (add UPGRADE=--upgrade for newer versions)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --all-extras $(UPGRADE) pyproject.toml -o requirements.lock

clean: ## remove what was built; the environment, real data and unfinished runs stay
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache
	find lib tests -name __pycache__ -type d -prune -exec rm -rf {} +
