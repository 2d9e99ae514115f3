"""What runs, and when: settings, wiring, flows, workers, command line, embedded PostgreSQL."""
