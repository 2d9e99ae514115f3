"""Every setting of the hub, read from the environment (`QIAO_…`)."""

import ipaddress
import pathlib
from typing import Literal
from urllib.parse import urlsplit

import psycopg.conninfo
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
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
    http_port: int = Field(
        default=8080, ge=0, le=65_535, description="Port of HTTP; 0 takes a free one."
    )
    mllp_port: int = Field(
        default=2575, ge=0, le=65_535, description="Port of MLLP; 0 takes a free one."
    )
    channels: pathlib.Path | None = Field(
        default=None,
        description="Folder of channel files (`*.yaml`), one MLLP port each; absent, there is one "
        "channel `his` on QIAO_MLLP_PORT.",
    )
    mllp_frame_bytes: int = Field(
        default=16 * 2**20,
        ge=1024,
        le=256 * 2**20,
        description="Bytes of one MLLP frame: a scanned document in OBX-5 fits, one sender cannot "
        "fill the memory. Over it: AR, and the connection is closed.",
    )
    mllp_frame_seconds: float = Field(
        default=15.0,
        gt=0,
        description="From a frame's first byte to its last: 16 MiB pass in it at 9 Mbit/s, and a "
        "sender that trickles holds nothing open. After it the connection is closed.",
    )
    mllp_opening_seconds: float = Field(
        default=60.0,
        gt=0,
        description="From connecting to the first byte of a frame; a port scan does not stay.",
    )
    mllp_idle_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Without a frame on a connection that has had one; quiet nights are usual.",
    )
    mllp_reply_seconds: float = Field(
        default=30.0,
        gt=0,
        description="For a sender to read its answers; until then nothing more of it is read.",
    )
    mllp_handshake_seconds: float = Field(
        default=10.0, gt=0, description="For the TLS handshake of a new connection."
    )
    mllp_connections: int = Field(
        default=1000,
        ge=1,
        description="MLLP connections of one channel: each holds a socket of the process.",
    )
    mllp_connections_per_peer: int = Field(
        default=50,
        ge=1,
        description="Of one address, so that one sender cannot take the room of the others.",
    )
    mllp_frames_in_flight: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Frames of one connection that are kept at once; above 1 a sender that does "
        "not wait goes faster, and may see its order changed where keeping one of them fails.",
    )
    mllp_held_bytes: int = Field(
        default=256 * 2**20,
        ge=2**20,
        description="Bytes of the unfinished frames of all connections of a channel together; "
        "whoever goes over it is closed.",
    )
    mllp_garbage: Literal["close", "log"] = Field(
        default="close",
        description="What bytes outside a frame do: close the connection, or only a log line.",
    )
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
    doctor_review: Literal["required", "recorded"] = Field(
        default="required",
        description="Who may sign contracts: doctors whose registration was approved, or also "
        "those without one who have a recorded qualification.",
    )
    relative_identity: Literal["verified", "recorded"] = Field(
        default="verified",
        description="Which relatives may act for a resident who consents: those whose identity was "
        "verified by camera or in person (`RelatedPerson/[id]/$verify`, level 3 or 4), or all.",
    )
    review_stages: Literal[1, 2] = Field(
        default=1,
        description="How many reviews an application needs at least: by the institution, or also "
        "by the community or authority above it; a package may ask for two itself.",
    )
    test_regions: str = Field(
        default="",
        description="Administrative codes of tests, separated by commas, whose ID cards pass "
        "(999001); `qiao up` lets that one pass.",
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
    subscription_endpoints: str = Field(
        default="",
        description="Beginnings of the addresses that rest-hook subscriptions may call, comma "
        "between them; absent, none, or those of loopback while QIAO_AUTH=off.",
    )
    sms_url: str | None = Field(
        default=None, description="The SMS cloud (SendSms); absent, nobody is sent an SMS."
    )
    sms_secret_id: str = Field(default="", description="Secret id of the SMS account.")
    sms_secret_key: SecretStr | None = Field(
        default=None, description="Secret key of the SMS account, for TC3-HMAC-SHA256."
    )
    sms_app_id: str = Field(default="", description="Application id of the SMS account.")
    sms_sign_name: str = Field(default="", description="Signature that stands before each SMS.")
    sms_templates: str = Field(
        default="", description="Template ids by kind of message: renewal=1001,*=1000."
    )
    faceid_url: str | None = Field(
        default=None,
        description="The service that compares name, ID card and face (Tencent Cloud faceid) for "
        "`$prove-identity`; absent, checks are only recorded with `$verify`.",
    )
    faceid_secret_id: str = Field(default="", description="Secret id of the faceid account.")
    faceid_secret_key: SecretStr | None = Field(
        default=None, description="Secret key of the faceid account, for TC3-HMAC-SHA256."
    )
    wechat_url: str | None = Field(
        default=None,
        description="WeChat's interface; absent, nobody is sent a subscription message.",
    )
    wechat_app_id: str = Field(default="", description="App id of the mini program.")
    wechat_secret: SecretStr | None = Field(
        default=None, description="Secret of the mini program, for the access token."
    )
    wechat_page: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9_\-][A-Za-z0-9_\-/]*)?$",
        description="Page of the mini program that messages and codes open, without a slash at "
        "its beginning; absent, its first page.",
    )
    wechat_templates: str = Field(
        default="", description="Template ids by kind of message: renewal=abc,*=def."
    )
    quiet_hours: str = Field(
        default="21:00-08:00",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        description="When nobody is disturbed, local time; urgent requests go nevertheless.",
    )
    keep_messages_days: int = Field(
        default=90,
        ge=0,
        description="Days after its end that a message keeps its bytes and trace, a delivery its "
        "document and receipt: long enough to look into a complaint. 0: for ever.",
    )
    keep_rows_days: int = Field(
        default=400,
        ge=0,
        description="Days after its end that the row stays, with names, times and answer: over a "
        "year, for yearly reports and for senders that send again. 0: for ever.",
    )
    lane_workers: int = Field(
        default=2,
        description="Tasks of one process that translate inbound messages; `qiao up` shares them "
        "among its processes of workers.",
    )
    worker_processes: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Processes of `qiao up` that translate and deliver, beside the one that "
        "listens: as many as there are processors keep all of them busy after a rush.",
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

    @field_validator("database_url")
    @classmethod
    def require_database_address(cls, given: str | None) -> str | None:
        """Refuse what libpq cannot read as the address of a server."""
        try:
            psycopg.conninfo.conninfo_to_dict(given or "")
        except psycopg.ProgrammingError:
            message = "no address of PostgreSQL; write postgresql://USER:PASSWORD@HOST:5432/NAME"
            raise ValueError(message) from None
        return given

    @field_validator("amqp_url")
    @classmethod
    def require_broker_address(cls, given: str | None) -> str | None:
        """Refuse what is no AMQP address."""
        message = "no address of a broker; write amqp://USER:PASSWORD@HOST:5672/VHOST"
        if given is not None:
            try:
                parts = urlsplit(given)
                is_address = parts.scheme in ("amqp", "amqps") and parts.port != 0
            except ValueError:  # a port that is no number
                raise ValueError(message) from None
            if not is_address:
                raise ValueError(message)
        return given

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
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # of settings that do not go together: the message says what to do
        return Issue(
            key="setting",
            text_en=message,
            text_zh="设置互相矛盾",
            fix_en="see docs/reference/settings.md",
            fix_zh="见 docs/reference/settings.md",
        )
    name = f"QIAO_{str(error['loc'][0]).upper()}"
    return Issue(
        key="setting",
        text_en=f"{name}: {message}",
        text_zh=f"设置 {name} 无效",
        fix_en=f"correct or unset {name}; see docs/reference/settings.md",
        fix_zh=f"更正或取消设置 {name}，见 docs/reference/settings.md",
    )
