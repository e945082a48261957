"""Environment variables of the pipeline's programs: what differs between machines and decides no result.

Each program reads them once, when it starts, and passes the object on. What decides a result is in `params.yaml`.
"""

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class PipelineSettings(BaseSettings):
    """Where the pipeline keeps its studies and runs, and where its workers run."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        case_sensitive=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    studies: str | None = Field(None, validation_alias="FATESCOPE_STUDIES", repr=False)
    """Address of a database of Optuna studies as SQLAlchemy writes it, such as `postgresql://user:password@host/name`,
    for searches that several machines share. Without it the study is the journal file of the stage."""
    heartbeat_s: PositiveInt = Field(15, validation_alias="FATESCOPE_HEARTBEAT_S")
    """Seconds between two signs of life of a worker of a search in the database. A worker that misses four is lost,
    and its trial is tried again."""
    ray: str | None = Field(None, validation_alias="FATESCOPE_RAY")
    """Address of the Ray cluster that runs the workers of a search; `auto` for the cluster of this machine. Needs
    `FATESCOPE_STUDIES` and `MLFLOW_TRACKING_URI`."""
    price_per_hour: float | None = Field(None, ge=0, allow_inf_nan=False, validation_alias="FATESCOPE_PRICE_PER_HOUR")
    """Price of an hour of the machine, in any currency, for the cost of cells on the card; without it there is none."""
    price_per_kwh: float | None = Field(None, ge=0, allow_inf_nan=False, validation_alias="FATESCOPE_PRICE_PER_KWH")
    """Price of a kWh, in the same currency, where its energy is not in that of the hour."""
    hub_dataset: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$", validation_alias="FATESCOPE_HUB_DATASET")
    """Name of the laboratory's data set on the Hugging Face Hub, `OWNER/NAME`, for the results of a version
    (`eval_results.yaml`), which the Hub lists with it. Without it they name one that is not there."""
    tracking_uri: str | None = Field(None, validation_alias="MLFLOW_TRACKING_URI", repr=False)
    """Address of the MLflow server. MLflow reads this variable itself; without it, it keeps `mlflow.db` in the current
    folder."""
    visible_gpus: str | None = Field(None, validation_alias="CUDA_VISIBLE_DEVICES")
    """Comma-separated GPUs that the program may use, as CUDA reads it. The workers of a search get one each."""
    world_size: PositiveInt = Field(1, validation_alias="WORLD_SIZE")
    """Number of processes that train one network together; set by `torchrun`."""
    local_rank: int = Field(0, ge=0, validation_alias="LOCAL_RANK")
    """Number of this process on its machine, from 0, which is also the number of its GPU; set by `torchrun`."""
