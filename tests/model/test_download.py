"""Fetching a file over HTTP from a real server: resumed, checked, or not taken at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from aerialseg.errors import ModelError, OutputError, ResourceError
from aerialseg.files import part_of
from aerialseg.locks import locked
from aerialseg.model import download as module
from aerialseg.model.download import RemoteFile, check_file, download
from aerialseg.progress import Silent
from tests.model.file_server import FileServer, serving

CONTENT = bytes(range(256)) * 4096
"""A megabyte, so that it comes in several chunks."""


class Bar(Silent):
    def __init__(self) -> None:
        self.total, self.done, self.notes = 0.0, 0.0, list[str]()

    def stage(self, name: str, total: float) -> None:
        self.total = total

    def advance(self, amount: float) -> None:
        self.done += amount

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def wanted(server: FileServer, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile(server.address, len(content), hashlib.sha256(content).hexdigest())


def alone(path: Path) -> bool:
    """Whether nothing else is left beside the file."""
    return [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("redirect", [False, True])
def test_a_file_is_fetched_whole_and_the_bar_ends_at_its_size(tmp_path: Path, redirect: bool) -> None:
    path, bar = tmp_path / "weights.pth", Bar()
    with serving(FileServer(CONTENT, redirect=redirect)) as server:
        assert download(wanted(server), path, bar) == path
        asked = len(server.asked)
        download(wanted(server), path, bar)
        assert len(server.asked) == asked, "what is here is not fetched again"
    assert path.read_bytes() == CONTENT
    assert alone(path)
    assert bar.done == bar.total == len(CONTENT)


@pytest.mark.parametrize("etag", ['"one"', 'W/"one"', None])
def test_a_download_that_breaks_goes_on_where_it_broke(tmp_path: Path, etag: str | None) -> None:
    path, bar = tmp_path / "weights.pth", Bar()
    with serving(FileServer(CONTENT, etag=etag, break_at=300_000, breaks=3)) as server:
        download(wanted(server), path, bar)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert len(bar.notes) == 3
    assert bar.done == len(CONTENT)


def test_a_second_command_continues_what_the_first_one_left(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with serving(FileServer(CONTENT, break_at=1000, breaks=1, down=503)) as server:
        with pytest.raises(ModelError, match=r"503.* are here and stay.*--file"):
            download(wanted(server), path, Bar())
        assert not path.exists()
        assert part_of(path).read_bytes() == CONTENT[:1000]
        server.down = 0
        download(wanted(server), path, Bar())
        assert server.asked[-1] == "bytes=1000-"
    assert path.read_bytes() == CONTENT
    assert alone(path)


@pytest.mark.parametrize("ranges", [True, False])
def test_parts_of_two_files_are_never_joined(tmp_path: Path, ranges: bool) -> None:
    """The file changes on the server meanwhile, or the server knows no ranges: all of it is fetched again."""
    path = tmp_path / "weights.pth"
    other = CONTENT[::-1]
    with serving(FileServer(CONTENT, ranges=ranges, break_at=1000, breaks=1, down=500)) as server:
        with pytest.raises(ModelError):
            download(wanted(server, other), path, Bar())
        server.content, server.etag, server.down = other, '"two"', 0
        bar = Bar()
        download(wanted(server, other), path, bar)
    assert path.read_bytes() == other
    assert bar.done == len(other)


def test_a_part_without_its_note_or_longer_than_the_file_is_fetched_anew(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with serving(FileServer(CONTENT)) as server:
        for left in (b"of something else", CONTENT + b"more"):
            part_of(path).write_bytes(left)
            download(wanted(server), path, Bar())
            assert path.read_bytes() == CONTENT
            assert alone(path)
            path.unlink()


def test_a_file_with_another_hash_is_not_used_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    damaged = b"x" + CONTENT[1:]
    with serving(FileServer(damaged)) as server:
        with pytest.raises(ModelError, match=r"SHA-256 .* is not used"):
            download(wanted(server), path, Bar())
        assert not list(tmp_path.iterdir())


def test_a_page_instead_of_the_file_is_told_by_its_length(tmp_path: Path) -> None:
    with serving(FileServer(b"<html>log in</html>")) as server:
        with pytest.raises(ModelError, match="has 19 bytes, wanted 1,048,576: it is another file"):
            download(wanted(server), tmp_path / "weights.pth", Bar())
        assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (503, 3)])
def test_an_error_that_may_pass_is_tried_again_and_another_one_is_not(
    tmp_path: Path, status: int, attempts: int
) -> None:
    with serving(FileServer(CONTENT, down=status)) as server, pytest.raises(ModelError, match=f"{status} .*--file"):
        download(wanted(server), tmp_path / "weights.pth", Bar())
    assert len(server.asked) == attempts


def test_a_machine_without_internet_is_told_what_to_do(tmp_path: Path) -> None:
    nowhere = RemoteFile("http://127.0.0.1:9/weights.pth", 10, "0" * 64)
    with pytest.raises(ModelError, match=r"refused.*--file"):
        download(nowhere, tmp_path / "weights.pth", Bar())


def test_the_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    with serving(FileServer(CONTENT)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        address = "http://weights.invalid/weights.pth"
        download(RemoteFile(address, len(CONTENT), hashlib.sha256(CONTENT).hexdigest()), path, Bar())
    assert proxy.paths == [address]
    assert path.read_bytes() == CONTENT


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with (
        serving(FileServer(CONTENT)) as server,
        locked(tmp_path / "weights.pth.lock", lambda: "held"),
        pytest.raises(OutputError, match="by another process"),
    ):
        download(wanted(server), path, Bar())


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT)) as server:
        with pytest.raises(ResourceError, match="free, wanted"):
            download(RemoteFile(server.address, 1 << 60, "0" * 64), tmp_path / "weights.pth", Bar())
        assert not server.asked


def test_a_file_from_elsewhere_is_checked_the_same_way(tmp_path: Path) -> None:
    path, what = tmp_path / "w.pth", RemoteFile("https://x.invalid/w", 3, hashlib.sha256(b"abc").hexdigest())
    path.write_bytes(b"abc")
    check_file(path, what)
    for content, words in ((b"abcd", "4 bytes, wanted 3"), (b"abd", "SHA-256")):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=words):
            check_file(path, what)
