# MedVeil: two commands do everything, set-up included.
#   make demo          the main job on drawn DICOM phantoms
#   make test          lint, types, import contracts, all tests
#   make test-slow     what make test leaves out as it takes many seconds of a core
#   make test-faults   kill, cut, fill and corrupt a real consortium, and print what happened
#   make demo-flower   the demo through Flower's own simulation
#   make docs          build the documentation's site below build/site, offline; fails on a broken link or figure
#   make consortium    a real coordinator and three real hospitals on this machine, each command printed as it is typed
#   make release       wheel, sdist, CycloneDX bill of materials and SHA256SUMS, below build/release
#   make bench         speed, as ratios measured in one run
#   make tools         unpack dciodvfy, which checks DICOM files, below build/tools (Debian; no root)
#   make orthanc       unpack Orthanc, a PACS to test against, below build/orthanc (Debian 12; no root)

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= demo-run
SITES  ?= 3
REPORT ?= build/test-report.xml
TYPES  := build/types.txt
JOBS   ?= 4
# On Linux one process collects and its children run; elsewhere each worker of pytest-xdist collects for itself.
SPREAD := $(if $(filter Linux,$(shell uname)),--forks $(JOBS),-n $(JOBS) --dist loadfile --no-loadscope-reorder)

# Ends a run when make ends, also when make is killed.
TIED   := $(BIN)/python -IS medveil/leash.py --parent --

# What keeps Flower and Ray from calling home or installing anything.
export FLWR_TELEMETRY_ENABLED = 0
export FLWR_DISABLE_UPDATE_CHECK = 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION = 1
export RAY_USAGE_STATS_ENABLED = 0
# Compiled once, not by each of the many processes that a run and its tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-flower consortium release test lint types contracts tests test-slow test-faults docs docs-results docs-take bench tools orthanc format clean

help:
	@grep -E '^#   ' $(MAKEFILE_LIST) | sed 's/^#   //'

$(BIN)/python:
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing MedVeil into $(VENV)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-flower: $(VENV)/.installed
	@echo "installing Ray for Flower's simulation"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[simulation]'
	@touch $@

# All at once, and compiled when it is imported: of 18,000 files the tests import a quarter.
$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing MedVeil and what its tests need into $(VENV)"
	@$(BIN)/python tests/support/installing.py test
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "installing what builds the documentation"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(VENV)/.installed
	@$(TIED) $(BIN)/medveil-sim run simulations/conf/demo.yaml --out $(OUT) --replace

demo-flower: $(VENV)/.installed-flower
	@$(TIED) $(BIN)/medveil-sim run simulations/conf/demo.yaml --out $(OUT)-flower --replace --engine flower

consortium: $(VENV)/.installed
	@$(TIED) $(BIN)/medveil-sim consortium --sites $(SITES)

$(VENV)/.installed-release: $(VENV)/.installed
	@echo "installing what builds a release"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[release]'
	@touch $@

release: $(VENV)/.installed-release
	@rm -rf build/release
	@$(BIN)/python .ci/release.py build/release

# Types beside the tests, as mypy takes most of a minute of one core where it has no cache, and told of after them.
test: lint contracts
	@mkdir -p $(dir $(TYPES))
	@$(BIN)/mypy > $(TYPES) 2>&1 & types=$$!; \
		$(MAKE) --no-print-directory tests; tests=$$?; \
		wait $$types; types=$$?; \
		echo "== types"; cat $(TYPES); \
		exit $$((tests ? tests : types))
	@echo "all checks passed; report: $(REPORT)"

lint: $(VENV)/.installed-test
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	@echo "== types"
	@$(BIN)/mypy

contracts: $(VENV)/.installed-test
	@echo "== import contracts"
	@$(BIN)/lint-imports

# One thread each: with more, the threads of all workers and their processes spin while they wait for a core.
tests test-slow test-faults: export OMP_NUM_THREADS = 1
tests: $(VENV)/.installed-test
	@echo "== tests"
	@mkdir -p $(dir $(REPORT))
	@$(BIN)/pytest -m "not faults and not slow" $(SPREAD) --junitxml=$(REPORT)

test-slow: $(VENV)/.installed-test
	@echo "== slow tests"
	@$(BIN)/pytest -m slow $(SPREAD)

test-faults: $(VENV)/.installed-test
	@echo "== faults"
	@MEDVEIL_FAULTS=build/faults.json $(BIN)/pytest tests -m "fault or faults" --disable-warnings -rN

# PYTHONPATH: docs/tools/ is no part of the installed program. The variable silences an advertisement of MkDocs' theme.
docs: export PYTHONPATH = docs/tools
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.installed-docs
	@$(BIN)/python -m docsite check
	@$(BIN)/python -W ignore::DeprecationWarning -m mkdocs build --quiet --strict --clean
	@$(BIN)/python -m docsite outside
	@echo "documentation: build/site/index.html"

docs-results: export PYTHONPATH = docs/tools
docs-results: $(VENV)/.installed
	@$(BIN)/python -m docsite write

# FROM: the folder of a comparison or an ablation. AS: what to call it in docs/results.
docs-take: export PYTHONPATH = docs/tools
docs-take: $(VENV)/.installed
	@$(BIN)/python -m docsite take "$(FROM)" $(AS)

bench: $(VENV)/.installed
	@$(BIN)/medveil-sim bench --json bench.json

tools: build/tools/usr/bin/dciodvfy

build/tools/usr/bin/dciodvfy:
	@echo "unpacking dicom3tools into build/tools"
	@mkdir -p build/tools
	@cd build/tools \
		&& apt-get -qq download dicom3tools \
		&& dpkg-deb -x dicom3tools_*.deb . \
		&& rm dicom3tools_*.deb

# Of Debian 12; on another release the names of libraries have other numbers.
ORTHANC := orthanc orthanc-dicomweb libwrap0 libdcmtk17 dcmtk libcivetweb1 libboost-thread1.74.0 \
	libboost-locale1.74.0 liblua5.3-0 libpugixml1v5

orthanc: build/orthanc/usr/sbin/Orthanc

build/orthanc/usr/sbin/Orthanc:
	@echo "unpacking Orthanc into build/orthanc"
	@mkdir -p build/orthanc
	@cd build/orthanc \
		&& apt-get -qq download $(ORTHANC) \
		&& for each in *.deb; do dpkg-deb -x $$each . || exit 1; done \
		&& rm *.deb

format: $(VENV)/.installed-test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf demo-run demo-run-flower build .pytest_cache .mypy_cache .ruff_cache
