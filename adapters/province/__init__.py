"""The province's registration service: what it takes, how it answers, and a simulator of it."""
