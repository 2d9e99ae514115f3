"""Transports: how a payload travels, whatever it says."""
