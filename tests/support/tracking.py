"""MLflow stores for tests: MLflow takes seconds to create the tables of one, and a copy of them none."""

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import mlflow


def new_store(folder):
    """Write an empty MLflow database into `folder`, and return its address."""
    (folder / "mlflow.db").write_bytes(_template())
    return f"sqlite:///{folder}/mlflow.db"


@cache
def _template():
    with tempfile.TemporaryDirectory(prefix="fatescope-test-") as name:
        path = Path(name) / "mlflow.db"
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
        with closing(sqlite3.connect(path)) as connection, connection:
            # It names the folder of this process; MLflow makes one anew where there is none.
            connection.execute("DELETE FROM experiments")
        return path.read_bytes()
