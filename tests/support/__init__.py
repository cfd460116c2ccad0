"""What several tests share. Importable as `support` (see `pythonpath` in pyproject.toml)."""
