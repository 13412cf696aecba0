"""The witness's probe: a vantage point outside both sites, the product's own resident (tasks/service/vantage.py)."""
