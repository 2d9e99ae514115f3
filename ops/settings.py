"""Every setting of the hub, read from the environment (`QIAO_…`)."""

import pathlib

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One instance is the whole configuration of one process; docs/reference/settings.md."""

    model_config = SettingsConfigDict(env_prefix="QIAO_", extra="ignore", frozen=True)

    home: pathlib.Path = Field(
        default=pathlib.Path(".qiao"), description="Data folder: embedded PostgreSQL, logs, ports."
    )
    host: str = Field(default="127.0.0.1", description="Address that HTTP and MLLP listen on.")
    http_port: int = Field(default=8080, description="Port of HTTP; 0 takes a free one.")
    mllp_port: int = Field(default=2575, description="Port of MLLP; 0 takes a free one.")
    database_url: str | None = Field(
        default=None,
        description="A PostgreSQL server (15 or later) to use instead of the embedded one.",
    )
    amqp_url: str | None = Field(
        default=None, description="A RabbitMQ broker; absent, that adapter is off."
    )
    auth: str = Field(
        default="on", description="`off` lets everybody do everything, on loopback only."
    )
