"""TLS for the transports: at least 1.2, and client certificates where an authority is named."""

import pathlib
import ssl


def server_context(
    *, certificate: pathlib.Path, key: pathlib.Path, client_authorities: pathlib.Path | None = None
) -> ssl.SSLContext:
    """Return the context of a listener; with `client_authorities` callers must show a certificate.

    All three are PEM files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_authorities is not None:
        context.load_verify_locations(client_authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    *,
    authorities: pathlib.Path,
    certificate: pathlib.Path | None = None,
    key: pathlib.Path | None = None,
) -> ssl.SSLContext:
    """Return the context of a caller that trusts `authorities` only and checks the host's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(authorities)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
