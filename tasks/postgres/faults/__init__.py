"""Faults that are planted in an extra attempt or a copy, so that the proof is proven; `catalogue` names them all."""
