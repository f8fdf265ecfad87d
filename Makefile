# Every target makes what it needs; `make help` lists them.

# Where it is set, each of many processes would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

# The newest supported Python that runs: a version manager's shim may be on the PATH without one.
PYTHON ?= $(shell for version in 3.13 3.12 3.11; do python$$version --version >/dev/null 2>&1 && echo python$$version && break; done)
BIN := .venv/bin
CHECKED := client measure backfill training export benchmark deploy loadtest reliability demo tests

# Settings of `make loadtest`. The default repository has the paper's size with random weights, which take as long as trained ones.
REPOSITORY ?= build/full_size
PROFILE ?= steady
SLOS ?= loadtest/slos/cpu.toml
WORKERS ?= 1
OPTIONS ?=

# Setting of `make gpu`: 0 runs the same stages at tiny size on a CPU, into build/.
GPU ?= 1

# Setting of `make test`: folders of tests that ran already, such as the client's own by `make test-client`.
DONE ?=

.PHONY: help demo serve loadtest reliability ablation bench gpu gpu-ablation test test-slow test-all test-end-to-end test-client docs lint format clean

# Checks what environments are made with.
define python
@[ -n "$(PYTHON)" ] || { echo "error: no Python 3.13, 3.12 or 3.11 is on the PATH: install one (Debian, Ubuntu:" \
	"apt install python3-venv libpython3-dev), or name it: make PYTHON=/path/to/python3.13" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -1); needed is Python 3.11, 3.12 or 3.13:" \
	"make PYTHON=/path/to/python3.13" >&2; exit 1; }
endef

# So many tests at a time, on two cores, as most of them wait for a server; the files with long tests come first.
together = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(1) --dist loadfile --no-loadscope-reorder

# Tests of a tier: those that may share the machine, $(2) at a time, then those with a clock, alone. Both parts run;
# either fails it.
# What takes long to make and is the same for all is in ALTRECO_KEPT.
define tier
[ "$$ALTRECO_KEPT" ] || { ALTRECO_KEPT=$$(mktemp -d) && trap 'rm -r "$$ALTRECO_KEPT"' EXIT; }; export ALTRECO_KEPT; \
	$(call together,$(2)) -m "$(1) and not timing" $(addprefix --ignore=,$(DONE)); parallel=$$?; \
	$(BIN)/python -m pytest -m "$(1) and timing" && exit $$parallel
endef

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: .venv/.installed ## the whole path: data, training, export, Triton, recommendations as text and picture
	$(BIN)/python -m demo

serve: .venv/.installed ## start a real Triton on loopback over model_repository/ (Ctrl-C stops it)
	$(BIN)/python -m deploy.local

loadtest: .venv/.installed $(REPOSITORY) ## 2 minutes of steady load, a verdict and a report; WORKERS=4 generates it from four processes
	$(BIN)/python -m loadtest run --profile $(PROFILE) --slos $(SLOS) --repository $(REPOSITORY) --workers $(WORKERS) $(OPTIONS)

reliability: .venv/.installed $(REPOSITORY) ## faults under load (kills, overload, hostile clients, soak) into docs/
	$(BIN)/python -m reliability --repository $(REPOSITORY)

ablation: .venv/.installed ## train and evaluate every variant and comparison method for known and new users, into docs/
	$(BIN)/python -m training.ablation

bench: .venv/.installed ## the comparisons of docs/benchmarks.md, other servers included; and an import of 5 million lines
	$(BIN)/python -m benchmark
	$(BIN)/python -m benchmark.importing --lines 5000000

gpu: .venv/.installed ## everything that waits for a GPU, in stages that can be resumed, into docs/; GPU=0 tries it on a CPU
	$(BIN)/python -m benchmark.gpu $(if $(filter 0,$(GPU)),--cpu)

gpu-ablation: .venv/.installed ## the ablation at the paper's size on a GPU (hours; can be resumed), into build/gpu-ablation
	mkdir -p build/gpu-ablation/docs
	$(BIN)/python -m training.ablation --size paper --device cuda --jobs 1 --workers 8 --work build/gpu-ablation --out build/gpu-ablation/docs

test: .venv/.installed ## the fast tier: unit tests, and end-to-end tests against a real Triton
	$(call tier,not slow,4)

test-slow: .venv/.installed ## the tests that install, download or measure for long
	$(call tier,slow,4)

test-all: test test-slow ## every test

test-end-to-end: .venv/.installed ## the end-to-end tests that another Python may fail, without those that are slow or have a clock
	$(call together,4) -m "not slow and not timing and not any_python" tests/end_to_end

test-client: .venv-client/.installed ## the client alone, on numpy 2, with none of this repository's other packages
	.venv-client/bin/python -m pytest -n 3 -m "not timing" tests/client

docs: .venv/.installed ## the client's API reference, from its docstrings, into build/docs; a warning fails it
	$(BIN)/python -W error -m pdoc --output-directory build/docs altreco_client altreco_client.contract altreco_client.errors altreco_client.histories

lint: .venv/.installed ## ruff and mypy, as CI runs them
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy client/src client/examples/upload_service/app.py measure backfill training export benchmark deploy loadtest reliability demo

format: .venv/.installed ## let ruff fix what it can
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean: ## remove environments, caches and everything built
	rm -rf .venv .venv-client build .pytest_cache .mypy_cache .ruff_cache

# torch goes first: alone, pip takes the CPU build wherever it is offered the choice. Triton's wheel wants numpy 1 for
# its Python package, which nothing here imports.
.venv/.installed: pyproject.toml client/pyproject.toml constraints.txt
	$(python)
	@echo "== environment"; start=$$(date +%s) && \
	{ [ "$$($(BIN)/python --version 2>&1)" = "$$($(PYTHON) --version)" ] || $(PYTHON) -m venv --clear .venv; } && \
	$(BIN)/pip install --quiet --constraint constraints.txt torch && \
	$(BIN)/pip install --quiet --constraint constraints.txt --editable client --editable '.[dev]' && \
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps nvidia-pytriton && \
	touch $@ && echo "   environment: $$(( $$(date +%s) - start )) s"

build/full_size: $(wildcard model_repository/*/config.pbtxt) .venv/.installed
	$(BIN)/python -m export random $@

.venv-client/.installed: client/pyproject.toml constraints.txt
	$(python)
	$(PYTHON) -m venv --clear .venv-client
	.venv-client/bin/pip install --quiet --constraint constraints.txt pytest pytest-xdist hypothesis --editable client
	touch $@
