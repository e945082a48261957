# `make repro` runs the whole pipeline, `make test` checks everything. Each target installs what it needs and no more.
# The first of these that the project supports and that can make a virtual environment.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
    $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
        && echo $$python && break; done)
VENV ?= .venv
SHELL := /bin/bash
.DEFAULT_GOAL := repro
.DELETE_ON_ERROR:

# DVC runs the stages with the `python` on the path. Nothing here reports to anyone.
export PATH := $(abspath $(VENV))/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: repro install data adopt score held-out compare rollback check hooks test test-fast test-light coverage bento serve watch ui bench-ingest bench-training bench-accuracy bench-serving bench-watch bench-drift bench-scale bench-versions

repro: $(VENV)/repro.installed data
	dvc repro
	@echo
	@echo 'Results   reports/TASK/card.html; reports/TASK/metrics.json, plots, search; dvc metrics show'
	@echo 'Runs      make ui      then http://127.0.0.1:5000'
	@echo 'Service   make serve   then http://127.0.0.1:3000'

# What each kind of work needs, by the extras of pyproject.toml; installed when a target first needs it.
EXTRAS_repro := pipelines
EXTRAS_serve := service
EXTRAS_ray := service,ray
EXTRAS_watch := service,monitoring
EXTRAS_light := service,monitoring,test
EXTRAS_test := pipelines,service,monitoring,ray,server,test,dev
EXTRAS_bench := pipelines,service,monitoring,ray,bench,test

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11, 3.12 or 3.13 is needed; name it with: make PYTHON=/path/to/python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS_$*)]'
	touch $@

# The pipeline and the service: what `make repro` and `make serve` install, at once.
install: $(VENV)/repro.installed $(VENV)/serve.installed

# The default data is drawn; a laboratory's own version of the data is pulled, never replaced by drawn cells.
data: $(VENV)/repro.installed
	@if [ -d data ]; then :; \
	elif grep -q '^desc: drawn by ' data.dvc; then \
	    python -m pipelines.commands.simulate --params params.yaml --out data && dvc commit -q -f data.dvc; \
	else dvc pull data.dvc; fi

# Takes an export into data/ and makes a version of it; git then keeps the version. A laboratory's earlier cells are
# pulled first where they are not here: a version made without them would drop them.
adopt: $(VENV)/repro.installed
	@test -n '$(SRC)' || { echo 'name the export: make adopt SRC=folder-or-zip'; exit 1; }
	@if [ ! -d data ] && [ -f data.dvc ] && ! grep -q '^desc: drawn by ' data.dvc; then \
	    dvc pull data.dvc; fi
	python -m pipelines.commands.import_data --params params.yaml --source '$(SRC)' --out data
	@if [ -f data.dvc ]; then sed -i.old '/^desc: drawn by /d' data.dvc && rm data.dvc.old; fi
	dvc add --quiet data
	@echo
	@echo 'To keep this version of the data:'
	@echo "  git add data.dvc params.yaml"
	@echo "  git commit -m 'Adopt $(notdir $(SRC))'"

# Classifies the images of a folder, however many; TASK=, MODEL=, WORKERS= and RAY= choose (python -m service.batch.run --help).
score: $(VENV)/$(if $(RAY),ray,serve).installed
	@test -n '$(SRC)' -a -n '$(OUT)' || { echo 'name both: make score SRC=folder OUT=folder'; exit 1; }
	python -m service.batch.run '$(SRC)' '$(OUT)' $(if $(TASK),--task '$(TASK)') $(if $(MODEL),--model '$(MODEL)') \
	    $(if $(WORKERS),--workers '$(WORKERS)') $(if $(RAY),--ray '$(RAY)')

check: $(VENV)/test.installed
	ruff format --check .
	ruff check .
	oxfmt --check 'service/page/*.js' 'tests/page/*.js'
	oxlint --deny-warnings service/page tests/page
	mypy
	lint-imports

# Git then runs the formatters and linters on each commit, mypy and import-linter before each push.
hooks: $(VENV)/test.installed
	pre-commit install

# Two processes of one thread each: most tests wait for servers, and those that do not would fight for the cores.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: check
	$(PYTEST)

test-fast: $(VENV)/test.installed
	$(PYTEST) -m 'not slow'

# The tests of the library, the service and monitoring that need no PyTorch; `.ci/run` runs them on every Python.
test-light: $(VENV)/light.installed
	$(PYTEST) tests/fatescope tests/service tests/monitoring \
	    --ignore tests/fatescope/networks --ignore tests/service/inference/test_engines_with_torch.py

# Which lines of the packages the tests run, those of the servers that they start included.
coverage: $(VENV)/test.installed
	$(PYTEST) --cov --cov-report=term --cov-report=xml

# What does the model call cells of a medium that it was not trained with?
held-out: $(VENV)/repro.installed
	@test -n '$(TASK)' -a -n '$(MEDIUM)' || { echo 'name both: make held-out TASK=multiclass MEDIUM=NT3'; exit 1; }
	python -m pipelines.commands.leave_one_class_out --params params.yaml --task '$(TASK)' --medium '$(MEDIUM)' \
	    --cells artifacts/cells --splits artifacts/splits.parquet --best 'artifacts/$(TASK)/best.json' --out 'reports/$(TASK)/held_out'

# What changed between two versions, by number or alias?
compare: $(VENV)/repro.installed
	@test -n '$(TASK)' -a -n '$(A)' -a -n '$(B)' || { echo 'name all: make compare TASK=binary A=1 B=champion'; exit 1; }
	python -m pipelines.commands.compare --params params.yaml --task '$(TASK)' --a '$(A)' --b '$(B)' \
	    --cells artifacts/cells --splits artifacts/splits.parquet --out 'reports/$(TASK)/compare'

# Gives the alias champion back to the version before.
rollback: $(VENV)/repro.installed
	@test -n '$(TASK)' -a -n '$(WHY)' || { echo "name both: make rollback TASK=binary WHY='what went wrong'"; exit 1; }
	python -m pipelines.commands.rollback --task '$(TASK)' --why '$(WHY)'

bench-ingest: $(VENV)/bench.installed
	python -m benchmarks.ingest

bench-training: $(VENV)/bench.installed
	python -m benchmarks.training

# Real cells: SETS is the folder that holds malaria.zip and jurkat_ifc.zip.
SETS ?= ../shared/data
bench-accuracy: $(VENV)/bench.installed
	python -m benchmarks.accuracy '$(SETS)'

# A Bento with the champions of the registry in it: it runs without one, and `bentoml containerize` makes an image of it.
bento: $(VENV)/serve.installed
	rm -rf champions
	python -m service.registry.registry_sync champions --once
	bentoml build

# Peers and limits of the service.
bench-serving: $(VENV)/bench.installed
	python -m benchmarks.serving

serve: $(VENV)/serve.installed
	bentoml serve service.gateway:Fatescope --port 3000

# What recording costs the requests.
bench-watch: $(VENV)/bench.installed
	python -m benchmarks.watch

# How often drift is called where there is none, and where there is some; writes docs/explanation/drift.md.
bench-drift: $(VENV)/bench.installed
	python -m benchmarks.drift

# Service, exporter of drift, incidents, Prometheus and Alertmanager on this machine; ends all of them together.
watch: $(VENV)/watch.installed
	@command -v prometheus >/dev/null && command -v prometheus-alertmanager >/dev/null || { \
	    echo 'Prometheus and Alertmanager are needed (Debian: apt install prometheus prometheus-alertmanager)'; exit 1; }
	@trap 'kill 0' EXIT; \
	    bentoml serve service.gateway:Fatescope --port 3000 & \
	    python -m monitoring.exporter & \
	    python -m monitoring.incidents & \
	    prometheus-alertmanager --config.file monitoring/prometheus/alertmanager.yml --storage.path .prometheus/alerts \
	        --web.listen-address 127.0.0.1:9093 --cluster.listen-address= & \
	    prometheus --config.file monitoring/prometheus/prometheus.yml --storage.tsdb.path .prometheus \
	        --web.listen-address 127.0.0.1:9090 & \
	    echo 'Service http://127.0.0.1:3000, Prometheus http://127.0.0.1:9090, drift http://127.0.0.1:9300'; wait

ui: $(VENV)/repro.installed
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 --port 5000

bench-scale: $(VENV)/bench.installed
	python -m benchmarks.scale

bench-versions: $(VENV)/bench.installed
	python -m benchmarks.versions
