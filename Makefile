# The two commands are `make run` and `make test`. Every target makes the virtual environment it needs.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DATA_DIR ?= rqdisco-data
ARGS ?=

.PHONY: run test test-quick test-all simulate chaos lint types check coverage configuration docs release bench soak audit clean

run: $(VENV)/installed
	$(BIN)/rqdisco serve --data-dir $(DATA_DIR) --operator-socket $(DATA_DIR).sock --log-format text $(ARGS)

# Several processes run the tests, one module at a time each; ARGS=-n0 has one process run them all, in order.
# Compiled modules are kept, also where the environment says otherwise: compiling them takes longer than most tests.
PYTEST = PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(abspath $(VENV))/compiled $(BIN)/python -m pytest \
	--numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-test
	$(PYTEST) $(ARGS)

# A minute: the units, and the APIs that nodes use.
QUICK = tests/unit $(addprefix tests/http/test_,discovery.py consul.py cluster_health.py)
LEFT_OUT = $(addprefix tests/unit/test_,migration.py full_disk.py runbook.py virtual_clusters.py)
test-quick: $(VENV)/installed-test
	$(PYTEST) $(QUICK) $(LEFT_OUT:%=--ignore=%) $(ARGS)

# Types and the fast tests on each supported Python of this machine, each in an environment of its own.
FAST = tests/unit tests/http tests/simulated
PYTHONS ?= $(shell .ci/interpreters)
test-all:
	@set -e; for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "Python $$version: $$python"; \
		other="PYTHON=$$python VENV=$(VENV)-$$version"; \
		$(MAKE) --no-print-directory $$other types; \
		$(MAKE) --no-print-directory $$other test ARGS="--quiet $(FAST) $(ARGS)"; \
	done

# 65 % of the seeds run with three daemons, 25 % with two, 10 % with five; 5 % more expire unused IDs. Half as many
# run stateless daemons over a model etcd.
SEEDS ?= 2000
simulate: $(VENV)/installed-test
	$(BIN)/python -m tests.simulated --daemons 3 --seeds $$(($(SEEDS) * 13 / 20)) $(ARGS)
	$(BIN)/python -m tests.simulated --daemons 2 --seeds $$(($(SEEDS) / 4)) $(ARGS)
	$(BIN)/python -m tests.simulated --daemons 5 --seeds $$(($(SEEDS) / 10)) $(ARGS)
	$(BIN)/python -m tests.simulated --daemons 3 --seeds $$(($(SEEDS) / 20)) --faults all,expiry $(ARGS)
	$(BIN)/python -m tests.simulated.etcd --daemons 3 --seeds $$(($(SEEDS) * 3 / 25)) $(ARGS)
	$(BIN)/python -m tests.simulated.etcd --daemons 2 --seeds $$(($(SEEDS) / 25)) $(ARGS)
	$(BIN)/python -m tests.simulated.etcd --daemons 4 --seeds $$(($(SEEDS) / 25)) $(ARGS)

# IDs under faults at three real daemons. --out names the directory for the events of those without one cluster.
IDS ?= 900
chaos: $(VENV)/installed-test
	$(BIN)/python -m tests.chaos --ids $(IDS) $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-test
	$(BIN)/mypy --strict rqdisco/
	$(BIN)/mypy tests benchmarks

check: lint types test

coverage: $(VENV)/installed-test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/unit tests/http
	$(BIN)/coverage combine
	$(BIN)/coverage report

# docs/configuration.md, from the options of the daemon and the variables of the command.
configuration: $(VENV)/installed
	$(BIN)/python docs/write_configuration.py

# The documentation as a site. Warnings are errors, a broken link among them; nothing is fetched to check links.
docs: $(VENV)/installed-docs
	$(BIN)/sphinx-build -W --keep-going -n -q -j auto -d build/doctrees docs build/docs
	@echo build/docs/index.html

# The distributions, in dist. Each is tried in an empty environment; nothing is uploaded.
release: $(VENV)-release/installed
	rm -rf dist
	$(VENV)-release/bin/python -m build --outdir dist .
	$(VENV)-release/bin/twine check --strict dist/*
	set -e; for file in $(CURDIR)/dist/*; do \
		rm -rf build/try; \
		$(PYTHON) -m venv build/try; \
		build/try/bin/python -m pip install --quiet $$file; \
		(cd / && $(CURDIR)/build/try/bin/twistd --help | grep '^ *rqdisco '); \
		(cd / && $(CURDIR)/build/try/bin/rqdisco --help | grep '^Usage: rqdisco '); \
	done
	rm -rf build/try
	@ls dist

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks $(ARGS)

# Ten minutes of faults; as root, a full disk is one of them. SECONDS=120 is for trying, and writes no results.
SECONDS ?= 600
soak: $(VENV)/installed
	$(BIN)/python -m benchmarks.soak --seconds $(SECONDS) $(ARGS)

# Known vulnerabilities of what is installed. It needs https://pypi.org/pypi. pip-audit has an environment of its own,
# so that its own dependencies are not audited.
audit: $(VENV)/installed
	test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && \
		$(VENV)-audit/bin/python -m pip install --quiet 'pip-audit>=2.9,<3'; }
	$(VENV)-audit/bin/pip-audit --strict --skip-editable \
		--path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info .coverage* .mypy_cache .ruff_cache .hypothesis

# editable_mode=compat puts the sources on sys.path, where Twisted looks for plugins; setuptools' default does not.
# PYTHONWARNINGS silences setuptools' ten-line warning about that mode.
INSTALL = PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --config-settings editable_mode=compat --editable

$(VENV)/installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rqdisco needs Python 3.11 or newer: name one with PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Making a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing rqdisco and the packages that it needs into $(VENV); the first time this takes a minute"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(INSTALL) .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing the packages that the tests need into $(VENV)"
	@$(INSTALL) '.[test]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	@echo "Installing the packages that the documentation needs into $(VENV)"
	@$(INSTALL) '.[docs]'
	@touch $@

$(VENV)-release/installed:
	$(PYTHON) -m venv $(VENV)-release
	$(VENV)-release/bin/python -m pip install --quiet 'build>=1.2,<2' 'twine>=6,<8'
	touch $@
