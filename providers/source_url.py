"""Source URLs: text in, a frozen `SourceUrl` or one INVALID_MANIFEST error out.

Templates (`{name}` and the like) have been expanded before. Nothing here looks at a disk or a
network. `redacted` is the one rule for what of a URL may be printed or stored: no user info, no
query, no fragment; it works on broken URLs too, because those end up in error messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["SCHEMES", "SourceUrl", "allow", "parse_source", "redacted"]

_allowed: set[str] = set()

SCHEMES = ("file", "hf", "http", "https", "local", "package", "s3")

_split = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL).fullmatch
_control = re.compile(r"[\x00-\x20\x7f]").search
_control_in_path = re.compile(r"[\x00-\x1f\x7f]").search
# A folder name may hold "@" (`local://mirror/t2v@2.2.0`), so only these have user info.
_WITH_AUTHORITY = frozenset({"hf", "http", "https", "s3"})
_hf_part = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch
_bucket = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}").fullmatch
_S3_OPTIONS = frozenset({"anonymous", "endpoint_url", "profile", "region", "requester_pays"})


@attrs.frozen(kw_only=True)
class SourceUrl:
    """One parsed source.

    Attributes:
        scheme: one of `SCHEMES`.
        text: the URL as written; may hold secrets, never print it.
        location: what the provider resolves: a path (local, file), ``DIST/PATH`` (package),
            ``BUCKET/PREFIX`` (s3), ``ORG/NAME`` (hf), ``HOST[:PORT]/PATH`` (https).
        subpath: folder inside an hf repository, else empty.
        revision: pinned revision (hf), or None.
        query: query parameters (s3, https); may hold secrets.
    """

    scheme: str
    text: str = attrs.field(repr=False)
    location: str
    subpath: str = ""
    revision: str | None = None
    query: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def __str__(self) -> str:
        return redacted(self.text)


def redacted(text: str) -> str:
    """Return the URL without user info, query and fragment: the form people and files may see."""
    scheme, sep, rest = text.partition("://")
    if not sep:
        return re.split(r"[?#]", text, maxsplit=1)[0]
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    if scheme.lower() in _WITH_AUTHORITY or scheme.lower() not in SCHEMES:
        authority, slash, path = rest.partition("/")
        rest = authority.rpartition("@")[2] + slash + path
    return f"{scheme}://{rest}"


def allow(scheme: str) -> None:
    """Let URLs of a plug-in's scheme pass; only control characters are refused in them.

    Raises:
        ValueError: it is no scheme.
    """
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ValueError(f"not a URL scheme: {scheme!r}")
    _allowed.add(scheme)


def parse_source(text: str) -> SourceUrl:
    """Parse one source URL.

    Raises:
        WanrecError: INVALID_MANIFEST; names the nearest scheme when the scheme is unknown.
    """
    match = _split(text)
    if match is None:
        raise _invalid(text, "a source is SCHEME://…", f"one of {_scheme_list()}")
    scheme, rest = match[1].lower(), match[2]
    if scheme in _allowed and not _control(rest):
        return _parse_foreign(scheme, text, rest)
    if scheme not in SCHEMES:
        raise _unknown_scheme(text, scheme)
    if (_control_in_path if scheme in ("local", "file") else _control)(rest):
        raise _invalid(text, "it holds a space or control character")
    if scheme in _WITH_AUTHORITY and "@" in rest.partition("/")[0]:
        raise _invalid(
            text,
            "credentials do not belong in a source URL",
            "put them into the environment or a profile",
        )
    return _PARSERS[scheme](scheme, text, rest)


def _parse_foreign(scheme: str, text: str, rest: str) -> SourceUrl:
    from urllib.parse import parse_qsl

    location, _, query = rest.partition("?")
    return SourceUrl(scheme=scheme, text=text, location=location, query=dict(parse_qsl(query)))


def _parse_local(scheme: str, text: str, rest: str) -> SourceUrl:
    _refuse_query(text, rest)
    if not rest:
        raise _invalid(text, "the folder is missing", "local://FOLDER, relative or absolute")
    return SourceUrl(scheme=scheme, text=text, location=rest)


def _parse_file(scheme: str, text: str, rest: str) -> SourceUrl:
    from urllib.parse import unquote

    _refuse_query(text, rest)
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise _invalid(text, "a file URL has three slashes", "file:///ABSOLUTE/FOLDER")
    path = unquote(path)
    if _control_in_path(path):
        raise _invalid(text, "it holds a control character")
    windows_drive = re.match(r"[A-Za-z]:", path)
    return SourceUrl(scheme=scheme, text=text, location=path if windows_drive else "/" + path)


def _parse_package(scheme: str, text: str, rest: str) -> SourceUrl:
    _refuse_query(text, rest)
    name, _, path = rest.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?", name):
        raise _invalid(text, f"{name!r} is not a package name", "package://DIST_OR_MODULE/PATH")
    if not _is_plain_path(path):
        raise _invalid(text, "the path leaves the package", "package://DIST_OR_MODULE/PATH")
    return SourceUrl(scheme=scheme, text=text, location=f"{name}/{path}".rstrip("/"))


def _parse_s3(scheme: str, text: str, rest: str) -> SourceUrl:
    location, query = _cut_query(text, rest)
    bucket, _, prefix = location.partition("/")
    if not _bucket(bucket):
        raise _invalid(text, f"{bucket!r} is not a bucket name", "s3://BUCKET/PREFIX")
    unknown = sorted(set(query) - _S3_OPTIONS)
    if unknown:
        raise _invalid(
            text, f"unknown option {unknown[0]!r}", f"one of {', '.join(sorted(_S3_OPTIONS))}"
        )
    return SourceUrl(scheme=scheme, text=text, location=f"{bucket}/{prefix}", query=query)


def _parse_hf(scheme: str, text: str, rest: str) -> SourceUrl:
    _refuse_query(text, rest)
    usage = "hf://ORG/NAME[@REVISION][/SUBPATH]"
    org, _, tail = rest.partition("/")
    name, revision, subpath = _split_hf(tail)
    if not _hf_part(org) or not _hf_part(name):
        raise _invalid(text, "the repository is missing or not a repository name", usage)
    if revision is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._%-]*", revision):
        raise _invalid(text, f"{revision!r} is not a revision", usage)
    if not _is_plain_path(subpath):
        raise _invalid(text, "the sub-path leaves the repository", usage)
    return SourceUrl(
        scheme=scheme,
        text=text,
        location=f"{org}/{name}",
        revision=revision,
        subpath=subpath.strip("/"),
    )


def _split_hf(tail: str) -> tuple[str, str | None, str]:
    repo, _, subpath = tail.partition("/")
    name, at, revision = repo.partition("@")
    if at and revision == "refs" and subpath.startswith("pr/"):  # @refs/pr/7 has slashes of its own
        number, _, subpath = subpath[3:].partition("/")
        revision = f"refs%2Fpr%2F{number}"
    return name, revision if at else None, subpath


def _parse_web(scheme: str, text: str, rest: str) -> SourceUrl:
    location, query = _cut_query(text, rest)
    host = location.partition("/")[0]
    if not re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?", host):
        raise _invalid(text, f"{host!r} is not a host", f"{scheme}://HOST/PATH")
    return SourceUrl(scheme=scheme, text=text, location=location, query=query)


_PARSERS = {
    "local": _parse_local,
    "file": _parse_file,
    "package": _parse_package,
    "s3": _parse_s3,
    "hf": _parse_hf,
    "http": _parse_web,
    "https": _parse_web,
}


def _cut_query(text: str, rest: str) -> tuple[str, dict[str, str]]:
    if "#" in rest:
        raise _invalid(text, "a source has no #fragment")
    location, mark, query = rest.partition("?")
    if not mark:
        return location, {}
    from urllib.parse import parse_qsl

    return location, dict(parse_qsl(query, keep_blank_values=True))


def _refuse_query(text: str, rest: str) -> None:
    if "?" in rest or "#" in rest:
        raise _invalid(text, "this kind of source takes no ?query and no #fragment")


def _is_plain_path(path: str) -> bool:
    return "\\" not in path and ".." not in path.split("/")


def _scheme_list() -> str:
    return ", ".join(f"{scheme}://" for scheme in SCHEMES)


def _unknown_scheme(text: str, scheme: str) -> WanrecError:
    from wanrec.reconcile.names import nearest

    close = nearest(scheme, SCHEMES)
    hint = f"did you mean {close}://?" if close else f"one of {_scheme_list()}"
    return _invalid(text, f"unknown scheme {scheme!r}", hint)


def _invalid(text: str, why: str, hint: str = "") -> WanrecError:
    shown = redacted(text)
    return WanrecError(
        ErrorCode.INVALID_MANIFEST,
        f"{shown!r} is not a source: {why}",
        hint=hint,
    )
