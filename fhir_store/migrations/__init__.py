"""The schema's history: each revision executes the .sql file of its own name."""
