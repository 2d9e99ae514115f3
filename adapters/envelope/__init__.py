"""Signed envelopes: fields, digest and signature around a payload, each partner's rule as data."""
