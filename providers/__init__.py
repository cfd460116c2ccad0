"""Where bytes come from: one small class per kind of source, named here and nowhere else.

The table holds strings, so that no SDK is loaded before its scheme is used. Outsiders add a row
with `register` (the engine does it for hooks); a scheme that is taken is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanrec.providers.base import Provider, ProviderContext
    from wanrec.providers.shelf import Shelf
    from wanrec.providers.source_url import SourceUrl

__all__ = ["KNOWN_SCHEMES", "known_schemes", "provider_for", "register", "shelf_for"]

_BUILT_IN = {
    "local": "wanrec.providers.local:LocalProvider",
    "file": "wanrec.providers.local:LocalProvider",
    "package": "wanrec.providers.package:PackageProvider",
    "hf": "wanrec.providers.hub:HubProvider",
    "http": "wanrec.providers.web:WebProvider",
    "https": "wanrec.providers.web:WebProvider",
    "s3": "wanrec.providers.s3:S3Provider",
}
_SHELVES = {"s3": "wanrec.providers.s3_shelf:S3Shelf"}
KNOWN_SCHEMES = tuple(sorted(_BUILT_IN))
_table = dict(_BUILT_IN)


def known_schemes() -> tuple[str, ...]:
    """The schemes that can be used now, registered ones included, sorted."""
    return tuple(sorted(_table))


def register(scheme: str, target: str) -> None:
    """Add a provider class as ``module:Class`` under a new scheme.

    Raises:
        ValueError: the scheme is taken, or the target is not ``module:Class``.
    """
    from wanrec.providers.source_url import allow

    if _table.get(scheme) == target and scheme not in _BUILT_IN:
        return
    if scheme in _table:
        raise ValueError(f"scheme {scheme!r} is taken by {_table[scheme]}")
    if not all(target.partition(":")):
        raise ValueError(f"not module:Class: {target!r}")
    allow(scheme)
    _table[scheme] = target


def provider_for(source: str | SourceUrl, context: ProviderContext) -> Provider:
    """Make the provider of one source.

    Raises:
        WanrecError: INVALID_MANIFEST for a URL that is none, or of a scheme nobody provides.
    """
    from wanrec.providers.source_url import SourceUrl, parse_source
    from wanrec.reconcile.errors import ErrorCode, WanrecError

    url = source if isinstance(source, SourceUrl) else parse_source(source)
    target = _table.get(url.scheme)
    if target is None:
        raise WanrecError(
            ErrorCode.INVALID_MANIFEST,
            f"no provider for {url.scheme}://",
            source=str(url),
            hint=f"one of {', '.join(f'{scheme}://' for scheme in known_schemes())}",
        )
    provider: Provider = _named(target)(url, context)
    return provider


def shelf_for(url: SourceUrl, context: ProviderContext) -> Shelf | None:
    """Make what writes to a place; None when nothing can be written to that kind of place.

    Raises:
        WanrecError: the place cannot be asked.
    """
    target = _SHELVES.get(url.scheme)
    shelf: Shelf | None = None if target is None else _named(target)(url, context)
    return shelf


def _named(target: str) -> Any:
    import importlib

    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
