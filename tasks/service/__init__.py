"""The kind `service`: what users need as a whole; its probes, its vantage points, its side effects, its people."""
