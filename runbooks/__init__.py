"""Words: runbooks as YAML, and the pages that are printed from them."""
