"""How one vocabulary becomes another, both ways: row engine, maps, code tables, cases; pure."""
