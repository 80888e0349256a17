"""FAULTS.md 18, 32: tables and settings as Windows saves them are read, what cannot be read is refused in a line."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from aerialseg.batch.inputs import find_inputs
from aerialseg.batch.jobfile import job_of, read_job
from aerialseg.datasets.pairs import read_scenes, read_split
from aerialseg.datasets.splits import read_groups
from aerialseg.errors import AerialsegError, InputError, ModelError, UsageError
from aerialseg.files import read_table
from aerialseg.legend import LandClass, Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.store import read_history
from aerialseg.toml import read_toml
from aerialseg.vector.qgis import qml
from aerialseg.vector.sld import sld

LEGEND = "id,name,r,g,b\n0,Straße,90,90,90\n1,Gebäude,200,0,0\n"
HABITS = {
    "plain": lambda text: text.encode(),
    "mark": lambda text: text.encode("utf-8-sig"),
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "cr": lambda text: text.replace("\n", "\r").encode(),
    "semicolon": lambda text: text.replace(",", ";").encode("utf-8-sig"),
    "tab": lambda text: text.replace(",", "\t").encode("utf-16"),
    "cp1252": lambda text: text.replace(",", ";").encode("cp1252"),
    "declared": lambda text: ("sep=;\r\n" + text.replace(",", ";")).encode(),
    "declared comma": lambda text: ("sep=,\n" + text).encode(),
    "blanks": lambda text: ("\n" + text.replace(",", " , ") + ",,,\n\n").encode(),
    "no end of line": lambda text: text.rstrip("\n").encode(),
    "upper case": lambda text: (text.partition("\n")[0].upper() + "\n" + text.partition("\n")[2]).encode(),
    "quoted": lambda text: text.replace("Straße", '"Straße"').encode(),
}


@pytest.mark.parametrize("habit", HABITS)
def test_row_32_tables_are_read_as_spreadsheets_save_them(tmp_path, habit):
    path = tmp_path / "table.csv"
    path.write_bytes(HABITS[habit](LEGEND))
    assert Legend.from_csv(path).names == ("Straße", "Gebäude")
    path.write_bytes(HABITS[habit]("frame,held_out,scene\nStraße,1,x\nb,0,\n"))
    assert read_split(path) == {"Straße": True, "b": False}
    assert read_scenes(path) == {"Straße": "x", "b": "frame b"}
    assert read_groups(path, ["Straße"]) == {"Straße": "x"}
    path.write_bytes(HABITS[habit]("path,settings.resolution\nStraße.tif,0.03\n"))
    [found] = find_inputs(job_of({"inputs": {"csv": "table.csv"}, "outputs": {"layer": "{stem}.gpkg"}}, path))
    assert found.fields["stem"] == "Straße"
    assert found.settings == {"resolution_m": 0.03} or habit == "upper case"


@pytest.mark.parametrize("habit", ["plain", "mark", "crlf", "cp1252"])
def test_row_32_lists_and_toml_are_read_as_editors_save_them(tmp_path, habit):
    job = tmp_path / "job.toml"
    job.write_bytes(HABITS[habit]('name = "Straße"\n[inputs]\nlist = "list.txt"\n[outputs]\nlayer = "{stem}.gpkg"\n'))
    (tmp_path / "list.txt").write_bytes(HABITS[habit]("# these\nStraße.tif\n"))
    read = read_job(job)
    assert read.name == "Straße"
    assert [one.path for one in find_inputs(read)] == [str(tmp_path / "Straße.tif")]


def test_row_32_windows_1252_is_said(tmp_path, caplog):
    path = tmp_path / "l.csv"
    path.write_bytes(LEGEND.encode("cp1252"))
    Legend.from_csv(path)
    assert "read as Windows-1252" in caplog.text


REFUSED = {
    "nul": (b"id,name,r,g,b\n0,a,1,1,1\n1,b\0,1,1,1\n", "line 3"),
    "neither": (b"name,r,g,b\n\x81\xff,1,1,1\n", "save it as UTF-8"),
    "control": (b"name,r,g,b\nb,2,2,2\na\x01,1,1,1\n", "line 3.*control character"),
    "quote without end": (b'name,r,g,b\n"' + b"a" * 200_000, "line 2"),
    "separator in a name": (b"name,r,g,b\nroof, red,1,1,1\n", "line 2: 5 cells under 4 columns"),
    "colour": (b"name;r;g;b\na;1;1;1\nb;1;x;1\n", "line 3: g is 'x'"),
    "missing cell": (b"name;r;g;b\na;1;1\n", "line 2: b is ''"),
    "another table": (b"frame,held_out\na,1\n", "'name'.* it has frame, held_out"),
    "no class": (b"name,r,g,b\n,,,\n", "names no class"),
    "twice": (b"name,r,g,b\na,1,1,1\na,1,1,1\n", "'a' twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_row_32_a_legend_that_cannot_be_read_is_refused_with_file_and_line(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / "legend.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"legend\.csv.*{message}"):
        Legend.from_csv(path)


def test_row_32_a_split_says_which_line_is_wrong(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("frame;held_out\na;1\nb;yes\n")
    with pytest.raises(InputError, match=r"split\.csv, line 3: held_out is 'yes'"):
        read_split(path)


def test_row_32_lines_are_counted_over_line_breaks_in_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('sep=,\na,b\n"x\ny",1\n\nz,2\n')
    assert read_table(path, "table", ["a"]) == [(3, {"a": "x\ny", "b": "1"}), (6, {"a": "z", "b": "2"})]


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = 1" + "0" * 5000, "a = \0", "= 1", 'a = "\x01"'])
def test_row_32_toml_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "j.toml").write_text(text)
    with pytest.raises(InputError, match=r"j\.toml"):
        read_toml(tmp_path / "j.toml", "job file")


def test_row_32_no_style_holds_what_xml_cannot():
    for code in (*range(0x20), 0x7F, 0x85, 0xFFFE, 0xFFFF, 0xD800, 0x1F600):
        try:
            legend = Legend((LandClass(0, f"a{chr(code)}", (1, 1, 1)),))
        except InputError:
            assert code not in (9, 0x1F600)
            continue
        for text in (qml(legend, [0]), sld(legend, [0], layer="x")):
            ElementTree.fromstring(text.partition("\n")[2])


ITEM = {
    "type": "Feature",
    "id": "a",
    "collection": "c",
    "properties": {"datetime": "2026-01-01T00:00:00Z", "updated": "x"},
    "assets": {"visual": {"href": "./a.tif", "type": "image/tiff", "roles": ["data"], "file:size": 5}},
}
COLLECTION = {"type": "FeatureCollection", "links": [{"rel": "self", "href": "x"}], "features": [ITEM]}
OTHER: list[Any] = [None, True, 0, 3.5, float("nan"), 1 << 70, "x", "a\0b", "\udc80", [], [1], [[]], {}, {"a": 1}, [{}]]


def places(values: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Keys and indexes that lead to each value inside; of a long list, or of a large object, the first two."""
    inside = list(values.items()) if isinstance(values, dict) else list(enumerate(values))[:2]
    inside = inside if len(place) < 1 else inside[:6]
    below = [places(one, (*place, key)) if isinstance(one, (dict, list)) else [(*place, key)] for key, one in inside]
    return [*([place] if place else []), *(one for some in below for one in some)]


def changed(values: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy in which ``value`` stands at that place, or nothing at all where it is ``del``."""
    values = copy.deepcopy(values)
    inside = values
    for key in place[:-1]:
        inside = inside[key]
    if value == "del":
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return values


def refusal(read: Callable[[], object], kinds: Any) -> str | None:
    """The message of the error, which is of those kinds and has one line; None where there is none."""
    try:
        read()
    except kinds as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    return said


def stac_job(path: Path) -> Any:
    return job_of({"inputs": {"stac": path.name}, "outputs": {"layer": "{id}.gpkg"}}, path)


@pytest.mark.parametrize("place", places(COLLECTION), ids=str)
def test_row_32_stac_with_a_value_of_another_type_is_read_or_refused_with_its_key(tmp_path, place):
    path = tmp_path / "items.json"
    for value in [*OTHER, "del"]:
        path.write_text(json.dumps(changed(COLLECTION, place, value)))
        said = refusal(lambda: find_inputs(stac_job(path)), (InputError, UsageError))
        assert said is None or "items.json" in said or "asset" in said


NO_STAC = ["", "[" * 100_000, "[]", "null", '{"type": "FeatureCollection"}', "\0", "{" * 9, "1", '{"a": "\\ud800"}']


@pytest.mark.parametrize("text", NO_STAC)
def test_row_32_json_that_holds_no_stac_is_refused(tmp_path, text):
    (tmp_path / "items.json").write_text(text)
    with pytest.raises(InputError, match=r"items\.json"):
        find_inputs(stac_job(tmp_path / "items.json"))


def test_row_32_stac_with_a_mark_in_front_is_read(tmp_path):
    (tmp_path / "items.json").write_text(json.dumps(COLLECTION), encoding="utf-8-sig")
    assert [one.name for one in find_inputs(stac_job(tmp_path / "items.json"))] == ["a"]


CARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "aerialseg/embedded/card.json").read_text())
FREE = ("description", "licence", "created", "code_version", "name", "weights_sha256")
"""Fields that take any text."""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("place", places(CARD), ids=str)
def test_row_18_a_card_with_a_field_of_another_type_is_refused_or_can_be_shown(place):
    from aerialseg.cli.display_model import show_card

    for value in OTHER:
        values = changed(CARD, place, value)
        if refusal(lambda values=values: ModelCard.from_json(values), ModelError):
            continue
        card = ModelCard.from_json(values)
        show_card(card, Path())
        assert card.digest
        met = CARD[place[0]] if len(place) == 1 else None
        assert met is None or isinstance(value, type(met)) or (type(met), type(value)) == (float, int), place


@pytest.mark.parametrize("name", ["name", "legend", "gsd_m", "format"])
def test_row_18_a_card_without_what_it_needs_says_what(name):
    with pytest.raises(ModelError, match=name):
        ModelCard.from_json({key: value for key, value in CARD.items() if key != name})


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "5", "\0", "", '{"a": '])
def test_row_18_a_card_or_history_that_is_no_json_object_is_refused(tmp_path, text):
    for name, read in (("card.json", lambda: ModelCard.read(tmp_path / "card.json")), ("history.json", None)):
        (tmp_path / name).write_text(text)
        with pytest.raises(ModelError, match=name):
            read() if read else read_history(tmp_path)


def test_row_18_a_faulty_card_leaves_the_output_as_it_is(tmp_path):
    from aerialseg.mapping.segment import segment

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"")
    card = changed(CARD, ("quantization", "ranges"), 1 << 70)
    (tmp_path / "m" / "card.json").write_text(json.dumps(card))
    (tmp_path / "lc.gpkg").write_bytes(b"before")
    with pytest.raises(AerialsegError) as caught:
        segment(tmp_path / "o.tif", tmp_path / "lc.gpkg", model=tmp_path / "m", overwrite=True)
    assert (tmp_path / "lc.gpkg").read_bytes() == b"before"
    assert caught.value.exit_code in (3, 4, 5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # fastai, which training brings, warns about itself
@pytest.mark.parametrize("name", ["jobs/drone-flight.toml", "training/drone.toml", "training/resolution.toml"])
def test_row_32_a_job_or_training_with_a_value_of_another_type_is_refused_or_read(monkeypatch, name):
    from aerialseg.batch import jobfile
    from aerialseg.training import config, experiments

    path = Path(__file__).parents[2] / "configs" / name
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    module, read = (jobfile, read_job) if "jobs" in name else (config, config.TrainingConfig.read)
    if "runs" in values:
        module, read = experiments, experiments.Experiment.read
    for place in places(values):
        for value in OTHER:
            met = changed(values, place, value)
            monkeypatch.setattr(module, "read_toml", lambda *_, met=met: met)
            refusal(lambda: read(path), (InputError, UsageError))
