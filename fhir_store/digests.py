"""64-bit digests that are no index keys: of bodies, for finding unchanged writes, and of locks."""

from hashlib import blake2b


def content_digest(content: bytes) -> int:
    """Return the number that is equal for equal content (`resource.chash`)."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True)


def lock_number(*words: str) -> int:
    """Return the number of the lock or the exclusive key that these words name."""
    return content_digest("\x1f".join(words).encode("utf-8", "surrogatepass"))
