# The two commands are `make run` and `make test`; both make the virtual environment they need.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DATA_DIR ?= rqdisco-data
ARGS ?=

.PHONY: run test simulate chaos lint types check coverage bench soak audit clean

run: $(VENV)/installed
	$(BIN)/twistd --nodaemon --pidfile= rqdisco --data-dir $(DATA_DIR) --operator-socket $(DATA_DIR).sock $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(ARGS)

# Of the seeds a tenth with five daemons, a quarter with two; in a twentieth more, unused IDs are forgotten.
SEEDS ?= 2000
simulate: $(VENV)/installed-test
	$(BIN)/python -m tests.simulated --daemons 3 --seeds $$(($(SEEDS) * 13 / 20)) $(ARGS)
	$(BIN)/python -m tests.simulated --daemons 2 --seeds $$(($(SEEDS) / 4)) $(ARGS)
	$(BIN)/python -m tests.simulated --daemons 5 --seeds $$(($(SEEDS) / 10)) $(ARGS)
	$(BIN)/python -m tests.simulated --daemons 3 --seeds $$(($(SEEDS) / 20)) --faults all,expiry $(ARGS)

# Faults at three real daemons while clusters form; the events of each ID without one cluster go to --out.
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

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks $(ARGS)

# Ten minutes, as root with a full disk among them; SECONDS=120 is for trying, and keeps nothing.
SECONDS ?= 600
soak: $(VENV)/installed
	$(BIN)/python -m benchmarks.soak --seconds $(SECONDS) $(ARGS)

# Known vulnerabilities of what is installed, as PyPI tells them: it needs https://pypi.org/pypi, and says so where that
# is not there. pip-audit has an environment of its own, so that it does not audit what it needs itself.
audit: $(VENV)/installed
	test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && \
		$(VENV)-audit/bin/python -m pip install --quiet 'pip-audit>=2.9,<3'; }
	$(VENV)-audit/bin/pip-audit --strict --skip-editable \
		--path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-audit build *.egg-info .coverage* .mypy_cache .ruff_cache .hypothesis

# editable_mode=compat puts the sources on sys.path, where Twisted looks for plugins; setuptools' default does not. It
# warns of that mode in a box of ten lines, which is no news here.
INSTALL = PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --config-settings editable_mode=compat --editable

$(VENV)/installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(INSTALL) '.[test]'
	touch $@
