"""Checks of a restored Postgres, one module per family; `table` names them all and runs them."""
