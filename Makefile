# Each target sets itself up: `make demo` and `make test` work from a fresh clone, in any folder, twice at once.
# Paths are relative on purpose (make can't quote a folder's name), and nothing calls a console script (a long path breaks
# its first line).

PYTHON ?=
ARGS ?=
PY := .venv/bin/python

unexport PYTHONPATH PYTHONHOME
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.PHONY: help setup demo serve test lint faults storm bench clean

help:                      ## what there is to make
	@sed -n 's/^\([a-z]*\): .*## /  make \1\t/p' Makefile | expand -t 18

setup:                     ## the virtual environment .venv with pinned packages (Python 3.11 to 3.13)
	@sh deployments/setup.sh "$(PYTHON)"

demo: setup                ## two sites, backups, a proof, a planted fault caught; a site lost: claimed against observed
	@$(PY) -m deployments.lab.demo $(ARGS)

serve: setup               ## a Prefect server and worker with our deployments, beside the lab
	@$(PY) -m deployments.serve $(ARGS)

test: setup lint           ## everything that CI runs
	$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov=recovery --cov-branch --cov-fail-under=100 $(ARGS)

lint: setup                ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

faults: setup              ## every planted fault, and the table of which were detected
	@$(PY) -m deployments.lab.planted $(ARGS)

storm: setup               ## the same proof again and again, under load: no false alarm
	@$(PY) -m deployments.lab.storm $(ARGS)
	@$(PY) -m deployments.lab.storm_changes $(FAILOVERS)
	@$(PY) -m pytest -m slow tests/stories tests/time

bench: setup               ## speeds against the peers and the machine's own limits
	@$(PY) -m tests.bench.steps $(STEPS_ARGS)
	@$(PY) -m tests.bench.first $(FIRST_ARGS)
	@$(PY) -m tests.bench.outage $(OUTAGE_ARGS)
	@$(PY) -m tests.bench $(ARGS)

clean:                     ## remove what make made, but never a home
	rm -rf .venv .venv.lock build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f .coverage .coverage.*
	find recovery tasks flows runbooks deployments tests -name __pycache__ -type d -prune -exec rm -rf {} +
