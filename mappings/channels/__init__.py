"""Channels: what the hub agreed with each sender, declared in YAML."""
