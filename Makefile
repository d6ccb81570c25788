# Everything happens in .venv, which is made when absent. A stamp file for each set of extras
# repeats the installation when pyproject.toml has changed, and only then.

PYTHON ?= python3
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
MIN_PYTHON := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help install demo test notebooks gpu wheels lint types clean

help:
	@echo "make install    .venv with the library and its commands, then: source .venv/bin/activate"
	@echo "make demo       train a decoding policy on the shipped bundle, evaluate it, write runs/demo"
	@echo "make test       run the test suite, doctests included; one file: make test ARGS=tests/test_x.py"
	@echo "make notebooks  run the notebooks in full, in place: their pictures and numbers are renewed"
	@echo "make gpu        checks and measurements on a GPU, with the torch that PYTHON has; see eval/bench/gpu.sh"
	@echo "make wheels     what such a machine lacks, into .wheels: there, WHEELS=.wheels make gpu"
	@echo "make lint       check style and formatting (ruff)"
	@echo "make types      check types (pyright)"
	@echo "make clean      remove .venv, caches and build products; runs/ stays"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter of a new .venv, ARGS=... adds to demo, test, notebooks."

install: $(VENV)/.installed

demo: $(VENV)/.installed
	@echo "==> Training and evaluating a decoding policy; the report goes to runs/demo"
	@$(VENV)/bin/nat-study demo $(ARGS)

test: $(VENV)/.installed-test
	@echo "==> Running the tests"
	@NAT_FAST=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -q --nbmake -n 2 $(ARGS)

# Only what is needed to open them is kept of the metadata: the rest changes with every run.
# Threads wait as those of the commands do, see nat_env/commands/threads.py.
notebooks: $(VENV)/.installed-notebooks
	@echo "==> Running the notebooks in full; a quarter to half an hour on two cores"
	@env -u NAT_FAST GOMP_SPINCOUNT=1000 PYTHONWARNINGS='ignore:IProgress not found' $(RUN) -m nbconvert --to notebook --inplace --execute \
		--ClearMetadataPreprocessor.enabled=True \
		--ClearMetadataPreprocessor.preserve_nb_metadata_mask='{"kernelspec", ("language_info", "name")}' \
		$(or $(ARGS),$(wildcard notebooks/*.ipynb))

gpu:
	@PYTHON=$(PYTHON) bash eval/bench/gpu.sh

# Beside torch, numpy and the usual packages: of ours, and of theirs, what is not among those.
MISSING ?= gymnasium farama-notifications stable-baselines3 sb3-contrib diffusers tyro typeguard \
	docstring-parser annotated-types cma importlib-metadata
WHEELS ?= .wheels
WHEELS_PYTHON ?= 3.12

wheels:
	@$(PYTHON) -m pip download -q --no-deps --only-binary=:all: --python-version $(WHEELS_PYTHON) \
		-d $(WHEELS) $(MISSING)

lint: $(VENV)/.installed-dev
	@echo "==> Checking style and formatting"
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check

types: $(VENV)/.installed-dev
	@echo "==> Checking types"
	@$(VENV)/bin/pyright

clean:
	@echo "==> Removing .venv, caches and build products"
	@rm -rf $(VENV) .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that venv puts there: an interrupted creation is repeated.
$(VENV)/bin/pip:
	@$(PYTHON) -c '$(MIN_PYTHON)' || \
		{ echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12" >&2; exit 1; }
	@echo "==> Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

comma := ,

define install
	@echo "==> Installing nat-env[$(1)] into $(VENV); the first time takes a minute or more"
	@$(RUN) -m pip install -qq -e '.[$(1)]'
	@touch $@
endef

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(call install,eval$(comma)pretrain)

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/pip
	$(call install,test)

$(VENV)/.installed-notebooks: pyproject.toml | $(VENV)/bin/pip
	$(call install,notebooks)

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	$(call install,dev)
