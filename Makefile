# `make repro` runs the whole pipeline; `make test` checks the code and runs all tests but the long ones, which
# `make test-long` runs. Each target installs what it needs and no more.
# The first of these that the project supports and that can make a virtual environment.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
    $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
        && echo $$python && break; done)
VENV ?= .venv
SHELL := /bin/bash
.DEFAULT_GOAL := repro
.DELETE_ON_ERROR:
.PRECIOUS: $(VENV)/%.installed

# DVC runs the stages with the `python` on the path.
export PATH := $(abspath $(VENV))/bin:$(PATH)
include fatescope/cli/environment.mk

.PHONY: repro install data adopt score held-out compare rollback check hooks test test-fast test-long test-light fuzz coverage bento serve watch ui lock sbom image-digests browser-runtime

repro: $(VENV)/repro.installed
	fatescope repro

# What each kind of work needs, by the extras of pyproject.toml; installed when a target first needs it.
EXTRAS_repro := pipelines
EXTRAS_serve := service
EXTRAS_ray := service,ray
EXTRAS_watch := service,monitoring
EXTRAS_light := service,monitoring,test
EXTRAS_test := pipelines,service,monitoring,ray,server,lineage,language,test,dev,fuzz
EXTRAS_bench := pipelines,service,monitoring,ray,language,bench,test

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11, 3.12 or 3.13 is needed; name it with: make PYTHON=/path/to/python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS_$*)]'
	touch $@

# The pipeline and the service: what `make repro` and `make serve` install, at once.
install: $(VENV)/repro.installed $(VENV)/serve.installed

# One-line aliases of the command `fatescope`, whose help (`fatescope COMMAND --help`) says what each does. Recipes read
# the arguments from the environment, where make puts them: quotes and spaces in them then mean nothing to the shell.
# The path in a variable, whose ~ the shell that called make may have left as it is.
path = "$${$(1)/\#\~\//$$HOME/}"

data: $(VENV)/repro.installed
	fatescope data fetch

adopt: $(VENV)/repro.installed
	@[[ -n $$SRC ]] || { echo 'name the export: make adopt SRC=folder-or-zip'; exit 1; }
	fatescope data import -- $(call path,SRC)

score: $(VENV)/$(if $(RAY),ray,serve).installed
	@[[ -n $$SRC && -n $$OUT ]] || { echo 'name both: make score SRC=folder OUT=folder'; exit 1; }
	fatescope score --out $(call path,OUT) $${TASK:+--task "$$TASK"} $${MODEL:+--model $(call path,MODEL)} \
	    $${WORKERS:+--workers "$$WORKERS"} $${RAY:+--ray "$$RAY"} -- $(call path,SRC)

check: $(VENV)/test.installed
	ruff format --check .
	ruff check .
	oxfmt --check 'service/page/**/*.js' 'tests/page/**/*.js'
	oxlint --deny-warnings service/page tests/page
	mypy
	lint-imports

# Git then runs the formatters and linters on each commit, mypy and import-linter before each push.
hooks: $(VENV)/test.installed
	pre-commit install

# Two processes of one thread each: most tests wait for servers, and those that do not would fight for the cores.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: check
	$(PYTEST) -m 'not long'

# Whole pipelines and clusters, a minute or more each; CI runs them after `make test` where it has the time.
test-long: $(VENV)/test.installed
	$(PYTEST) -m long

test-fast: $(VENV)/test.installed
	$(PYTEST) -m 'not slow and not long'

# The tests of the library, the service and monitoring that need no PyTorch; `.ci/run` runs them on other Pythons. With
# FAST=1 without the slow ones.
test-light: $(VENV)/light.installed
	$(PYTEST) $(if $(FAST),-m 'not slow and not long') tests/fatescope tests/service tests/monitoring \
	    --ignore tests/fatescope/networks --ignore-glob '*_with_torch.py'

# New inputs for all that reads what others made, for so many minutes; `make test` draws the same ones each time. With
# GUIDED=1, by atheris (Linux on x86-64), towards code that no input has reached; with KEEP=1 too, what reaches such
# code is added to tests/corpus/reached.
fuzz: $(VENV)/test.installed
	OMP_NUM_THREADS=1 python -m tests.$(if $(GUIDED),guided_fuzz $(if $(KEEP),--keep),fuzz) \
	    $(if $(MINUTES),--minutes '$(MINUTES)') $(if $(SEED),--seed '$(SEED)')

# Which lines of the packages the tests run, those of the servers that they start included.
coverage: $(VENV)/test.installed
	$(PYTEST) --cov --cov-report=term --cov-report=xml

held-out: $(VENV)/repro.installed
	@[[ -n $$TASK && -n $$MEDIUM ]] || { echo 'name both: make held-out TASK=multiclass MEDIUM=NT3'; exit 1; }
	fatescope held-out -- "$$TASK" "$$MEDIUM"

compare: $(VENV)/repro.installed
	@[[ -n $$TASK && -n $$A && -n $$B ]] || { echo 'name all: make compare TASK=binary A=1 B=champion'; exit 1; }
	fatescope models compare -- "$$TASK" "$$A" "$$B"

rollback: $(VENV)/repro.installed
	@[[ -n $$TASK && -n $$WHY ]] || { echo "name both: make rollback TASK=binary WHY='what went wrong'"; exit 1; }
	fatescope models rollback --reason "$$WHY" -- "$$TASK"

# Needs the champions of a registry.
bento: $(VENV)/serve.installed
	fatescope bento

serve: $(VENV)/serve.installed
	fatescope serve

watch: $(VENV)/watch.installed
	fatescope watch

ui: $(VENV)/repro.installed
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 --port 5000

# What the image installs, as constraints.txt pins it, with the hash of every file: for Linux on any processor. Asks
# PyPI, so run it after a change of constraints.txt or of an extra that the image has.
lock: $(VENV)/test.installed
	uv pip compile pyproject.toml --extra service --extra monitoring --extra server --constraints constraints.txt \
	    --generate-hashes --universal --python-version 3.11 --no-annotate --quiet \
	    --custom-compile-command 'make lock' --output-file deploy/requirements.txt

# What is installed here, as a CycloneDX list with licences. The image has its own, /app/sbom.cdx.json.
sbom: $(VENV)/test.installed
	mkdir -p reports
	cyclonedx-py environment --pyproject pyproject.toml --spec-version 1.6 --output-format JSON --output-reproducible \
	    --output-file reports/sbom.cdx.json $(VENV)/bin/python

# Writes the digest of every image of others into deploy/, so that a tag that is moved changes nothing. Asks registries.
image-digests: $(VENV)/test.installed
	python deploy/pin_images.py

# The runtime with which the page runs models in the browser, as its folder's README.md names it. Asks npm.
browser-runtime: $(VENV)/test.installed
	python deploy/fetch_browser_runtime.py

# bench-NAME runs the benchmark NAME; bench-accuracy and bench-labels take SETS, the folder that holds malaria.zip and
# jurkat_ifc.zip, bench-native OBJECTS, how many the file has, and PEER, a Python that has python-bioformats, and bench-gpu
# and bench-labels SMALL=1, which checks the program on a CPU, or with a fraction of the cells.
bench-%: $(VENV)/bench.installed
	fatescope bench $${SETS:+--sets $(call path,SETS)} $${OBJECTS:+--objects "$$OBJECTS"} \
	    $${PEER:+--peer-python $(call path,PEER)} $${SMALL:+--small} -- '$*'
