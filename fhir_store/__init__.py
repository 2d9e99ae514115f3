"""What we keep: resources, versions, search index, inbox, outbox and audit; all SQL is here."""
