# make demo   install into .venv and run the whole job on phantom X-rays (no data, no network after the install)
# make test   install what the checks need and run them all
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test faults lint format docs wheel schema lock sbom audit clean

help:
	@sed -n 's/^# make/make/p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: medidistill needs Python 3.11 or newer; try make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "cannot create $(VENV); on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# What is installed is what the lock names, each file compared with its hash; the project itself comes without a question
# to an index. The stamps make a second run start at once. The install is editable, so sources need no new one.
LOCK := constraints-hashes.txt
locked = $(BIN)/python tools/locked.py $(1) > $(VENV)/locked.txt && \
  $(BIN)/python -m pip install --require-hashes --no-deps --requirement $(VENV)/locked.txt
editable = $(BIN)/python -m pip install --no-deps --no-build-isolation --editable .

$(VENV)/.installed: pyproject.toml $(LOCK) | $(BIN)/python
	$(call locked,core app build)
	$(editable)
	@touch $@

$(VENV)/.installed-checks: pyproject.toml $(LOCK) | $(BIN)/python
	$(call locked,test lint)
	$(editable)
	@touch $@ $(VENV)/.installed $(VENV)/.installed-build

$(VENV)/.installed-build: pyproject.toml $(LOCK) | $(BIN)/python
	$(call locked,build)
	@touch $@

$(VENV)/.installed-supply: pyproject.toml $(LOCK) | $(BIN)/python
	$(call locked,supply)
	@touch $@

# every demo gets a folder of its own: results are never overwritten
demo: $(VENV)/.installed
	@n=1; while [ -e demo-output/$$n ]; do n=$$((n + 1)); done; \
	  $(BIN)/medidistill demo --output demo-output/$$n

lint: $(VENV)/.installed-checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# processes of the tests; each computes with one thread
WORKERS ?= 2

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# make faults run the fault campaign (hours; root, for its small file systems) and write its counts into docs/reliability.md
faults: $(VENV)/.installed-checks
	rm -f faults.json
	MEDIDISTILL_FAULT_REPORT=$(CURDIR)/faults.json $(BIN)/pytest -m "slow or not slow" tests/faults tests/cli/test_release.py \
	  tests/pipelines/test_nightly.py tests/pipelines/test_intake_keeping.py tests/pipelines/test_intake_killed.py
	$(BIN)/python -m benchmarks.reliability_page faults.json

# make format reformat and sort imports
format: $(VENV)/.installed-checks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed-docs: pyproject.toml $(LOCK) | $(BIN)/python
	$(call locked,docs)
	@touch $@

# make docs   build the documentation site, with the API reference from the docstrings, into build/docs; a broken link fails
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/docs/index.html"

# make wheel  build the wheel into dist/, with its bill of materials; needs no test package
wheel: $(VENV)/.installed-build
	$(BIN)/python -m build --wheel --no-isolation

# make schema write the JSON Schema of the configuration, for editors; run it after each change of a setting
schema: $(VENV)/.installed
	$(BIN)/medidistill config schema > schema.new && mv schema.new pipelines/configs/medidistill.schema.json

# make lock   write the lock and its pins after a change of pyproject.toml; versions stay where they still fit.
#             make lock UPGRADE=--upgrade takes today's newest; run the tests before you commit them
lock: $(VENV)/.installed-supply
	@{ echo "# The lock: one version of each package for every platform, with the SHA-256 of every file that an index may hand"; \
	   echo "# out for it. Written by \`make lock\`; constraints.txt is the same without hashes, tools/locked.py reads groups."; \
	   $(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --fork-strategy fewest $(UPGRADE) \
	     $(if $(UPGRADE),,--constraint constraints.txt) --no-header --annotation-style line --no-emit-index-url --quiet \
	   | sed -e 's/, -c constraints.txt//; s/# via -c constraints.txt, /# via /; s/medidistill (pyproject.toml)/medidistill/'; \
	 } > $(LOCK).new && mv $(LOCK).new $(LOCK)
	@$(BIN)/python tools/locked.py --pins > constraints.txt.new && mv constraints.txt.new constraints.txt

# make sbom   write the bill of materials (CycloneDX) of the core and every extra of use, as the wheel carries it, to sbom.json
sbom: $(VENV)/.installed-build
	$(BIN)/python tools/sbom.py > sbom.json.new && mv sbom.json.new sbom.json

# make audit  compare the lock with the known vulnerabilities and say as of when; needs the network
audit: $(VENV)/.installed-supply
	$(BIN)/python tools/advisories.py

# make clean  remove caches and build results; demo-output/ and .venv stay
clean:
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
