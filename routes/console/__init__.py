"""The console's pages and its own small API."""
