"""The maps themselves: YAML beside the few functions that rows call by `py:`."""
