"""The engine: spec files in, plans and applied models out."""
