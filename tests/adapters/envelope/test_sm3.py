"""SM3 and HMAC-SM3 give the published and the independent answers."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.envelope.sm3 import hmac_sm3, is_same, sm3

needs_openssl_sm3 = pytest.mark.skipif(
    "sm3" not in hashlib.algorithms_available, reason="this OpenSSL has no SM3 to compare with"
)


def test_the_examples_of_the_standard() -> None:
    """GB/T 32905-2016, annex A."""
    abc = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    blocks = "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"
    assert sm3(b"abc").hex() == abc
    assert sm3(b"abcd" * 16).hex() == blocks


@needs_openssl_sm3
@given(st.binary(min_size=1, max_size=200), st.binary(max_size=300))
def test_openssl_agrees(key: bytes, data: bytes) -> None:
    assert sm3(data) == hashlib.new("sm3", data).digest()
    assert hmac_sm3(key, data) == hmac.new(key, data, "sm3").digest()


def test_comparison_sees_every_difference() -> None:
    assert is_same(b"abc", b"abc")
    assert not is_same(b"abc", b"abd")
    assert not is_same(b"abc", b"abcd")
