"""The row engine: maps of rows read both ways, compiled to closures when they are loaded."""
