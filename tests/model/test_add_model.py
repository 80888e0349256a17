"""Adding a model of the catalogue: from a server on loopback or from a file, to a model that goes by its name.

The published weights cannot be fetched here: files of the same names and shapes stand in for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from aerialseg.cli import cli
from aerialseg.errors import ModelError, OutputError, UsageError
from aerialseg.model import catalogue
from aerialseg.model.add_model import add_model
from aerialseg.model.catalogue import read_catalogue
from aerialseg.model.folders import CARD, WEIGHTS, added, model_dir, user_folder
from aerialseg.model.networks import build
from aerialseg.model.store import load_card, load_network
from tests.model.file_server import FileServer, serving
from tests.model.nets import NARROW

PREFIX = "model.seg_model."
NAME = "little"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("http_proxy", raising=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as FLAIR-INC's, of a narrow network."""
    torch.manual_seed(3)
    state = build(NARROW, 19, decoder="smp-unet", norm="batch").state_dict()
    path = tmp_path_factory.mktemp("published") / "weights.pth"
    torch.save({**{PREFIX + name: value for name, value in state.items()}, "criterion.weight": torch.ones(19)}, path)
    return path


@pytest.fixture
def server(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that has the file, and a catalogue that says so."""
    content = published.read_bytes()
    with serving(FileServer(content)) as server:
        text = catalogue.CATALOGUE.read_text(encoding="utf-8")
        first = text[: text.index("[flair-inc-rgb-12]")] + text[text.index("[legends.flair]") :]
        lines = {
            "address": server.address,
            "sha256": hashlib.sha256(content).hexdigest(),
            "encoder": NARROW,
        }
        for key, value in lines.items():
            start = first.index(f"\n{key} = ") + 1
            first = first[:start] + f'{key} = "{value}"' + first[first.index("\n", start) :]
        first = first.replace("size = 97932755", f"size = {len(content)}").replace("[flair-inc-rgb]", f"[{NAME}]")
        path = tmp_path / "catalogue.toml"
        path.write_text(first, encoding="utf-8")
        monkeypatch.setattr(catalogue, "CATALOGUE", path)
        yield server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["model", *map(str, arguments)], terminal_width=100)


def test_the_catalogue_has_what_was_published_of_flair() -> None:
    offers = read_catalogue()
    fifteen, twelve = offers["flair-inc-rgb"], offers["flair-inc-rgb-12"]
    assert len(fifteen.classes) == 19
    assert [len(one.classes) - len(one.void) for one in (fifteen, twelve)] == [15, 12]
    assert [fifteen.classes[n].name for n in fifteen.void] == ["clear cut", "mixed", "ligneous", "other"]
    assert all(len(one.sha256) == 64 and one.address.startswith("https://") for one in offers.values())
    with torch.device("meta"):
        network = build(fifteen.encoder, 19, decoder=fifteen.network, norm="batch")
    state = network.state_dict()
    assert len(state) == 278, "as many tensors as the published file is said to hold"
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert 0 < fifteen.size - size < 200_000, "and nearly its size: the rest is names"


@pytest.mark.slow
def test_a_model_is_fetched_checked_converted_and_found_by_its_name(server: FileServer, published: Path) -> None:
    with pytest.raises(ModelError, match="not on this computer yet: aerialseg model add little"):
        model_dir(NAME)
    done = run("add", NAME)
    assert done.exit_code == 0, done.stderr
    folder = user_folder() / NAME
    assert done.stdout.strip() == str(folder) == str(model_dir(NAME)) == str(added()[NAME])
    assert done.stderr.index("Licence Ouverte") < done.stderr.index("Fetching")
    assert [entry.name for entry in user_folder().iterdir()] == [NAME], "nothing else is left"
    card, network = load_network(NAME)
    assert card.exact
    assert (card.gsd_m, card.void, card.architecture.decoder) == (0.2, (14, 15, 16, 18), "smp-unet")
    assert card.mean[0] * 255 == pytest.approx(105.08, abs=1e-3)
    assert "IGN" in card.licence
    given = torch.load(published, weights_only=True)
    assert all(tensor.equal(given[PREFIX + name]) for name, tensor in network.state_dict().items())


@pytest.mark.slow
def test_what_is_here_is_checked_and_not_fetched_again(server: FileServer) -> None:
    add_model(NAME)
    asked = len(server.asked)
    add_model(NAME)
    assert len(server.asked) == asked
    (user_folder() / NAME / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ModelError):
        add_model(NAME)
    add_model(NAME, overwrite=True)
    load_network(NAME)


def test_a_wrong_file_leaves_nothing_that_goes_by_the_name(server: FileServer) -> None:
    server.content = server.content[::-1]
    done = run("add", NAME)
    assert done.exit_code == 4
    assert "SHA-256" in done.stderr
    assert not added()


def test_a_machine_without_internet_takes_a_file(server: FileServer, published: Path, tmp_path: Path) -> None:
    assert run("add", NAME, "--file", published, "-q").exit_code == 0
    assert not server.asked
    assert load_card(NAME).name == NAME
    (tmp_path / "other.pth").write_bytes(published.read_bytes()[:-1] + b"x")
    done = run("add", NAME, "--overwrite", "--file", tmp_path / "other.pth")
    assert done.exit_code == 4
    assert load_card(NAME).name == NAME, "what was there stays"


@pytest.mark.parametrize("how", ["other prefix", "one missing", "no weights"])
def test_weights_that_are_not_those_of_the_network_are_refused(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Path, how: str
) -> None:
    state = dict(torch.load(published, weights_only=True))
    if how == "other prefix":
        state["other.weight"] = torch.ones(1)
    elif how == "one missing":
        del state[PREFIX + "encoder.conv1.weight"]
    torch.save({"epoch": 3} if how == "no weights" else state, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    text = catalogue.CATALOGUE.read_text(encoding="utf-8")
    text = text.replace(f"size = {len(server.content)}", f"size = {len(content)}")
    text = text.replace(hashlib.sha256(server.content).hexdigest(), hashlib.sha256(content).hexdigest())
    (tmp_path / "changed.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "changed.toml")
    with pytest.raises(ModelError, match=r"other\.weight|1 tensors missing|no weights by name"):
        add_model(NAME, file=tmp_path / "w.pth")
    assert not added()


def test_a_name_that_is_not_in_the_catalogue_and_a_link_are_refused(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'little'"):
        add_model("litle")
    user_folder().mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (user_folder() / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        add_model(NAME)


def test_the_list_has_what_can_be_had_until_it_is_here(server: FileServer) -> None:
    found = run("list")
    assert NAME in found.stderr
    assert "aerialseg model add NAME" in found.stderr
    listed = json.loads(run("list", "--json").stdout)
    assert listed[-1]["ref"] == NAME
    assert (listed[-1]["classes"], listed[-1]["size"]) == (15, len(server.content))
    add_model(NAME)
    listed = json.loads(run("list", "--json").stdout)
    assert "problem" not in listed[-1]
    assert listed[-1]["folder"] == str(user_folder() / NAME)
    assert (user_folder() / NAME / CARD).exists()
