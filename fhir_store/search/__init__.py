"""Search: from the words of a URL to one statement, and from its rows to a page."""
