"""履约: the services that a contract promises, as Tasks that fall due and are done."""
