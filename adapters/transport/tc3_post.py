"""Calls of Tencent Cloud's API 3.0: a signed POST of JSON for each action of a service."""

import datetime
import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapters.transport.http_post import HttpPoster, HttpReply, NoReply
from adapters.transport.tc3 import signed_headers


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAccount:
    """An account at one service; `endpoint` is such as `https://sms.tencentcloudapi.com`."""

    endpoint: str
    secret_id: str
    secret_key: str
    region: str = "ap-guangzhou"


class Tc3Poster:
    """Signs and posts what is asked of one version of a service."""

    def __init__(
        self,
        account: CloudAccount,
        *,
        service: str,
        version: str,
        reply_seconds: float,
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._account = account
        self._service = service
        self._version = version
        self._clock = clock
        self._host = urllib.parse.urlsplit(account.endpoint).netloc
        self._poster = HttpPoster(account.endpoint, reply_seconds=reply_seconds)

    async def post(self, action: str, asked: dict[str, Any]) -> HttpReply | NoReply:
        """Ask for one action."""
        body = json.dumps(asked, ensure_ascii=False).encode()
        headers = signed_headers(
            secret_id=self._account.secret_id,
            secret_key=self._account.secret_key,
            service=self._service,
            host=self._host,
            action=action,
            version=self._version,
            region=self._account.region,
            body=body,
            at=self._clock(),
        )
        return await self._poster.post(body, headers)

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._poster.close()
