"""The version, as a literal: read by the build without an import, and by programs without metadata.

`importlib.metadata` would cost more than everything else `wanrec --version` does.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
