"""Benchmarks: one module each, `async def run() -> dict` with the raw limit of the same run."""
