"""Every setting of the hub, read from the environment (`QIAO_…`)."""

import ipaddress
import pathlib
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from conformance.problem import InvalidContent, Issue


class Settings(BaseSettings):
    """One instance is the whole configuration of one process; docs/reference/settings.md."""

    model_config = SettingsConfigDict(env_prefix="QIAO_", extra="ignore", frozen=True)

    home: pathlib.Path = Field(
        default=pathlib.Path(".qiao"), description="Data folder: embedded PostgreSQL, logs, ports."
    )
    host: str = Field(default="127.0.0.1", description="Address that HTTP and MLLP listen on.")
    http_port: int = Field(default=8080, description="Port of HTTP; 0 takes a free one.")
    mllp_port: int = Field(default=2575, description="Port of MLLP; 0 takes a free one.")
    mllp_certificate: pathlib.Path | None = Field(
        default=None, description="PEM certificate of the MLLP port; with it MLLP speaks TLS only."
    )
    mllp_key: pathlib.Path | None = Field(
        default=None, description="PEM key of that certificate, without a password."
    )
    mllp_client_authorities: pathlib.Path | None = Field(
        default=None,
        description="PEM authorities; with them MLLP senders must show a certificate of one.",
    )
    database_url: str | None = Field(
        default=None,
        description="A PostgreSQL server (15 or later) to use instead of the embedded one.",
    )
    database_connections: int = Field(
        default=10, description="Connections to PostgreSQL that one process opens at most."
    )
    amqp_url: str | None = Field(
        default=None, description="A RabbitMQ broker; absent, that adapter is off."
    )
    auth: Literal["on", "off"] = Field(
        default="on", description="`off` lets everybody do everything, on loopback only."
    )
    claimed_profiles: Literal["enforce", "warn", "off"] = Field(
        default="enforce",
        description="What a write does with the profiles in `meta.profile` that are known here: "
        "refuse what breaks them, only tell in `$validate`, or ignore them.",
    )
    issuer: str | None = Field(
        default=None, description="Issuer of the bearer tokens (`iss`), an OpenID provider."
    )
    audience: str | None = Field(
        default=None, description="Audience the tokens must name (`aud`): our FHIR base."
    )
    jwks_url: str | None = Field(
        default=None, description="Where the issuer's public keys are (JWKS)."
    )
    page_secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="What seals the page links of searches, the same in all processes; absent, the "
        "database keeps one.",
    )
    lane_workers: int = Field(
        default=2, description="Tasks of one process that translate inbound messages."
    )
    province_url: str | None = Field(
        default=None, description="SOAP endpoint of the province; absent, nothing is sent there."
    )
    province_key: SecretStr | None = Field(
        default=None, description="Key shared with the province, for the HMAC-SM3 signature."
    )
    province_org_code: str = Field(
        default="HUB", description="Our institution code in the province's envelopes."
    )
    province_org_name: str = Field(
        default="Qiao", description="Our institution's name in the province's envelopes."
    )
    province_is_idempotent: bool = Field(
        default=False,
        description="Whether the province takes the same message id twice without harm.",
    )

    province_reply_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long an answer of the province is waited for; then it is asked about.",
    )
    province_authorities: pathlib.Path | None = Field(
        default=None,
        description="PEM authorities that the province's HTTPS must come from; else the system's.",
    )

    @model_validator(mode="after")
    def refuse_open_doors(self) -> "Settings":
        """Refuse access control switched off where other machines can reach us."""
        if self.auth == "off" and not _is_loopback(self.host):
            message = (
                f"QIAO_AUTH=off is for loopback only, and QIAO_HOST is {self.host}. "
                "Next: set QIAO_HOST=127.0.0.1, or configure QIAO_ISSUER and QIAO_JWKS_URL."
            )
            raise ValueError(message)
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(**fixed: object) -> Settings:
    """Return the settings of the environment; InvalidContent names each that cannot be read."""
    try:
        return Settings(**fixed)  # type: ignore[arg-type]
    except ValidationError as failure:
        raise InvalidContent(*(_issue_of(error) for error in failure.errors())) from None


def _issue_of(error: ErrorDetails) -> Issue:
    name = f"QIAO_{str(error['loc'][0]).upper()}" if error["loc"] else "the settings"
    return Issue(
        key="setting",
        text_en=f"{name}: {error['msg'].removeprefix('Value error, ')}",
        text_zh=f"设置 {name} 无效",
        fix_en=f"correct or unset {name}; see docs/reference/settings.md",
        fix_zh=f"更正或取消设置 {name}，见 docs/reference/settings.md",
    )
