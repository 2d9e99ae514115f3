"""One module per revision, `rNNNN_subject.py` beside `rNNNN_subject.sql`."""
