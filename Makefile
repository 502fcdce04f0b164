# make setup   an environment in .venv with everything that is needed
# make demo    the main job on sample data: table, picture and screenshot in demo-output/
# make test    all checks and tests
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup system demo test clean

PYTHON ?= python3
# extra arguments for PyTorch alone, for example the index of a CPU or CUDA build
TORCH_PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

# what Qt and OpenGL need on a bare Debian or Ubuntu, and a display without a screen
SYSTEM_PACKAGES := xvfb xauth libegl1 libgl1 libgl1-mesa-dri libglx-mesa0 libopengl0 libdbus-1-3 libfontconfig1 \
  libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 \
  libxcb-shape0 libxcb-xinerama0 libxcb-xkb1

help:
	@sed -n 's/^# make /make /p' Makefile

setup: $(STAMP)

# only what is missing, only on Debian and Ubuntu; words instead of a failure when it cannot be installed
system:
	@command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || exit 0; \
	installed=" $$(dpkg-query -W -f='$${db:Status-Status} $${Package} ' $(SYSTEM_PACKAGES) 2>/dev/null || true)"; \
	missing=""; \
	for name in $(SYSTEM_PACKAGES); do [[ "$$installed" == *" installed $$name "* ]] || missing+=" $$name"; done; \
	command -v $(PYTHON) >/dev/null || missing+=" python3"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing+=" python3-venv python3-pip"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "These system packages are missing; napari may not open its window: apt-get install$$missing"; exit 0; fi; \
	echo "Installing system packages:$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } \
	  || echo "Could not install them; napari may not open its window."

# torch first and alone: otherwise the default build (CUDA on Linux, gigabytes) comes with the project
$(STAMP): pyproject.toml constraints.txt | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version 2>&1) was found; choose one with: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing PyTorch, then the rest; the first time takes a few minutes."
	$(BIN)/python -m pip install --quiet $(TORCH_PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]' napari PySide6-Essentials
	@touch $@

demo: setup
	@$(BIN)/vsmlm demo --output demo-output

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/npe2 validate napari.yaml
	$(BIN)/npe2 validate --imports napari-volumetric-smlm
	@# a throw-away settings file, and a real canvas even where somebody chose the offscreen platform
	settings=$$(mktemp -d) && trap 'rm -rf "$$settings"' EXIT && \
	  env -u QT_QPA_PLATFORM NAPARI_CONFIG="$$settings/settings.yaml" $(BIN)/python -m pytest -q

clean:
	rm -rf build dist demo-output benchmark-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
