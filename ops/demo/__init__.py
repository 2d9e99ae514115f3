"""The demonstration: a synthetic district, and one message on its way."""
