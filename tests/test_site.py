"""The documentation site: no broken link, and nothing that --help says is missing."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aerialseg.cli.commands import cli

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    env = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([ROOT / "scripts" / "site", folder], env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_option_of_every_command_is_on_the_page_of_commands(site: Path) -> None:
    page = html.unescape(re.sub(r"<[^>]+>", "", site.joinpath("commands.html").read_text("utf-8")))
    missing = [(path, name) for path, name in _options(cli, "aerialseg") if not re.search(rf"{name}\b", page)]
    assert not missing


def test_the_pages_of_the_repository_are_pages_of_the_site(site: Path) -> None:
    assert "segment-raster ortho.tif" in html.unescape(site.joinpath("index.html").read_text("utf-8"))
    assert all(site.joinpath(f"{name}.html").is_file() for name in ("changelog", "contributing", "security"))


def test_no_page_fetches_from_another_server(site: Path) -> None:
    fetched = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)="?https?://(?!127)[^"> ]+""")
    found = {path.name: fetched.findall(path.read_text("utf-8")) for path in site.glob("*.html")}
    assert not {name: links for name, links in found.items() if any('rel="canonical"' not in one for one in links)}


def _options(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    for name, one in getattr(command, "commands", {}).items():
        yield from _options(one, f"{path} {name}")
    shown = (one for one in command.params if isinstance(one, click.Option) and not one.hidden)
    yield from ((path, name) for one in shown for name in one.opts if name.startswith("--") and name != "--version")
