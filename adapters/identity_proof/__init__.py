"""Whether a person is who the record says: the services that compare cards and faces."""
