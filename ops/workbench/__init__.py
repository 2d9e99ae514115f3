"""What the commands of the maps do with messages, documents, sheets and tables."""
