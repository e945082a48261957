# The environment of every program that `make` or `fatescope` starts, unless it is set otherwise, in the one form that
# both read.
# Nothing reports to anyone.
export DVC_NO_ANALYTICS ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export BENTOML_DO_NOT_TRACK ?= True
export RAY_USAGE_STATS_ENABLED ?= 0
# Text and the names of files are UTF-8 whatever the locale is.
export PYTHONUTF8 ?= 1
# In the project, because DVC's default, /var/tmp/dvc, is open to everyone on the machine.
export DVC_SITE_CACHE_DIR ?= .dvc/tmp/site
