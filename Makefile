# make demo, make test: each sets up everything it needs in .venv.
# A CPU-only torch (0.9 instead of 5 GB): make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_ARGS ?=
JOBS ?= 2
OUT ?= gpu-report
DATA ?=
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready
# What tests do that no annotation follows: RunSpec(**fields), net.layer1[0].bn2(x).
LOOSE := $(addprefix --disable-error-code ,arg-type union-attr operator index)

.PHONY: setup demo test test-slow lint format docs site dist bench bench-quick gpu clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv
	@echo "Installing attnbench and its dependencies into .venv (once, a few minutes; up to $(if $(findstring whl/cpu,$(PIP_ARGS)),1,5) GB to download)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)
	@$(BIN)/attnbench demo --jobs $(JOBS)
	@echo "Here attnbench is $(BIN)/attnbench, or: source $(BIN)/activate"

test: $(READY)
	$(BIN)/pytest -n $(JOBS) -m "not slow"

test-slow: $(READY)
	$(BIN)/pytest -n $(JOBS) -m slow

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy $(LOOSE) tests

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	$(BIN)/python docs/render.py

site: export NO_MKDOCS_2_WARNING = 1
site: $(READY)
	$(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html in a browser"

dist: $(READY)
	rm -rf build/dist
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/twine check --strict build/dist/*

bench: $(READY)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python docs/render.py

bench-quick: $(READY)
	$(BIN)/python benchmarks/speed.py --quick

# On a machine with a CUDA device: no .venv, nothing installed or fetched, whatever Python has torch.
gpu:
	PYTHONPATH=src:$$PYTHONPATH $(PYTHON) benchmarks/gpu.py --out $(OUT) $(if $(DATA),--data $(DATA)) $(ARGS)

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis
