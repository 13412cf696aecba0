"""The lab's name servers: authoritative answers from the last published zone, and health checkers that really probe."""
