VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PACKAGE := $(shell find hyperface_jax -type f -not -path '*/__pycache__/*')
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal --durations 10

.PHONY: demo test test-changed install environments lint unit-tests test-newest test-oldest wheel wheel-check docs bench clean

demo: $(VENV)/.installed  ## the whole method in a world of toy faces, from a gallery to a report
	$(BIN)/hyperface demo --out runs/demo

test:  ## everything that CI runs
	$(MAKE) wheel
	$(MAKE) --jobs 2 --output-sync=recurse timed-install timed-environments
	$(MAKE) timed-unit-tests
	$(MAKE) --jobs 2 --output-sync=recurse timed-test-newest timed-test-oldest timed-wheel-check timed-lint

timed-%:
	@start=$$(date +%s); $(MAKE) --no-print-directory $* && echo "== $*: $$(($$(date +%s) - start)) s"

install: $(VENV)/.installed $(VENV)/.aot

environments: build/newest/.installed build/oldest/.installed  ## of the other versions that are tested

unit-tests: install
	$(PYTEST)

# No tests to run is exit code 5.
test-changed: $(VENV)/.installed $(VENV)/.aot  ## tests that run through code changed since they last ran
	$(PYTEST) --testmon || test $$? -eq 5

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test-newest: build/newest/.installed  ## the core on the newest JAX
	.ci/core newest

test-oldest: build/oldest/.installed  ## the core on the oldest JAX
	.ci/core oldest

build/newest/.installed: PYTHONS := 3.13 3.12
build/oldest/.installed: PYTHONS := 3.11
build/%/.installed: .ci/%.txt .ci/environment build/wheel/.built
	.ci/environment $* $(PYTHONS)
	test ! -e build/$*/bin || touch $@

wheel-check: wheel $(VENV)/.installed  ## the wheel, installed and run away from the checkout
	.ci/wheel $(BIN)/python

docs: $(VENV)/.installed  ## the documentation as pages, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

bench: $(VENV)/.installed-bench $(VENV)/.aot  ## write every figure under benchmarks/results/ and the README's tables
	$(BIN)/python -m benchmarks.api_names
	$(BIN)/python -m benchmarks.first_packing
	$(BIN)/python -m benchmarks.pairwise
	$(BIN)/python -m benchmarks.leakage
	$(BIN)/python -m benchmarks.solvers
	$(BIN)/python -m benchmarks.rivals
	$(BIN)/python -m benchmarks.gallery_frontier
	$(BIN)/python -m benchmarks.choosing_alpha
	$(BIN)/python -m benchmarks.small_codes
	$(BIN)/python -m benchmarks.codes
	$(BIN)/python -m benchmarks.ablations
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.rounding
	$(BIN)/python -m benchmarks.tpu_aot
	$(BIN)/python -m benchmarks.million
	$(BIN)/python -m benchmarks.gallery_search
	$(BIN)/python -m benchmarks.rehearsal
	$(BIN)/python -m benchmarks.checkpoints
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.class_norms
	$(BIN)/python -m benchmarks.convolutions
	$(BIN)/python -m benchmarks.synthesis
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.closed_loop
	$(BIN)/python -m benchmarks.tutorial
	$(BIN)/python -m benchmarks.tables
	$(BIN)/python -m benchmarks.command_line

wheel: build/wheel/.built

# Without build/lib: what it still holds of deleted modules would come along.
build/wheel/.built: $(PACKAGE) pyproject.toml README.md LICENSE build/builder/.installed
	rm -rf build/lib build/wheel
	build/builder/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build/wheel .
	touch $@

build/builder/.installed: constraints.txt
	python3 -m venv build/builder
	build/builder/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt setuptools
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(INSTALL) --editable '.[all,docs,dev]'
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
