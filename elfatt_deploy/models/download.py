"""Downloads one file over HTTP so that an interrupted download goes on where it stopped.

What has arrived lies in a `.part` file; beside it a small JSON file keeps what the server said of
the file then (ETag, Last-Modified, length). The next request asks for the rest under the condition
that the file is still that one (Range with If-Range, RFC 9110 sections 13.1.5 and 14); a server
that cannot do so, or has another file now, sends the whole file and the download starts over.
Standard library alone.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO

from elfatt_deploy import __version__
from elfatt_deploy.errors import InputFileError

#: called with the bytes on disk and the bytes of the whole file, None where the server does not say
Progress = Callable[[int, int | None], None]

SCHEMES = ("http", "https")
_CHUNK = 1 << 18  # at most so much is lost where a connection breaks
_TIMEOUT_S = 30.0  # without any byte; a slow download may take as long as it needs
_AGAIN = "run the command again: the download goes on where it stopped"


@dataclasses.dataclass(frozen=True, slots=True)
class _Origin:
    """What the server said of the file when its first bytes were stored."""

    url: str
    total: int | None
    validator: str | None


def fetch_part(
    url: str,
    part: Path,
    *,
    instead: str,
    size_bytes: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Make `part` the whole file at `url`; what a former call left there is kept and completed.

    Args:
        url: http or https.
        part: the file to write; its folder is made. `<part>.json` stands beside it.
        instead: what to do where the address does not deliver the file; a hint.
        size_bytes: length that the file must have; None where it is not known.
        progress: told at the start and after every chunk.

    Raises:
        InputFileError: no connection, a refusal, another length, a cut, or a full or unwritable
            disk. Where bytes have arrived they are kept for the next call, as they are on Ctrl-C.
    """
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise InputFileError(f"{url} is not an http or https address", hint=instead)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        origin = _stored_origin(part, url)
        done = part.stat().st_size if origin else 0
        if origin and done == origin.total:
            return  # the last call ended between the last byte and the use of the file
        response = _ask(url, done, origin, instead)
        if not _continues(response, done, origin):
            if response.status == http.HTTPStatus.PARTIAL_CONTENT:  # some part, but not ours
                response.close()
                response = _ask(url, 0, None, instead)
            done = 0
        with response:
            total = _checked_total(url, response, done, size_bytes, instead)
            _check_room(part, done, total)
            if not done:
                part.write_bytes(b"")  # first, or older bytes would pass for those of this file
                _store_origin(part, _Origin(url, total, _validator(response.headers)))
            _copy(response, part, done, total, progress)
        _check_length(part, size_bytes if total is None else total)
    except OSError as error:
        raise InputFileError(
            f"cannot write {part}: {error.strerror or error}",
            hint="make room, or choose another folder with ELFATT_DEPLOY_CACHE",
        ) from error


def discard(part: Path) -> None:
    """Remove a `.part` file and what is known of its origin, where they exist.

    Raises:
        InputFileError: they cannot be removed.
    """
    try:
        part.unlink(missing_ok=True)
        _origin_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise InputFileError(f"cannot remove {part}: {error.strerror or error}") from error


def _origin_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _stored_origin(part: Path, url: str) -> _Origin | None:
    """Return where a part came from; None, and no part, where it cannot be completed safely."""
    try:
        origin = _Origin(**json.loads(_origin_file(part).read_text(encoding="utf-8")))
        done = part.stat().st_size
        if origin.url == url and origin.validator and 0 < done <= (origin.total or done):
            return origin
    except (FileNotFoundError, ValueError, TypeError):
        pass  # no part, or no record of ours beside it
    discard(part)
    return None


def _store_origin(part: Path, origin: _Origin) -> None:
    text = json.dumps(dataclasses.asdict(origin))
    _origin_file(part).write_text(text, encoding="utf-8")


def _validator(headers: Message) -> str | None:
    """Return what If-Range takes: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to another protocol or from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request; its headers, and so Range, are those of the first."""
        old, new = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if new not in SCHEMES or (old, new) == ("https", "http"):
            fp.close()
            raise urllib.error.URLError(f"it redirects to {newurl}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone: the usual one reads ftp and local files too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _ask(url: str, done: int, origin: _Origin | None, instead: str) -> http.client.HTTPResponse:
    """Send the request, for the bytes from `done` on where the file is still the one of `origin`.

    Raises:
        InputFileError: there is no answer, or a refusal.
    """
    headers = {"User-Agent": f"elfatt-deploy/{__version__}"}
    if origin and origin.validator:
        headers |= {"Range": f"bytes={done}-", "If-Range": origin.validator}
    try:
        response: http.client.HTTPResponse = _opener().open(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        error.close()
        if origin and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _ask(url, 0, None, instead)
        raise _refusal(url, error.code, instead) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputFileError(
            f"cannot reach {url}: {reason or type(error).__name__}",
            hint=f"check the network, or {instead}",
        ) from error
    asked_for = (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT)[: 2 if origin else 1]
    if response.status not in asked_for:
        response.close()
        raise _refusal(url, response.status, instead)
    return response


def _refusal(url: str, code: int, instead: str) -> InputFileError:
    text = {
        401: f"the server does not give {url} to everybody",
        403: f"the server does not give {url} to everybody",
        404: f"there is no file at {url}",
        410: f"there is no file at {url} any more",
        429: f"the server asks to wait before {url} is downloaded",
    }.get(code, f"the server cannot deliver {url}")
    return InputFileError(f"{text} (HTTP {code})", hint=instead)


def _continues(response: http.client.HTTPResponse, done: int, origin: _Origin | None) -> bool:
    """Whether an answer is the rest of the file from `done` on."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT or origin is None:
        return False
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return (
        found is not None
        and int(found[1]) == done
        and (found[2] == "*" or origin.total in (None, int(found[2])))
    )


def _checked_total(
    url: str,
    response: http.client.HTTPResponse,
    done: int,
    size_bytes: int | None,
    instead: str,
) -> int | None:
    """Return the length of the whole file; None where the server does not say.

    Raises:
        InputFileError: the answer is no file, or a file of another length.
    """
    if response.headers.get_content_type() == "text/html":
        raise InputFileError(f"{url} answers with a web page, not with a file", hint=instead)
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdecimal() else None
    if size_bytes is not None and total not in (None, size_bytes):
        raise InputFileError(
            f"the file at {url} has {total} bytes; {size_bytes} are published", hint=instead
        )
    return total


def _check_room(part: Path, done: int, total: int | None) -> None:
    """Refuse a download that the disk has no room for.

    Raises:
        InputFileError: it has none.
    """
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - done > free:
        raise InputFileError(
            f"the disk of {part.parent} has {free} bytes free; {total - done} are needed",
            hint="make room, or choose another folder with ELFATT_DEPLOY_CACHE",
        )


def _copy(
    response: http.client.HTTPResponse,
    part: Path,
    done: int,
    total: int | None,
    progress: Progress | None,
) -> None:
    """Append what arrives to `part`, or write it anew where nothing of it is kept.

    Raises:
        InputFileError: the connection broke.
    """
    tell = progress or (lambda done, total: None)
    with part.open("ab" if done else "wb") as file:
        tell(done, total)
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise InputFileError(
                    f"the connection broke after {done} of {total or 'unknown'} bytes of "
                    f"{response.url}: {error or type(error).__name__}",
                    hint=_AGAIN,
                ) from error
            if not chunk:
                return
            file.write(chunk)
            done += len(chunk)
            tell(done, total)


def _check_length(part: Path, total: int | None) -> None:
    """Compare what lies on the disk, which another process may have written too.

    Raises:
        InputFileError: bytes are missing, or there are too many, or there are none at all.
    """
    found = part.stat().st_size
    if found and found == (total or found):
        return
    if not total:
        raise InputFileError(f"the server sent an empty file for {part}", hint=_AGAIN)
    if found > total:
        discard(part)
        raise InputFileError(
            f"{part} grew to {found} bytes, {total} are the whole file: it was removed",
            hint="run the command again, in one process at a time",
        )
    raise InputFileError(f"only {found} of {total} bytes of {part} have arrived", hint=_AGAIN)
