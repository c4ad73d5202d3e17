# `make run`: the mock survey from plan to catalogue. `make test`: the tests. `make check`: what CI runs.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
MINUTES ?= 60
export OMP_NUM_THREADS ?= 1

.PHONY: run test check lint types imports tests soak histories fuzz rehearse bench bench-gpu clean

$(BIN)/pipeline: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt setuptools
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

run: $(BIN)/pipeline
	@test -e $(DEMO)/sky/mock.json || $(BIN)/pipeline mock $(DEMO)/sky --seed 1
	$(BIN)/pipeline run --survey decals --mirror $(DEMO)/sky --output $(DEMO)/catalogue
	$(BIN)/pipeline query $(DEMO)/catalogue --sql "SELECT dmagnet_label, count(*) AS galaxies, round(avg(dmagnet_confidence), 3) AS confidence FROM catalogue WHERE status IN ('ok', 'partial') GROUP BY ALL ORDER BY galaxies DESC"
	$(BIN)/pipeline report $(DEMO)/catalogue --truth $(DEMO)/sky/truth/truth.parquet

test: tests
check: lint types imports tests

lint: $(BIN)/pipeline
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/pipeline
	$(BIN)/mypy

imports: $(BIN)/pipeline
	$(BIN)/lint-imports

tests: $(BIN)/pipeline
	$(BIN)/pytest

soak: $(BIN)/pipeline
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

histories: $(BIN)/pipeline
	$(BIN)/python -m tests.histories --histories 100000
	$(BIN)/python -m tests.faults --seeds 20

fuzz: $(BIN)/pipeline
	$(BIN)/python -m tests.fuzz --examples 10000

rehearse: $(BIN)/pipeline
	$(BIN)/python -m tests.rehearsal

bench: $(BIN)/pipeline
	$(BIN)/python -m tests.benchmarks

bench-gpu: $(BIN)/pipeline
	$(BIN)/python -m tests.benchmarks.gpu

clean:
	rm -rf $(DEMO) build *.egg-info
