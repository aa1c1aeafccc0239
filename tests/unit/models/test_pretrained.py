"""Published weights are fetched once, resumed where a download stopped, and checked."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import resource
import threading
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest

from elfatt_deploy import recipes
from elfatt_deploy.errors import CheckpointError, InputFileError, SchemaError, UsageError
from elfatt_deploy.models import download, pretrained, registry

MODELS = {
    *(f"{base}_{attention}" for base in ("cswin_t", "cswin_b", "swin_t", "swin_b")
      for attention in ("local", "flatten", "agent", "elfatt", "effatt", "global")),
    "swin_t_localtimm", "swin_b_localtimm", "efficientvit_b2", "efficientvit_b2_288",
    "efficientvit_b2_timm", "convnext_t", "convnext_t_timm", "vmamba_t",
}  # fmt: skip
WITHOUT_FILES = {
    "cswin_t_local", "cswin_b_local", "cswin_b_flatten", "cswin_b_elfatt", "swin_t_elfatt",
    "swin_b_elfatt", *(name for name in MODELS if name.endswith(("_effatt", "_global"))),
}  # fmt: skip

CONTENT = bytes(range(251)) * 160  # 40160 bytes
OTHER = CONTENT[::-1][:30000]
CHUNK = 1000
PAGE = "https://example.org/weights"


def _digest(content):
    return hashlib.sha256(content).hexdigest()


class _Site:
    """What the server delivers and how well it behaves; what it was asked for."""

    def __init__(self):
        self.content = CONTENT
        self.headers = {"ETag": '"1"'}
        self.ranges = True  # whether it answers Range requests
        self.cut_after = None  # bytes of a body after which the connection breaks
        self.length = True  # whether it sends Content-Length
        self.status = None  # answers nothing but this
        self.content_type = "application/octet-stream"
        self.content_range = None  # in place of the right one
        self.redirect = None  # path -> address
        self.requests = []  # headers of each request
        self.url = ""

    @property
    def asked(self):
        """Range and If-Range of each request."""
        return [(r.get("Range"), r.get("If-Range")) for r in self.requests]


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):  # noqa: N802 (the name is the library's)
        site = self.server.site
        site.requests.append(dict(self.headers))
        if site.redirect and self.path != "/there.bin":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", site.redirect)
            self.end_headers()
            return
        if site.status is not None:
            self.send_error(site.status)
            return
        start, status = self._start(site)
        if start > len(site.content):
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
            self.end_headers()
            return
        body = site.content[start:]
        self.send_response(status)
        self.send_header("Content-Type", site.content_type)
        for name, value in site.headers.items():
            self.send_header(name, value)
        if site.length:
            self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.PARTIAL_CONTENT:
            right = f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
            self.send_header("Content-Range", site.content_range or right)
        self.end_headers()
        self.wfile.write(body[: site.cut_after])

    def _start(self, site):
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        known = {site.headers.get("ETag"), site.headers.get("Last-Modified")}
        if not site.ranges or not match or self.headers.get("If-Range") not in known:
            return 0, HTTPStatus.OK
        return int(match[1]), HTTPStatus.PARTIAL_CONTENT


@pytest.fixture
def site(monkeypatch):
    """Serve on loopback."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_CHUNK", CHUNK)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.site = _Site()
    server.site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def entries(tmp_path, monkeypatch):
    """Return a function that replaces the shipped entries by a TOML text."""

    def use(text):
        profiles = tmp_path / "profiles"
        profiles.mkdir(exist_ok=True)
        (profiles / "weights.toml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(recipes, "profiles_folder", lambda: profiles)
        pretrained.all_published.cache_clear()

    yield use
    pretrained.all_published.cache_clear()


@pytest.fixture
def fetch(site, entries, tmp_path):
    """Return a function that fetches `toy` from the site; `more` are fields of its file."""

    def run(more="", progress=None, folder=tmp_path / "cache", **options):
        entries(
            f'[toy]\npage = "{PAGE}"\nlicense = "MIT"\nnote = "a toy"\n'
            f'files = [{{ url = "{site.url}/toy.pth", input_size = 224 {more} }}]\n'
        )
        return pretrained.fetch("toy", folder, progress, **options)

    run.folder = tmp_path / "cache"
    run.path = run.folder / "toy.pth"
    run.part = run.folder / "toy.pth.part"
    return run


def _cut(site, fetch, after=7000):
    """Let the connection break after some bytes, then mend the site."""
    site.cut_after = after
    with pytest.raises(
        InputFileError, match=f"only {after} of 40160 bytes .* have arrived"
    ) as caught:
        fetch()
    assert "goes on where it stopped" in caught.value.hint
    assert fetch.part.read_bytes() == CONTENT[:after]
    assert not fetch.path.exists()
    site.cut_after = None
    site.requests.clear()


def _is_whole(fetch, content=CONTENT):
    """Whether the file and its record are there, and nothing else."""
    assert fetch.path.read_bytes() == content
    record = fetch.folder / "toy.pth.sha256"
    assert record.read_text(encoding="utf-8") == f"{_digest(content)}  toy.pth\n"
    assert sorted(p.name for p in fetch.folder.iterdir()) == ["toy.pth", "toy.pth.sha256"]
    return True


def test_a_file_is_downloaded_whole(site, fetch):
    told = []
    found = fetch(progress=lambda done, total: told.append((done, total)))
    assert _is_whole(fetch)
    assert found == pretrained.Fetched(
        path=fetch.path, sha256=_digest(CONTENT), stated=False, cached=False,
        url=f"{site.url}/toy.pth", input_size=224, license="MIT", note="a toy",
    )  # fmt: skip
    assert (told[0], told[-1]) == ((0, 40160), (40160, 40160))
    assert told == sorted(told)
    assert len(told) == 42
    assert site.asked == [(None, None)]
    assert site.requests[0]["User-Agent"].startswith("elfatt-deploy/")


def test_a_file_that_is_there_is_not_fetched_again(site, fetch):
    first = fetch()
    assert fetch(f', sha256 = "{_digest(CONTENT)}"').stated
    again = fetch()
    assert (again.cached, again.sha256) == (True, first.sha256)
    assert len(site.requests) == 1


def test_a_stated_digest_and_length_are_met(site, fetch):
    found = fetch(f', sha256 = "{_digest(CONTENT)}", size_bytes = 40160')
    assert (found.stated, found.sha256) == (True, _digest(CONTENT))
    assert _is_whole(fetch)


def test_a_broken_download_is_completed_by_the_next_call(site, fetch):
    _cut(site, fetch)
    told = []
    fetch(progress=lambda done, total: told.append((done, total)))
    assert _is_whole(fetch)
    assert site.asked == [("bytes=7000-", '"1"')]
    assert told[0] == (7000, 40160)


def test_it_may_break_more_than_once(site, fetch):
    _cut(site, fetch)
    site.cut_after = 5000
    with pytest.raises(InputFileError, match="only 12000 of 40160 bytes"):
        fetch()
    site.cut_after = None
    assert fetch().sha256 == _digest(CONTENT)
    assert site.asked == [("bytes=7000-", '"1"'), ("bytes=12000-", '"1"')]
    assert _is_whole(fetch)


def test_a_server_that_cannot_resume_sends_all_again(site, fetch):
    _cut(site, fetch)
    site.ranges = False
    fetch()
    assert _is_whole(fetch)
    assert [asked[0] for asked in site.asked] == ["bytes=7000-"]


def test_a_file_that_changed_on_the_server_is_downloaded_anew(site, fetch):
    _cut(site, fetch)
    site.content, site.headers = OTHER, {"ETag": '"2"'}
    assert fetch().sha256 == _digest(OTHER)
    assert _is_whole(fetch, OTHER)
    assert site.asked == [("bytes=7000-", '"1"')]


def test_a_part_of_a_file_of_another_length_is_not_appended(site, fetch):
    _cut(site, fetch)
    site.content = OTHER  # under the same ETag, which it should not be
    assert fetch().sha256 == _digest(OTHER)
    assert site.asked == [("bytes=7000-", '"1"'), (None, None)]


@pytest.mark.parametrize("wrong", ["bytes 0-40159/40160", "bytes 7001-40159/40160", "junk"])
def test_a_part_that_starts_elsewhere_is_not_appended(wrong, site, fetch):
    _cut(site, fetch)
    site.content_range = wrong
    fetch()
    assert _is_whole(fetch)
    assert site.asked == [("bytes=7000-", '"1"'), (None, None)]


def test_a_range_beyond_the_end_starts_over(site, fetch):
    _cut(site, fetch, after=35000)
    site.content = OTHER
    assert fetch().sha256 == _digest(OTHER)
    assert site.asked == [("bytes=35000-", '"1"'), (None, None)]


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({}, (None, None)),
        ({"ETag": 'W/"1"'}, (None, None)),
        (
            {"ETag": 'W/"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
            ("bytes=7000-", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ),
    ],
    ids=["nothing", "weak ETag", "date"],
)
def test_only_what_identifies_a_file_is_used_to_resume(headers, asked, site, fetch):
    site.headers = headers
    _cut(site, fetch)
    fetch()
    assert _is_whole(fetch)
    assert site.asked == [asked]


@pytest.mark.parametrize(
    "record",
    ["", "{", "[]", '{"url": 1}', '{"url": "URL", "total": "x", "validator": "y"}', None],
)
def test_a_part_without_a_readable_record_is_not_used(record, site, fetch):
    _cut(site, fetch)
    path = fetch.folder / "toy.pth.part.json"
    assert json.loads(path.read_text(encoding="utf-8"))["total"] == 40160
    if record is None:
        path.unlink()
    else:
        path.write_text(record.replace("URL", f"{site.url}/toy.pth"), encoding="utf-8")
    fetch()
    assert _is_whole(fetch)
    assert site.asked == [(None, None)]


def test_a_part_of_another_address_is_not_used(site, fetch, entries):
    _cut(site, fetch)
    entries(
        f'[toy]\npage = "p"\nfiles = [{{ url = "{site.url}/new/toy.pth", input_size = 224 }}]\n'
    )
    pretrained.fetch("toy", fetch.folder)
    assert site.asked == [(None, None)]
    assert _is_whole(fetch)


def test_ctrl_c_keeps_what_has_arrived(site, fetch):
    def stop(done, total):
        if done >= 9000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    assert fetch.part.read_bytes() == CONTENT[:9000]
    site.requests.clear()
    fetch()
    assert _is_whole(fetch)
    assert site.asked == [("bytes=9000-", '"1"')]


def test_a_download_that_ended_before_its_last_step_needs_no_server(site, fetch):
    def stop(done, total):
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    fetch()
    assert _is_whole(fetch)
    assert len(site.requests) == 1


@pytest.mark.parametrize("field", ["sha256", "sha256_prefix"])
def test_a_file_of_another_digest_is_removed_and_both_are_told(field, site, fetch):
    expected = "0" * (64 if field == "sha256" else 8)
    with pytest.raises(CheckpointError) as caught:
        fetch(f', {field} = "{expected}"')
    assert f"is {_digest(CONTENT)}; expected is {expected}" in caught.value.message
    assert caught.value.message.endswith("...") == (field == "sha256_prefix")
    assert PAGE in caught.value.hint
    assert caught.value.exit_code == 3
    assert list(fetch.folder.iterdir()) == []


def test_a_prefix_of_the_digest_is_enough(fetch):
    more = f', sha256_prefix = "{_digest(CONTENT)[:8]}"'
    assert fetch(more).stated
    assert fetch(more).cached
    assert _is_whole(fetch)


@pytest.mark.parametrize(
    ("status", "told"),
    [(404, "there is no file at"), (410, "any more"), (403, "not give"), (401, "not give"),
     (429, "asks to wait"), (500, "cannot deliver"), (503, "cannot deliver"),
     (204, "cannot deliver")],
)  # fmt: skip
def test_a_refusal_is_told_with_its_status_and_the_page(status, told, site, fetch):
    site.status = status
    with pytest.raises(InputFileError, match=told) as caught:
        fetch()
    assert f"(HTTP {status})" in caught.value.message
    assert f"{site.url}/toy.pth" in caught.value.message
    assert PAGE in caught.value.hint
    assert "--weights FILE" in caught.value.hint
    assert list(fetch.folder.iterdir()) == []


def test_a_refusal_keeps_what_has_arrived_before(site, fetch):
    _cut(site, fetch)
    site.status = 503
    with pytest.raises(InputFileError, match="HTTP 503"):
        fetch()
    site.status = None
    fetch()
    assert _is_whole(fetch)
    assert site.asked == [("bytes=7000-", '"1"')] * 2


def test_no_network_is_told(site, fetch, entries):
    entries('[toy]\npage = "p"\nfiles = [{ url = "http://127.0.0.1:1/toy.pth", input_size = 1 }]\n')
    with pytest.raises(
        InputFileError, match=r"cannot reach http://127\.0\.0\.1:1/toy\.pth: .*refused"
    ) as caught:
        pretrained.fetch("toy", fetch.folder)
    assert "check the network" in caught.value.hint


def test_a_web_page_in_place_of_the_file_is_refused(site, fetch):
    site.content_type = "text/html; charset=utf-8"
    with pytest.raises(InputFileError, match="answers with a web page"):
        fetch()
    assert list(fetch.folder.iterdir()) == []


def test_another_length_than_published_is_refused_before_the_download(site, fetch):
    with pytest.raises(InputFileError, match="has 40160 bytes; 40161 are published"):
        fetch(", size_bytes = 40161")
    assert list(fetch.folder.iterdir()) == []


def test_a_file_without_a_length_is_measured_by_the_published_one(site, fetch):
    site.length = False
    told = []
    fetch(", size_bytes = 40160", progress=lambda done, total: told.append(total))
    assert set(told) == {None}
    assert _is_whole(fetch)


def test_a_short_file_without_a_length_is_noticed_by_the_published_one(site, fetch):
    site.length = False
    with pytest.raises(InputFileError, match="only 40160 of 40170 bytes"):
        fetch(", size_bytes = 40170")
    assert not fetch.path.exists()


@pytest.mark.parametrize("length", [True, False])
def test_an_empty_file_is_refused(length, site, fetch):
    site.content, site.length = b"", length
    with pytest.raises(InputFileError, match="sent an empty file"):
        fetch()
    assert not fetch.path.exists()
    site.content = CONTENT
    fetch()
    assert _is_whole(fetch)


def test_a_stop_before_the_first_byte_of_a_changed_file_mixes_nothing(site, fetch, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    _cut(site, fetch)
    site.content, site.headers = OTHER, {"ETag": '"2"'}
    with monkeypatch.context() as patched:
        patched.setattr(download, "_copy", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert fetch().sha256 == _digest(OTHER)
    assert _is_whole(fetch, OTHER)


def test_a_part_that_two_processes_wrote_is_removed(site, fetch):
    def intrude(done, total):
        if done == 5000:
            with fetch.part.open("ab") as file:
                file.write(bytes(50000))

    with pytest.raises(
        InputFileError, match="grew to .* bytes, 40160 are the whole file"
    ) as caught:
        fetch(progress=intrude)
    assert "one process at a time" in caught.value.hint
    assert list(fetch.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(fetch, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputFileError, match="cannot write .*toy.pth") as caught:
        fetch(folder=tmp_path / "file" / "cache")
    assert "ELFATT_DEPLOY_CACHE" in caught.value.hint


def test_a_download_that_the_disk_has_no_room_for_is_not_begun(fetch, monkeypatch):
    class Usage:
        free = 40159

    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: Usage)
    with pytest.raises(InputFileError, match="has 40159 bytes free; 40160 are needed") as caught:
        fetch()
    assert "make room" in caught.value.hint
    assert list(fetch.folder.iterdir()) == []


def test_a_disk_that_fills_up_is_told_and_the_download_can_go_on(site, fetch):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
    try:
        with pytest.raises(InputFileError, match=r"cannot write .*toy\.pth\.part: .+") as caught:
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "make room" in caught.value.hint
    kept = fetch.part.stat().st_size
    assert 0 < kept <= 20000
    site.requests.clear()
    fetch()
    assert _is_whole(fetch)
    assert site.asked == [(f"bytes={kept}-", '"1"')]


@pytest.mark.parametrize("stated", [True, False])
def test_a_file_that_changed_on_the_disk_is_removed_and_told(stated, site, fetch):
    more = f', sha256 = "{_digest(CONTENT)}"' if stated else ""
    fetch(more)
    fetch.path.write_bytes(OTHER)
    with pytest.raises(CheckpointError) as caught:
        fetch(more)
    assert f"is {_digest(OTHER)}; expected is {_digest(CONTENT)}" in caught.value.message
    assert "run the command again" in caught.value.hint
    assert list(fetch.folder.iterdir()) == []
    assert not fetch(more).cached
    assert _is_whole(fetch)


def test_a_file_that_was_put_there_by_hand_is_taken_and_remembered(site, fetch):
    fetch.folder.mkdir()
    fetch.path.write_bytes(OTHER)
    found = fetch()
    assert (found.cached, found.stated, found.sha256) == (True, False, _digest(OTHER))
    assert _is_whole(fetch, OTHER)
    assert site.requests == []


def test_a_redirect_is_followed_and_resumed(site, fetch):
    site.redirect = f"{site.url}/there.bin"
    _cut(site, fetch)
    fetch()
    assert _is_whole(fetch)
    assert site.asked == [("bytes=7000-", '"1"')] * 2


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/toy.pth", "file:///etc/hostname"])
def test_a_redirect_to_another_protocol_is_refused(target, site, fetch):
    site.redirect = target
    with pytest.raises(InputFileError, match=f"it redirects to {target}|HTTP 302"):
        fetch()
    assert list(fetch.folder.iterdir()) == []
    assert len(site.requests) == 1


def test_a_redirect_from_https_to_http_is_refused():
    request = urllib.request.Request("https://example.org/a")

    class Body:
        closed = False

        def close(self):
            self.closed = True

    body = Body()
    with pytest.raises(urllib.error.URLError, match="redirects to http://"):
        download._Redirects().redirect_request(request, body, 302, "", {}, "http://example.org/b")
    assert body.closed


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/a", "a.pth"])
def test_only_http_is_spoken(url, tmp_path):
    with pytest.raises(InputFileError, match="is not an http or https address"):
        download.fetch_part(url, tmp_path / "a.part", instead="")


@pytest.mark.parametrize(
    ("asked", "name"), [(None, "a.pth"), (224, "a.pth"), (384, "b.pth"), (448, "a.pth")]
)
def test_a_file_of_the_asked_input_size_is_preferred(asked, name, site, entries, tmp_path):
    entries(
        f'[toy]\npage = "p"\nfiles = [\n'
        f'  {{ url = "{site.url}/x?dl=1", name = "a.pth", input_size = 224 }},\n'
        f'  {{ url = "{site.url}/b.pth", input_size = 384 }},\n]\n'
    )
    found = pretrained.fetch("toy", tmp_path, input_size=asked)
    assert found.path.name == name
    assert found.input_size == (384 if name == "b.pth" else 224)


def test_a_model_without_a_file_says_why_and_what_to_do(entries, tmp_path):
    entries(f'[toy]\npage = "{PAGE}"\nreason = "nobody trained it"\n')
    with pytest.raises(CheckpointError, match="no weights of toy .*: nobody trained it") as found:
        pretrained.fetch("toy", tmp_path)
    assert "--weights FILE" in found.value.hint
    assert PAGE in found.value.hint
    assert found.value.exit_code == 3


def test_a_model_that_nothing_is_known_of(tmp_path):
    with pytest.raises(
        InputFileError, match="no published weights are known of my_model"
    ) as caught:
        pretrained.fetch("my_model", tmp_path)
    assert "--weights FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('page = "p"', "either files or a reason"),
        ('page = "p"\nreason = "r"\nfiles = [{ url = "https://a/b", input_size = 1 }]', "either"),
        ('page = "p"\nfiles = [{ url = "ftp://a/b", input_size = 1 }]', "no http or https"),
        ('page = "p"\nfiles = [{ url = "https://a/b/?dl=1", input_size = 1 }]', "no plain file"),
        ('page = "p"\nfiles = [{ url = "https://a/%2E%2E", input_size = 1 }]', "no plain file"),
        ('page = "p"\nfiles = [{ url = "https://a/b", name = "../b", input_size = 1 }]', "plain"),
        ('page = "p"\nfiles = [{ url = "https://a/b", input_size = 1, sha256 = "ab" }]', "SHA-256"),
        ('page = "p"\nfiles = [{ url = "https://a/b", input_size = 1, sha256_prefix = "xyz" }]',
         "no beginning of a SHA-256"),
        ('page = "p"\nfiles = [{ url = "https://a/b" }]', "input_size"),
        ('page = "p"\nreason = "r"\ncolour = "red"', "colour"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_refused(text, told, entries):
    entries(f"[toy]\n{text}\n")
    with pytest.raises(SchemaError, match=told):
        pretrained.published("toy")


def test_every_model_has_an_entry():
    assert set(pretrained.all_published()) == MODELS
    registered = {name for name, spec in registry.models().items() if not spec.ablation}
    assert registered <= MODELS


def test_the_models_without_a_file_are_those_that_nobody_published():
    entries = pretrained.all_published()
    assert {name for name, entry in entries.items() if not entry.files} == WITHOUT_FILES


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_shipped_entry_is_complete(model):
    entry = pretrained.published(model)
    assert entry.page.startswith("https://")
    assert bool(entry.license) == bool(entry.files)
    for file in entry.files:
        assert file.url.startswith("https://")
        assert bool(file.digest) == bool(file.digest_source)
    sizes = [file.input_size for file in entry.files]
    assert len(set(sizes)) == len(sizes)
    if model in registry.models() and sizes:
        assert registry.get(model).input_size == sizes[0]


def test_a_name_in_the_cache_means_one_address():
    files = {f for entry in pretrained.all_published().values() for f in entry.files}
    assert len({file.file_name for file in files}) == len({file.url for file in files})


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("ELFATT_DEPLOY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("given", [None, ""])
@pytest.mark.parametrize("cache", [None, "", "relative"])
def test_the_default_folder_lies_in_the_home_folder(given, cache, home, monkeypatch):
    for name, value in (("ELFATT_DEPLOY_CACHE", given), ("XDG_CACHE_HOME", cache)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert pretrained.default_folder() == home / ".cache" / "elfatt-deploy" / "weights"


def test_the_environment_moves_the_default_folder(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert str(pretrained.default_folder()) == "/var/cache/elfatt-deploy/weights"
    monkeypatch.setenv("ELFATT_DEPLOY_CACHE", "/data/weights")
    assert str(pretrained.default_folder()) == "/data/weights"
    monkeypatch.setenv("ELFATT_DEPLOY_CACHE", "~/weights")
    assert pretrained.default_folder() == home / "weights"


@pytest.mark.parametrize("given", ["0", "1", "junk", "./here", "~nobody-of-that-name/x"])
def test_a_folder_that_is_no_absolute_path_is_refused(given, home, monkeypatch):
    monkeypatch.setenv("ELFATT_DEPLOY_CACHE", given)
    with pytest.raises(UsageError, match="no absolute path|no folder for downloads") as caught:
        pretrained.default_folder()
    assert "set" in caught.value.hint


def test_a_fetch_without_a_folder_uses_the_default_one(fetch, home):
    assert fetch(folder=None).path == home / ".cache" / "elfatt-deploy" / "weights" / "toy.pth"
