"""Which certificate authorities are trusted: the system's, and those the environment names.

The variables are those of the tools that people have set up already. They add to the system's
authorities, so that one bundle of a company's own does not shut out the public hosts.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from wanrec.providers.wire import WireFault
from wanrec.reconcile.errors import ErrorCode

__all__ = ["BUNDLE_VARIABLES", "bundle", "tls_context"]

BUNDLE_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Files (or folders) of PEM certificates, the first to be handed to an SDK that takes only one."""


def bundle(environ: Mapping[str, str]) -> str | None:
    """The first file or folder of certificates that the environment names."""
    return next((environ[name] for name in BUNDLE_VARIABLES if environ.get(name)), None)


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Make the context of all TLS connections of a run.

    Raises:
        WireFault: INVALID_CONFIG for a variable that names no certificates.
    """
    context = ssl.create_default_context()
    for name in BUNDLE_VARIABLES:
        place = environ.get(name)
        if not place:
            continue
        try:
            if os.path.isdir(place):
                context.load_verify_locations(capath=place)
            else:
                context.load_verify_locations(cafile=place)
        except OSError as exc:  # ssl.SSLError is one
            why = "no certificates in PEM" if isinstance(exc, ssl.SSLError) else exc.strerror
            raise WireFault(
                ErrorCode.INVALID_CONFIG,
                f"the environment variable {name} names no usable certificates: {why}",
                retries=0,
                hint=f"{name}=FILE.pem, a file of PEM certificates",
            ) from exc
    return context
