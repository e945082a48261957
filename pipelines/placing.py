"""Places the workers of a search on a Ray cluster, at the address that `FATESCOPE_RAY` names (`auto`: this machine's).

Each is a task that takes a GPU, where the cluster has some, or the CPUs of its threads, and is not begun again by Ray:
what a lost worker was at is tried again by the others, through the database of studies.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

from pipelines.core import cluster
from pipelines.core.errors import ParamsError
from pipelines.searching import STUDIES

log = logging.getLogger(__name__)

ADDRESS = "FATESCOPE_RAY"
TRACKING = "MLFLOW_TRACKING_URI"
_SHARED = ("FATESCOPE_", "MLFLOW_", "AWS_", "OMP_")
"""What the names of variables begin with that a worker needs, wherever it is."""


def place(work: Callable[..., None], arguments: tuple[Any, ...], count: int, threads: int) -> None:
    """Run `work(*arguments)` in `count` processes of the cluster, and wait.

    Files that `arguments` name must be at the same place on every node. Raises ParamsError where the workers could not
    find each other, or Ray is not installed.
    """
    for name in (STUDIES, TRACKING):
        if name not in os.environ:
            raise ParamsError(
                f"{ADDRESS} is set, but not {name}: workers on many machines need one that they all reach"
            )
    with cluster.joined(os.environ[ADDRESS], aloud=True) as ray:
        needs = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": threads}
        known = {name: value for name, value in os.environ.items() if name.startswith(_SHARED)}
        job = ray.remote(max_retries=0)(work)
        begun = [job.options(**needs, runtime_env={"env_vars": known}).remote(*arguments) for _ in range(count)]
        for i, each in enumerate(begun):
            try:
                ray.get(each)
            except ray.exceptions.RayError as error:
                log.warning("worker %d was lost (%s); the others went on", i, type(error).__name__)
