"""What several benchmarks measure on: databases, people, loads."""
