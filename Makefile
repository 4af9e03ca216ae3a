# make train, make test: each sets up all it needs, once.  make help lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# The other Hydra that the tests run against, laid over the installed one.
OVERLAY := $(VENV)/hydra-1.4
ARGS ?=
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help setup again train test test-all lint bench constraints clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(VENV)/.ready ## .venv with everything, from constraints.txt; TORCH_INDEX=URL takes torch from elsewhere
train: setup ## train on digits; ARGS="epochs=5" are passed on
	@$(BIN)/python train.py $(ARGS)
	@echo 'next:  . .venv/bin/activate  and then  python train.py --help'

test: setup lint ## the quick suite: minutes, nothing but Python
	$(BIN)/pytest -n 2 --dist loadfile -m 'not more' $(ARGS)

test-all: test ## and what needs more: the other Hydra, containers, kills, servers, thousands of examples
	$(PIP) -c constraints.txt -e '.[mlflow]'
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --timeout=900 -m more $(ARGS)
	PYTHONPATH=$(OVERLAY) $(BIN)/pytest -n 2 --dist loadfile -m 'hydra and not more' $(ARGS)
	ALPHARD_TEST_COLD=1 $(BIN)/pytest -n 2 tests/test_bad_input.py tests/test_train.py $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup ## ratios against references in the same script
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit; done

$(VENV)/.ready: pyproject.toml constraints.txt $(if $(TORCH_INDEX),again)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 15) else f"alphard needs Python 3.11 to 3.14; $(PYTHON) is {v.major}.{v.minor}: make setup PYTHON=python3.12")'
	@echo 'setting up .venv: one to three minutes'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --force-reinstall --no-deps --index-url $(TORCH_INDEX) $(TORCH))
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --target $(OVERLAY) --upgrade --no-deps hydra-core==1.4.0rc3 omegaconf==2.4.1rc1
	@touch $@

again: # what is set up is set up anew where torch shall come from elsewhere

constraints: ## write constraints.txt anew from what pyproject.toml admits today
	rm -rf $(VENV)-new && $(PYTHON) -m venv $(VENV)-new
	$(VENV)-new/bin/pip install --quiet -e '.[dev,mlflow,vertex]'
	{ sed -n '/^#/p' constraints.txt; $(VENV)-new/bin/pip freeze --all --exclude-editable | sed 's/+cpu$$//' \
	  | grep -v '^\(pip\|hydra-core\|omegaconf\|antlr4-python3-runtime\)=='; \
	  grep 'python_version' constraints.txt; } >constraints.tmp
	mv constraints.tmp constraints.txt && rm -rf $(VENV)-new

clean: ## remove what runs and tools leave, and .venv
	rm -rf $(VENV) outputs multirun .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
