# make demo   install into .venv and run the whole job on phantom X-rays (no data, no network after the install)
# make test   install what the checks need and run them all
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs wheel schema constraints hashes sbom audit clean

help:
	@sed -n 's/^# make/make/p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: medidistill needs Python 3.11 or newer; try make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "cannot create $(VENV); on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# The stamps make a second run start at once. The install is editable, so sources need no new one.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-checks: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[test,lint]'
	@touch $@ $(VENV)/.installed

# every demo gets a folder of its own: results are never overwritten
demo: $(VENV)/.installed
	@n=1; while [ -e demo-output/$$n ]; do n=$$((n + 1)); done; \
	  $(BIN)/medidistill demo --output demo-output/$$n

lint: $(VENV)/.installed-checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

# make format reformat and sort imports
format: $(VENV)/.installed-checks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make docs   write the reference of every public name, from the docstrings, into build/docs
docs: $(VENV)/.installed-checks
	$(BIN)/pdoc --docformat google --output-directory build/docs \
	  $$(find medidistill -name '*.py' ! -name __main__.py | sed 's|/__init__||; s|\.py$$||; s|/|.|g' | sort)
	@echo "open build/docs/index.html"

# make wheel  build the wheel into dist/
wheel: $(VENV)/.installed-checks
	$(BIN)/python -m build --wheel --no-isolation

# make schema write the JSON Schema of the configuration, for editors; run it after each change of a setting
schema: $(VENV)/.installed
	$(BIN)/medidistill config schema > schema.new && mv schema.new pipelines/configs/medidistill.schema.json

# make constraints  take today's newest versions that pyproject.toml allows; run the tests before you commit them
constraints:
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(PYTHON) -m venv "$$tmp" && \
	  "$$tmp"/bin/python -m pip install '.[test,lint]' && \
	  { echo "# The exact versions that the tests ran with, on Linux and Python 3.11. Written by \`make constraints\`."; \
	    "$$tmp"/bin/python -m pip freeze --all --exclude medidistill --exclude pip; } > constraints.txt.new && \
	  mv constraints.txt.new constraints.txt

# make hashes  write constraints-hashes.txt, for `pip install --require-hashes`; run it after each change of constraints.txt
hashes: | $(BIN)/python
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(PYTHON) -m venv "$$tmp" && \
	  "$$tmp"/bin/python -m pip install --quiet uv && \
	  "$$tmp"/bin/uv pip compile constraints.txt --no-deps --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --python-version 3.11 --quiet --output-file "$$tmp"/hashes.txt && \
	  { echo "# constraints.txt with the SHA-256 of every file that an index may hand out for it. Written by \`make hashes\`."; \
	    cat "$$tmp"/hashes.txt; } > constraints-hashes.txt.new && mv constraints-hashes.txt.new constraints-hashes.txt

# make sbom   write sbom.json, the bill of materials (CycloneDX) of what is installed in .venv
sbom: $(VENV)/.installed
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(PYTHON) -m venv "$$tmp" && \
	  "$$tmp"/bin/python -m pip install --quiet cyclonedx-bom && \
	  "$$tmp"/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json $(BIN)/python

# make audit  compare constraints.txt with the known vulnerabilities; needs the network, and fails where a package is unknown there
audit: | $(BIN)/python
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(PYTHON) -m venv "$$tmp" && \
	  "$$tmp"/bin/python -m pip install --quiet pip-audit && \
	  "$$tmp"/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

# make clean  remove caches and build results; demo-output/ and .venv stay
clean:
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
