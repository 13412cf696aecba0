"""The `dr` command: parses words, calls the hands, renders values for people or as one JSON document."""
