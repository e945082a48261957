# Two commands: `make repro` runs the whole line, `make test` checks everything. Both set up what they need.
PYTHON ?= python3.11
SHELL := /bin/bash
.DEFAULT_GOAL := repro
.DELETE_ON_ERROR:

# DVC runs the stages with the `python` on the path. Nothing here reports to anyone.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: repro data adopt score held-out compare rollback check test test-fast bento serve watch ui bench-ingest bench-training bench-accuracy bench-serving bench-watch bench-drift bench-scale bench-versions

repro: .venv/installed data
	dvc repro
	@echo
	@echo 'Results   reports/TASK/card.html; reports/TASK/metrics.json, plots, search; dvc metrics show'
	@echo 'Runs      make ui      then http://127.0.0.1:5000'
	@echo 'Service   make serve   then http://127.0.0.1:3000'

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo 'Python 3.11 is needed; name it with: make PYTHON=/path/to/python3.11'; exit 1; }
	$(PYTHON) -m venv .venv
	pip install --disable-pip-version-check -c constraints.txt -e '.[pipelines,service,monitoring,ray,server,dev]'
	touch $@

# The default data is drawn; a laboratory's own version of the data is pulled, never replaced by drawn cells.
data: .venv/installed
	@if [ -d data ]; then :; \
	elif grep -q '^desc: drawn by ' data.dvc; then \
	    python -m pipelines.commands.simulate --params params.yaml --out data && dvc commit -q -f data.dvc; \
	else dvc pull data.dvc; fi

# Takes an export into data/ and makes a version of it; git then keeps the version. A laboratory's earlier cells are
# pulled first where they are not here: a version made without them would drop them.
adopt: .venv/installed
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
score: .venv/installed
	@test -n '$(SRC)' -a -n '$(OUT)' || { echo 'name both: make score SRC=folder OUT=folder'; exit 1; }
	python -m service.batch.run '$(SRC)' '$(OUT)' $(if $(TASK),--task '$(TASK)') $(if $(MODEL),--model '$(MODEL)') \
	    $(if $(WORKERS),--workers '$(WORKERS)') $(if $(RAY),--ray '$(RAY)')

check: .venv/installed
	ruff format --check .
	ruff check .
	oxfmt --check 'service/page/*.js' 'tests/page/*.js'
	oxlint --deny-warnings service/page tests/page
	mypy
	lint-imports

# Two processes of one thread each: most tests wait for servers, and those that do not would fight for the cores.
test: check
	OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-fast: .venv/installed
	OMP_NUM_THREADS=1 pytest -m 'not slow' --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What does the model call cells of a medium that it was not trained with?
held-out: .venv/installed
	@test -n '$(TASK)' -a -n '$(MEDIUM)' || { echo 'name both: make held-out TASK=multiclass MEDIUM=NT3'; exit 1; }
	python -m pipelines.commands.leave_one_class_out --params params.yaml --task '$(TASK)' --medium '$(MEDIUM)' \
	    --cells artifacts/cells --splits artifacts/splits.parquet --best 'artifacts/$(TASK)/best.json' --out 'reports/$(TASK)/held_out'

# What changed between two versions, by number or alias?
compare: .venv/installed
	@test -n '$(TASK)' -a -n '$(A)' -a -n '$(B)' || { echo 'name all: make compare TASK=binary A=1 B=champion'; exit 1; }
	python -m pipelines.commands.compare --params params.yaml --task '$(TASK)' --a '$(A)' --b '$(B)' \
	    --cells artifacts/cells --splits artifacts/splits.parquet --out 'reports/$(TASK)/compare'

# Gives the alias champion back to the version before.
rollback: .venv/installed
	@test -n '$(TASK)' -a -n '$(WHY)' || { echo "name both: make rollback TASK=binary WHY='what went wrong'"; exit 1; }
	python -m pipelines.commands.rollback --task '$(TASK)' --why '$(WHY)'

bench-ingest: .venv/installed
	python -m benchmarks.ingest

bench-training: .venv/installed
	python -m benchmarks.training

# Real cells: SETS is the folder that holds malaria.zip and jurkat_ifc.zip.
SETS ?= ../shared/data
bench-accuracy: .venv/installed
	python -m benchmarks.accuracy '$(SETS)'

# A Bento with the champions of the registry in it: it runs without one, and `bentoml containerize` makes an image of it.
bento: .venv/installed
	rm -rf champions
	python -m service.registry.registry_sync champions --once
	bentoml build

# Peers and limits of the service; brings the peers.
bench-serving: .venv/installed
	pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	python -m benchmarks.serving

serve: .venv/installed
	bentoml serve service.gateway:Fatescope --port 3000

# What recording costs the requests.
bench-watch: .venv/installed
	python -m benchmarks.watch

# How often drift is called where there is none, and where there is some; writes docs/explanation/drift.md.
bench-drift: .venv/installed
	python -m benchmarks.drift

# Service, exporter of drift, incidents, Prometheus and Alertmanager on this machine; ends all of them together.
watch: .venv/installed
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

ui: .venv/installed
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 --port 5000

bench-scale: .venv/installed
	python -m benchmarks.scale

bench-versions: .venv/installed
	python -m benchmarks.versions
