"""TLS contexts from the settings; a file that cannot be read is named with its setting."""

import pathlib
import ssl
from collections.abc import Callable

from adapters.transport.tls import client_context, server_context
from conformance.problem import InvalidContent, Issue
from ops.settings import Settings


def mllp_listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return the MLLP listener's context, or None where no certificate is set."""
    certificate, key = settings.mllp_certificate, settings.mllp_key
    if certificate is None:
        return None
    if key is None:
        raise InvalidContent(_issue("QIAO_MLLP_KEY", "is not set beside QIAO_MLLP_CERTIFICATE"))
    authorities = settings.mllp_client_authorities
    return _read(
        lambda: server_context(certificate=certificate, key=key, client_authorities=authorities),
        "QIAO_MLLP_CERTIFICATE, QIAO_MLLP_KEY or QIAO_MLLP_CLIENT_AUTHORITIES",
    )


def province_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return the context that trusts the province's authorities only; None: the system's."""
    authorities = settings.province_authorities
    if authorities is None:
        return None
    return _read(lambda: client_context(authorities=authorities), "QIAO_PROVINCE_AUTHORITIES")


def demo_tls(
    settings: Settings, certificate: pathlib.Path | None, key: pathlib.Path | None
) -> ssl.SSLContext | None:
    """Return the context of a call to our own listener, which trusts its very certificate.

    None where MLLP speaks plainly. `certificate` and `key` are ours, where callers must show one.
    """
    pinned = settings.mllp_certificate
    if pinned is None:
        return None

    def make() -> ssl.SSLContext:
        context = client_context(authorities=pinned, certificate=certificate, key=key)
        # The certificate itself is known, whoever signed it and whatever name it bears.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    return _read(make, "QIAO_MLLP_CERTIFICATE, --certificate or --key")


def sender_tls(
    authorities: pathlib.Path | None, certificate: pathlib.Path | None, key: pathlib.Path | None
) -> ssl.SSLContext | None:
    """Return the context of `qiao send`, or None where no authority is named."""
    if authorities is None:
        return None
    return _read(
        lambda: client_context(authorities=authorities, certificate=certificate, key=key),
        "--authorities, --certificate or --key",
    )


def _read(make: Callable[[], ssl.SSLContext], names: str) -> ssl.SSLContext:
    try:
        return make()
    except OSError as broken:
        reason = getattr(broken, "reason", None) or broken.strerror or type(broken).__name__
        raise InvalidContent(_issue(names, f"cannot be used: {reason}")) from None


def _issue(names: str, words: str) -> Issue:
    return Issue(
        key="setting",
        text_en=f"{names} {words}",
        text_zh=f"{names} 无法使用",
        fix_en="give readable PEM files: a certificate with its chain, its key without a password",
        fix_zh="请提供可读的 PEM 文件：含证书链的证书，以及无口令的私钥",
    )
