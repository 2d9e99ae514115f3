"""The signature TC3-HMAC-SHA256 of Tencent Cloud's API 3.0, both sides of it.

https://cloud.tencent.com/document/api/382/52072. Signed are the method, the path, three headers
and the body's digest; the key is derived for the day and the service.
"""

import datetime
import hashlib
import hmac
from collections.abc import Mapping

ALGORITHM = "TC3-HMAC-SHA256"
CONTENT_TYPE = "application/json; charset=utf-8"
_SIGNED = "content-type;host;x-tc-action"
CLOCK_SKEW = datetime.timedelta(minutes=5)


def signed_headers(
    *,
    secret_id: str,
    secret_key: str,
    service: str,
    host: str,
    action: str,
    version: str,
    region: str,
    body: bytes,
    at: datetime.datetime,
) -> dict[str, str]:
    """Return the headers of a signed POST to `/`."""
    stamp = int(at.timestamp())
    day = datetime.datetime.fromtimestamp(stamp, datetime.UTC).date().isoformat()
    signature = _signature(secret_key, service, host, action, body, stamp, day)
    scope = f"{day}/{service}/tc3_request"
    return {
        "content-type": CONTENT_TYPE,
        "x-tc-action": action,
        "x-tc-version": version,
        "x-tc-region": region,
        "x-tc-timestamp": str(stamp),
        "authorization": f"{ALGORITHM} Credential={secret_id}/{scope}, "
        f"SignedHeaders={_SIGNED}, Signature={signature}",
    }


def check(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secret_id: str,
    secret_key: str,
    service: str,
    now: datetime.datetime,
) -> str | None:
    """Return the provider's error code for a request that is not signed right; None if it is."""
    try:
        stamp = int(headers.get("x-tc-timestamp", ""))
    except ValueError:
        return "InvalidParameter"
    if abs(now.timestamp() - stamp) > CLOCK_SKEW.total_seconds():
        return "AuthFailure.SignatureExpire"
    day = datetime.datetime.fromtimestamp(stamp, datetime.UTC).date().isoformat()
    action, host = headers.get("x-tc-action", ""), headers.get("host", "")
    wanted = (
        f"{ALGORITHM} Credential={secret_id}/{day}/{service}/tc3_request, SignedHeaders={_SIGNED}, "
        f"Signature={_signature(secret_key, service, host, action, body, stamp, day)}"
    )
    given = headers.get("authorization", "")
    if f"Credential={secret_id}/" not in given:
        return "AuthFailure.SecretIdNotFound"
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        return "AuthFailure.SignatureFailure"
    return None


def _signature(
    secret_key: str, service: str, host: str, action: str, body: bytes, stamp: int, day: str
) -> str:
    canonical = "\n".join(
        (
            "POST",
            "/",
            "",
            f"content-type:{CONTENT_TYPE}\nhost:{host.lower()}\nx-tc-action:{action.lower()}\n",
            _SIGNED,
            hashlib.sha256(body).hexdigest(),
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}\n{stamp}\n{day}/{service}/tc3_request\n{digest}"
    key = f"TC3{secret_key}".encode()
    for part in (day, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()
