"""The report's page: its template, and what fills it in."""
