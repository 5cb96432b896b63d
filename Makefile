# make demo        the whole pipeline on the built-in dataset (two cores, minutes); ARGS="--seed 1" goes to fairsynth
# make test        the tests, all of them
# make test-fast   those that need no run and no Ray, at most two minutes: before every commit
# make lint        style and types
# make audit       looks the pinned packages up among known vulnerabilities; says so where no service can be reached
# make docs        the pages of docs/ as a site, in build/site
# make notebooks   executes examples/*.ipynb again; the demo's opens runs/demo, or makes it
PYTHON ?= python3
PIP_FLAGS ?= --quiet --disable-pip-version-check
ARGS ?=

# The stamps say that the packages are installed; a changed dependency or pin makes them stale.
RUNTIME := .venv/.installed
DEVELOPMENT := .venv/.installed-dev
REQUIREMENTS := pyproject.toml constraints.txt
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)

AUDIT := .venv-audit/.installed

.PHONY: demo test test-fast lint audit docs notebooks
.DELETE_ON_ERROR:

demo: $(RUNTIME)
	.venv/bin/fairsynth run --preset demo --out runs/demo --yes $(ARGS)

test: $(DEVELOPMENT)
	.venv/bin/python -m tests.support.store.s3_server
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(DEVELOPMENT)
	.venv/bin/python -m tests.support.store.s3_server
	.venv/bin/python -m pytest -n 2 --dist loadfile -m 'not slow'

lint: $(DEVELOPMENT)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

audit: $(AUDIT)
	.venv-audit/bin/python .ci/audit.py

docs: $(DEVELOPMENT)
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml

notebooks: $(DEVELOPMENT)
	.venv/bin/python examples/execute.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "fairsynth needs Python 3.11 or newer, and $(PYTHON) is not; name one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# torch comes first and alone: by far the largest download, and whatever build of it is there is then kept.
$(RUNTIME): $(REQUIREMENTS) | .venv/bin/python
	.venv/bin/python -m pip install $(PIP_FLAGS) $(TORCH)
	.venv/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

# pip-audit has pins of its own that are not the project's.
$(AUDIT): Makefile
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install $(PIP_FLAGS) pip-audit==2.10.1
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	.venv/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@
