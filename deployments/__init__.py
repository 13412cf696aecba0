"""Place: every way in and every place it runs."""
