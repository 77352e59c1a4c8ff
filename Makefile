VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint docs bench clean

demo: $(VENV)/.installed  ## the whole method in a world of toy faces, from a gallery to a report
	$(BIN)/hyperface demo --out runs/demo

test: $(VENV)/.installed $(VENV)/.aot lint  ## everything that CI runs
	$(BIN)/python -m pytest --ignore tests/recognition
	$(BIN)/python -m pytest tests/recognition

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(VENV)/.installed  ## the documentation as pages, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

bench: $(VENV)/.installed-bench $(VENV)/.aot  ## write every figure under benchmarks/results/ and the README's tables
	$(BIN)/python -m benchmarks.pairwise
	$(BIN)/python -m benchmarks.leakage
	$(BIN)/python -m benchmarks.solvers
	$(BIN)/python -m benchmarks.rivals
	$(BIN)/python -m benchmarks.gallery_frontier
	$(BIN)/python -m benchmarks.small_codes
	$(BIN)/python -m benchmarks.codes
	$(BIN)/python -m benchmarks.ablations
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.accelerator
	$(BIN)/python -m benchmarks.tpu_aot
	$(BIN)/python -m benchmarks.million
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.convolutions
	$(BIN)/python -m benchmarks.synthesis
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.closed_loop
	$(BIN)/python -m benchmarks.tutorial
	$(BIN)/python -m benchmarks.tables

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(INSTALL) --editable '.[cli,recognition,onnx,synthesis,docs,dev]'
	touch $@

# Apart from the environment: an installed libtpu makes every program look for a TPU.
$(VENV)/.aot: $(VENV)/.installed
	$(INSTALL) --target $(VENV)/aot --no-deps libtpu
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(INSTALL) --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
