"""Secrets from the system's keyring, only where ``WANREC_KEYRING=1`` asks for it.

A keyring may open a dialogue and take its time, so it is never asked unbidden, and after the
environment. Entries have the service ``wanrec``; the account says what the secret is for.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["SecretUnavailableError", "stored_secret"]

_TRUE = frozenset({"1", "on", "true", "yes"})
_SERVICE = "wanrec"


class SecretUnavailableError(Exception):
    """The keyring was to be asked and cannot be; the text holds no secret."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


def stored_secret(account: str, environ: Mapping[str, str]) -> str | None:
    """Return the secret of an account, or None when there is none or nobody wants the keyring.

    Raises:
        SecretUnavailableError: there is no keyring here, or it is locked.
    """
    if environ.get("WANREC_KEYRING", "").lower() not in _TRUE:
        return None
    try:
        import keyring
    except ImportError:
        raise SecretUnavailableError(
            "WANREC_KEYRING is set, and keyring is not installed", "pip install 'wanrec[keyring]'"
        ) from None
    try:
        secret: str | None = keyring.get_password(_SERVICE, account)
    except Exception as exc:  # noqa: BLE001 - a backend is foreign code and raises what it likes
        raise SecretUnavailableError(
            f"the system's keyring cannot be asked ({type(exc).__name__})",
            "unlock it, or unset WANREC_KEYRING and use the environment",
        ) from None
    return secret
