"""SM3 (GB/T 32905-2016) and HMAC-SM3 (GM/T 0042-2015)."""

import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC


def sm3(data: bytes) -> bytes:
    """Return the digest, 32 bytes."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


def hmac_sm3(key: bytes, data: bytes) -> bytes:
    """Return the keyed digest, 32 bytes."""
    keyed = HMAC(key, hashes.SM3())
    keyed.update(data)
    return keyed.finalize()


def is_same(expected: bytes, found: bytes) -> bool:
    """Compare in a time that does not tell how much was right."""
    return hmac.compare_digest(expected, found)
