"""Who asks S3, and where: credentials, region, endpoint, and the SDK's client for listings.

Keys in the environment need no SDK. Everything else (profiles, SSO, roles, instance metadata, a
config file) is asked of botocore, which is imported then and not before. Raises `AccountError`
with a code of the contract and a text without secrets.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from wanrec.providers.certificates import bundle
from wanrec.providers.keyring import SecretUnavailableError, stored_secret
from wanrec.providers.limits import Limits
from wanrec.providers.proxies import proxy_for
from wanrec.providers.s3_signing import Credentials
from wanrec.providers.wire import WireFault, parse_url
from wanrec.reconcile.errors import ErrorCode

__all__ = ["Account", "AccountError", "translated"]

_TRUE = frozenset({"1", "on", "true", "yes"})
_host_label = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]").fullmatch
_PIP = "pip install boto3"
# Error codes of S3 that say more than the HTTP status; others are never repeated.
_CODES = {
    "ExpiredToken": ErrorCode.AUTH_FAIL,
    "InvalidAccessKeyId": ErrorCode.AUTH_FAIL,
    "InvalidToken": ErrorCode.AUTH_FAIL,
    "NoSuchBucket": ErrorCode.NOT_FOUND_AT_SOURCE,
    "NoSuchKey": ErrorCode.NOT_FOUND_AT_SOURCE,
    "RequestTimeTooSkewed": ErrorCode.AUTH_FAIL,
    "SignatureDoesNotMatch": ErrorCode.AUTH_FAIL,
    "SlowDown": ErrorCode.RATE_LIMIT,
}
_STATUS = {
    400: ErrorCode.AUTH_FAIL,
    401: ErrorCode.AUTH_FAIL,
    403: ErrorCode.AUTH_FAIL,
    404: ErrorCode.NOT_FOUND_AT_SOURCE,
    429: ErrorCode.RATE_LIMIT,
}


class AccountError(Exception):
    """What kept us from asking, as a code of the contract and a text without secrets."""

    def __init__(self, code: ErrorCode, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint


class Account:
    """One way to ask S3; shared by all sources that name the same. Thread-safe.

    Args:
        bucket: which keys of the keyring are meant.
        query: options of the source URL.
        environ: the environment.
        limits: how long the SDK may wait.
    """

    def __init__(
        self, bucket: str, query: Mapping[str, str], environ: Mapping[str, str], limits: Limits
    ) -> None:
        self._bucket = bucket
        self._query = query
        self._environ = environ
        self._limits = limits
        self._lock = threading.RLock()
        self._session: Any = None
        self._source: Any = None
        self._client: Any = None
        self._keyring: tuple[str, str, str] | None = None
        self._resolved: tuple[str | None, str, str] | None = None
        self.anonymous = query.get("anonymous", "").lower() in _TRUE
        self.requester_pays = query.get("requester_pays", "").lower() in _TRUE

    def credentials(self) -> Credentials | None:
        """Return the credentials of this moment, renewed when they have to be; None: anonymous.

        Raises:
            AccountError: AUTH_FAIL; INVALID_CONFIG without SDK or for an unknown profile.
        """
        if self.anonymous:
            return None
        fixed = self._fixed_keys()
        if fixed is not None:
            return fixed
        with self._lock, translated():
            if self._source is None:
                self._source = self._sdk_session().get_credentials()
            if self._source is None:
                raise AccountError(
                    ErrorCode.AUTH_FAIL,
                    "no AWS credentials found",
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or ?anonymous=1",
                )
            now = self._source.get_frozen_credentials()
        return Credentials(access_key=now.access_key, secret_key=now.secret_key, token=now.token)

    def region(self) -> str:
        """The region that requests are signed for."""
        return self._resolve()[1]

    def address(self, bucket: str, region: str) -> str:
        """The URL of a bucket, without a slash at its end."""
        endpoint, _, style = self._resolve()
        if endpoint is not None:
            endpoint = endpoint.rstrip("/")
            scheme, sep, host = endpoint.partition("://")
            return f"{scheme}{sep}{bucket}.{host}" if style == "virtual" else f"{endpoint}/{bucket}"
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        if style != "path" and _host_label(bucket):
            return f"https://{bucket}.s3.{region}.{suffix}"
        return f"https://s3.{region}.{suffix}/{bucket}"

    def client(self) -> Any:
        """The SDK's client, made once; it takes about half a second.

        Raises:
            AccountError: INVALID_CONFIG without SDK.
        """
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def close(self) -> None:
        """Close the client's connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _make_client(self) -> Any:
        with translated():
            session = self._sdk_session()
        import botocore
        from botocore.config import Config

        endpoint, region, style = self._resolve()
        config: dict[str, Any] = {
            "proxies": self._proxies(region),
            "connect_timeout": self._limits.connect_timeout_s,
            "read_timeout": self._limits.stall_window_s,
            "retries": {"mode": "standard", "max_attempts": 3},
            "s3": {"addressing_style": "path" if endpoint and style != "virtual" else style},
        }
        if self.anonymous:
            config["signature_version"] = botocore.UNSIGNED
        keys = None if self.anonymous else self._fixed_keys()
        with translated():
            return session.create_client(
                "s3",
                region_name=region,
                endpoint_url=endpoint,
                config=Config(**config),
                verify=bundle(self._environ),
                aws_access_key_id=keys and keys.access_key,
                aws_secret_access_key=keys and keys.secret_key,
                aws_session_token=keys and keys.token,
            )

    def _proxies(self, region: str) -> dict[str, str]:
        """The proxy that the bytes go through too; the SDK would have rules of its own."""
        try:
            origin = parse_url(self.address(self._bucket, region))[0]
            proxy = proxy_for(origin, self._environ)
        except WireFault as fault:
            raise AccountError(fault.code, fault.text, fault.hint) from None
        return {origin.scheme: proxy.url} if proxy else {}

    def _environment_keys(self) -> Credentials | None:
        environ = self._environ
        access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if not access or not secret:
            return None
        token = environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN") or None
        return Credentials(access_key=access, secret_key=secret, token=token)

    def _keyring_keys(self) -> Credentials | None:
        """Keys of the keyring, as ``ACCESS_KEY:SECRET_KEY``; looked up once."""
        with self._lock:
            if self._keyring is None:
                try:
                    found = stored_secret(f"s3://{self._bucket}", self._environ)
                except SecretUnavailableError as error:
                    raise AccountError(ErrorCode.AUTH_FAIL, error.text, error.hint) from None
                self._keyring = (found or "").partition(":")
            access, _, secret = self._keyring
        return Credentials(access_key=access, secret_key=secret) if secret else None

    def _fixed_keys(self) -> Credentials | None:
        """Keys that need no SDK; a profile in the source URL goes before them."""
        if self._query.get("profile"):
            return None
        return self._environment_keys() or self._keyring_keys()

    def _resolve(self) -> tuple[str | None, str, str]:
        """Return (endpoint, region, addressing style): URL, environment, config file, default."""
        if self._resolved is not None:
            return self._resolved
        with self._lock:
            if self._resolved is None:
                endpoint, region, style = self._nearby()
                if self._query.get("profile") or self._has_config_file():
                    endpoint, region, style = self._from_config(endpoint, region)
                self._resolved = endpoint, region or "us-east-1", style
            return self._resolved

    def _nearby(self) -> tuple[str | None, str | None, str]:
        environ, query = self._environ, self._query
        endpoint = query.get("endpoint_url") or None
        ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
        if endpoint is None and not ignored:
            endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None
        region = (
            query.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        )
        return endpoint, region, "auto"

    def _has_config_file(self) -> bool:
        place = self._environ.get("AWS_CONFIG_FILE") or os.path.join(
            self._environ.get("HOME") or os.path.expanduser("~"), ".aws", "config"
        )
        return os.path.isfile(os.path.expanduser(place))

    def _from_config(self, endpoint: str | None, region: str | None) -> tuple[Any, Any, str]:
        with translated():
            session = self._sdk_session()
            scoped = session.get_scoped_config()
            if endpoint is None:
                from botocore.configprovider import ConfiguredEndpointProvider

                endpoint = ConfiguredEndpointProvider(
                    full_config=session.full_config, scoped_config=scoped, client_name="s3"
                ).provide()
            region = region or session.get_config_variable("region")
        options = scoped.get("s3")
        style = options.get("addressing_style", "auto") if isinstance(options, dict) else "auto"
        return endpoint, region, style

    def _sdk_session(self) -> Any:
        with self._lock:
            if self._session is None:
                with _sdk_wanted():
                    from botocore.session import Session
                self._session = Session(profile=self._query.get("profile"))
            return self._session


@contextlib.contextmanager
def _sdk_wanted() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise AccountError(
            ErrorCode.INVALID_CONFIG, "this use of an s3:// source needs boto3", _PIP
        ) from None


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the SDK's exceptions into `AccountError`; their texts are the server's and dropped."""
    with _sdk_wanted():
        from botocore import exceptions as sdk

    try:
        yield
    except sdk.ClientError as exc:
        raise _refused(exc.response) from None
    except sdk.ProfileNotFound:
        raise AccountError(
            ErrorCode.INVALID_CONFIG, "no such AWS profile", "aws configure list-profiles"
        ) from None
    except (sdk.ConnectTimeoutError, sdk.ReadTimeoutError):
        raise AccountError(ErrorCode.NETWORK_TIMEOUT, "S3 did not answer in time") from None
    except (sdk.ConnectionError, sdk.HTTPClientError):
        raise AccountError(ErrorCode.SOURCE_UNAVAILABLE, "no connection to S3") from None
    except sdk.BotoCoreError as exc:
        raise _unusable(exc) from None


def _refused(response: Mapping[str, Any]) -> AccountError:
    name = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = _CODES.get(name) or _STATUS.get(status, ErrorCode.SOURCE_UNAVAILABLE)
    said = name if name in _CODES else f"HTTP {status}"
    return AccountError(code, f"S3 refused the request ({said})")


def _unusable(exc: Exception) -> AccountError:
    name = type(exc).__name__
    if re.search(r"Credential|Token|SSO|Login|Auth", name):
        return AccountError(
            ErrorCode.AUTH_FAIL,
            f"the AWS credentials cannot be used ({name})",
            "aws sso login, or renew the keys",
        )
    return AccountError(ErrorCode.SOURCE_UNAVAILABLE, f"S3 cannot be asked ({name})")
