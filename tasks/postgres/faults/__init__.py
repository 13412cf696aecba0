"""Faults that are planted in an extra attempt or in a copy, so that a proof is proven itself; `catalogue` names them all."""
