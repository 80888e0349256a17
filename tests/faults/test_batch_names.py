"""Rows 24, 29, 30 and 31 for batch: no input is overwritten, no result is lost, none leaves its folder."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aerialseg.batch.dry_run import dry_run
from aerialseg.batch.inputs import find_inputs
from aerialseg.batch.job import Selection
from aerialseg.cli import cli
from aerialseg.errors import InputError, UsageError
from tests.batch.conftest import SIDE, Folder, draw
from tests.conftest import land_cover
from tests.fakes import Oracle


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """a.tif and b.tif in the folder in."""
    for number, name in enumerate("ab"):
        draw(tmp_path / f"in/{name}.tif", land_cover(SIDE, SIDE, seed=number))
    return Folder(tmp_path)


def files(folder: Folder) -> dict[Path, bytes]:
    """All files but those of the job's folder."""
    found: Iterator[Path] = (path for path in folder.path.rglob("*") if path.is_file() and not path.is_symlink())
    return {path: path.read_bytes() for path in found if "night.job" not in path.parts}


def refuses(folder: Folder, *named: str, **tables: Any) -> str:
    """What is said by a run, and a dry run, that is refused with exit code 2, names both, and leaves all as it was."""
    before = files(folder)
    with pytest.raises(UsageError) as said:
        folder.run(**tables)
    with pytest.raises(UsageError):
        dry_run(folder.job(**tables), predictor=Oracle())
    assert files(folder) == before
    assert said.value.exit_code == 2
    assert not [name for name in named if name not in str(said.value)]
    return str(said.value)


def stac(folder: Folder, *items: tuple[str, str], **more: Any) -> dict[str, Any]:
    """[inputs] of STAC items: (id, href)."""
    features = [
        {"type": "Feature", "id": name, "assets": {"visual": {"href": href, "type": "image/tiff"}}, **more}
        for name, href in items
    ]
    (folder.path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return {"stac": "items.json"}


# Row 29: outputs that meet


def test_row_29_the_same_stem_in_two_folders_is_refused_and_both_are_named(folder: Folder) -> None:
    draw(folder.path / "other/a.tif", land_cover(SIDE, SIDE, seed=7))
    tables = {"inputs": {"glob": ["in/*.tif", "other/*.tif"]}, "outputs": {"layer": "out/{stem}.gpkg"}}
    refuses(folder, "in/a.tif", "other/a.tif", "{folder}", **tables)


def test_row_29_the_command_ends_with_2(folder: Folder) -> None:
    draw(folder.path / "other/a.tif", land_cover(SIDE, SIDE, seed=7))
    job = folder.path / "night.toml"
    job.write_text('[inputs]\nglob = ["in/*.tif", "other/*.tif"]\n[outputs]\nlayer = "out/{stem}.gpkg"\n')
    said = CliRunner().invoke(cli, ["batch", str(job)])
    assert (said.exit_code, said.stdout) == (2, "")
    assert "in/a.tif" in said.stderr
    assert "other/a.tif" in said.stderr


def test_row_29_two_items_of_one_id_are_refused(folder: Folder) -> None:
    inputs = stac(folder, ("one", "in/a.tif"), ("one", "in/b.tif"))
    refuses(folder, "in/a.tif", "in/b.tif", inputs=inputs, outputs={"layer": "out/{id}.gpkg"})


@pytest.mark.parametrize(
    ("first", "second"), [("Tile", "tile"), ("Straße", "strasse"), ("caf\u00e9", "cafe\u0301"), ("A/x", "a/x")]
)
def test_row_29_names_that_are_one_file_on_other_disks_are_refused(folder: Folder, first: str, second: str) -> None:
    inputs = stac(folder, (first, "in/a.tif"), (second, "in/b.tif"))
    refuses(folder, "in/a.tif", "in/b.tif", inputs=inputs, outputs={"layer": "out/{id}.gpkg"})


def test_row_29_folders_that_are_one_by_a_link_are_refused(folder: Folder) -> None:
    (folder.path / "out/north").mkdir(parents=True)
    (folder.path / "out/south").symlink_to("north")
    (folder.path / "list.csv").write_text("path,flight\nin/a.tif,north\nin/b.tif,south\n")
    refuses(
        folder, "in/a.tif", "in/b.tif", inputs={"csv": "list.csv"}, outputs={"layer": "out/{flight}/{folder}/all.gpkg"}
    )


def test_row_29_the_second_file_of_a_dissolved_layer_counts(folder: Folder) -> None:
    draw(folder.path / "in/a_by_class.tif", land_cover(SIDE, SIDE, seed=7))
    tables = {"inputs": {"glob": "in/*.tif"}, "outputs": {"layer": "out/{stem}.fgb"}}
    assert folder.run(**tables).counts == {"done": 3}
    for ending in (".fgb", ".parquet"):
        changes = {"outputs": {"layer": f"out/{{stem}}{ending}"}, "settings": {"dissolve": True}}
        refuses(folder, "in/a.tif", "in/a_by_class.tif", **{**tables, **changes})


def test_row_29_what_lies_beside_a_raster_counts(folder: Folder) -> None:
    """Publishing x.tif removes the x.tif.msk that is there: here it would be another input's folder."""
    (folder.path / "list.csv").write_text("path,place\nin/a.tif,x\nin/b.tif,x.tif.msk/y\n")
    refuses(
        folder, "x.tif.msk", inputs={"csv": "list.csv"}, outputs={"layer": "out/{stem}.gpkg", "raster": "r/{place}.tif"}
    )


def test_row_29_two_outputs_of_one_input_are_refused(folder: Folder) -> None:
    refuses(folder, "in/a.tif", outputs={"layer": "l/{stem}.gpkg", "raster": "{stem}.tif", "confidence": "{stem}.TIF"})


def test_row_29_an_output_that_is_a_folder_of_another_is_refused(folder: Folder) -> None:
    refuses(folder, "a.gpkg", outputs={"layer": "out/{stem}.gpkg", "raster": "out/a.gpkg/{stem}.tif"})


@pytest.mark.parametrize("place", ["runs", "reports", "ledger.sqlite"])
def test_row_29_the_jobs_own_files_are_no_place_for_results(folder: Folder, place: str) -> None:
    refuses(folder, f"night.job/{place}", outputs={"layer": f"night.job/{place}/{{stem}}.gpkg"})


def test_row_29_names_of_the_jobs_own_files_are_those_that_a_run_makes(folder: Folder) -> None:
    folder.run()
    assert {path.name for path in (folder.path / "night.job").iterdir()} == {"ledger.sqlite", "lock", "reports", "runs"}


# Row 30: an output that is an input; no inputs

BESIDE = {"inputs": {"glob": "in/*.tif"}, "outputs": {"layer": "out/{stem}.gpkg", "raster": "in/{stem}_lc.tif"}}


def test_row_30_a_raster_that_has_the_name_of_a_result_is_never_overwritten(folder: Folder) -> None:
    draw(folder.path / "in/a_lc.tif", land_cover(SIDE, SIDE, seed=7))
    refuses(folder, "in/a.tif", "in/a_lc.tif", **BESIDE)


def test_row_30_results_of_the_job_are_not_its_inputs(folder: Folder) -> None:
    tables = {**BESIDE, "inputs": {"glob": "in/*"}}
    assert folder.run(**tables).counts == {"done": 2}
    before = files(folder)
    assert (folder.path / "in/a_lc.tif.aux.xml") in before
    assert folder.run(**tables).counts == {"unchanged": 2}
    assert files(folder) == before
    (folder.path / "in/a_lc.tif").unlink()
    assert folder.run(**tables).counts == {"done": 1, "unchanged": 1}


def test_row_30_results_of_an_input_that_is_gone_are_no_inputs_either(folder: Folder) -> None:
    folder.run(**BESIDE)
    (folder.path / "in/b.tif").unlink()
    assert folder.run(**BESIDE).counts == {"unchanged": 1}


def test_row_30_a_raster_put_in_the_place_of_a_result_is_an_input(folder: Folder) -> None:
    folder.run(**BESIDE)
    draw(folder.path / "in/a_lc.tif", land_cover(SIDE, SIDE, seed=7))
    refuses(folder, "in/a.tif", "in/a_lc.tif", **BESIDE)


def test_row_30_without_its_ledger_a_job_does_not_take_files_for_its_own(folder: Folder) -> None:
    folder.run(**BESIDE)
    (folder.path / "night.job/ledger.sqlite").unlink()
    assert "move it away" in refuses(folder, "in/a_lc.tif", **BESIDE)


@pytest.mark.slow
def test_row_30_the_result_of_a_run_that_was_killed_is_its_own(folder: Folder) -> None:
    """Killed between publishing and writing that down: the ledger says "running" of a file that is there."""
    folder.run(**BESIDE)
    base = sqlite3.connect(folder.path / "night.job/ledger.sqlite")
    base.execute("UPDATE inputs SET status = 'running'")
    base.commit()
    base.close()
    assert folder.run(**BESIDE).counts == {"done": 2}


@pytest.mark.parametrize("linked", [os.link, os.symlink])
def test_row_24_an_output_that_is_an_input_by_a_link_is_refused(folder: Folder, linked: Any) -> None:
    (folder.path / "out").mkdir()
    linked(folder.path / "in/b.tif", folder.path / "out/a.tif")
    refuses(folder, "in/b.tif", "out/a.tif")


def test_row_24_an_output_that_is_an_input_by_another_folder_or_in_capitals_is_refused(folder: Folder) -> None:
    (folder.path / "again").symlink_to("in")
    refuses(folder, "in/a.tif", outputs={"layer": "out/{stem}.gpkg", "raster": "again/{stem}.tif"})
    refuses(folder, "in/a.tif", outputs={"layer": "out/{stem}.gpkg", "raster": "IN/{stem}.tif"})
    refuses(
        folder, "in/a.tif", outputs={"layer": "out/{stem}.gpkg", "raster": "in/x/../{stem}.tif".replace("x/../", "")}
    )


@pytest.mark.parametrize("ending", [".msk", ".ovr", ".aux.xml"])
def test_row_24_a_file_beside_a_result_that_is_an_input_is_never_removed(folder: Folder, ending: str) -> None:
    draw(folder.path / f"out/a.tif{ending}", land_cover(SIDE, SIDE, seed=7))
    tables = {"inputs": {"glob": ["in/*.tif", "out/*"]}}
    refuses(folder, f"out/a.tif{ending}", "in/a.tif", **tables)


@pytest.mark.parametrize("ending", [".tif.msk", ".tif.ovr", ".tif.aux.xml", ".tfw", ".prj"])
def test_row_24_a_file_beside_an_input_is_never_overwritten(folder: Folder, ending: str) -> None:
    """The mask, world file ... of an input may be a link to where a result is to go."""
    (folder.path / "out").mkdir()
    (folder.path / "out/b.tif").write_bytes(b"a mask")
    (folder.path / f"in/a{ending}").symlink_to("../out/b.tif")
    refuses(folder, f"in/a{ending}", "out/b.tif")


def test_row_30_a_report_does_not_overwrite_the_list_of_inputs(folder: Folder) -> None:
    outputs = {"layer": "out/{stem}.gpkg", "report": "items.json"}
    refuses(folder, "items.json", inputs=stac(folder, ("one", "in/a.tif")), outputs=outputs)


def test_row_30_working_files_of_the_job_are_not_its_inputs(folder: Folder) -> None:
    tables = {"inputs": {"glob": "**/*.tif"}, "outputs": {"layer": "out/{stem}.gpkg"}, "keep": {"runs": True}}
    assert folder.run(**tables).counts == {"done": 2}
    assert list((folder.path / "night.job/runs").rglob("*.tif"))
    assert folder.run(**tables).counts == {"unchanged": 2}


def test_row_30_no_inputs_is_an_input_error_unless_it_is_allowed(folder: Folder) -> None:
    for tables in ({"inputs": {"glob": "in/*.jp2"}}, {"inputs": {"glob": "in/*.tif", "exclude": ["*"]}}):
        with pytest.raises(InputError, match="allow_empty") as said:
            folder.run(**tables)
        assert said.value.exit_code == 3
        with pytest.raises(InputError):
            dry_run(folder.job(**tables), predictor=Oracle())
        tables["inputs"]["allow_empty"] = True
        assert folder.run(**tables).exit_code == 0


def test_row_30_a_list_or_a_selection_without_inputs_is_an_input_error(folder: Folder) -> None:
    (folder.path / "list.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match=r"list\.txt names no input"):
        folder.run(inputs={"list": "list.txt"})
    with pytest.raises(InputError, match="none of the 2 inputs matches --only 'x"):
        folder.run(Selection(only="x*"))
    with pytest.raises(InputError, match="names no input"):
        folder.run(inputs=stac(folder))


def test_row_30_no_inputs_names_near_misses(folder: Folder) -> None:
    draw(folder.path / "caps/DJI_1.TIF", land_cover(SIDE, SIDE))
    draw(folder.path / "sub [1]/a.tif", land_cover(SIDE, SIDE))
    (folder.path / "caps/dead.tif").symlink_to("nowhere.tif")
    (folder.path / "caps/.hidden.tif").write_bytes(b"")
    with pytest.raises(InputError) as said:
        folder.run(inputs={"glob": ["caps/*.tif", "sub [1]/*.tif"]})
    for text in (r"caps/DJI_1.TIF differs", r"caps/dead.tif is a link", r"write 'sub [[]1]'"):
        assert text in str(said.value)
    assert folder.run(inputs={"glob": "sub [[]1]/*.tif"}).counts == {"done": 1}


def test_row_30_near_misses_are_warned_of_where_others_match(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    draw(folder.path / "in/C.TIF", land_cover(SIDE, SIDE))
    with caplog.at_level(logging.WARNING):
        assert len(find_inputs(folder.job())) == 2
    assert "C.TIF differs" in caplog.text
    caplog.clear()
    assert len(find_inputs(folder.job(inputs={"glob": ["in/*.tif", "in/*.TIF"]}))) == 3
    assert len(find_inputs(folder.job(inputs={"glob": "in/*.tif", "exclude": ["*.TIF"]}))) == 2
    assert caplog.text == ""


def test_row_30_brackets_in_the_job_files_own_folder_are_no_wildcards(tmp_path: Path) -> None:
    place = Folder(tmp_path / "flight [1]")
    draw(place.path / "in/a.tif", land_cover(SIDE, SIDE))
    assert [one.name for one in find_inputs(place.job())] == ["a.tif"]
    assert find_inputs(place.job(inputs={"glob": "in/*.tif", "exclude": ["in/a*"]})) == []


@pytest.mark.timeout(20)
def test_row_30_a_loop_of_links_ends_and_each_raster_counts_once(folder: Folder) -> None:
    for name in ("loop", "loop2", "loop3"):
        (folder.path / "in" / name).symlink_to(".")
    (folder.path / "in/again.tif").symlink_to("b.tif")
    (folder.path / "in/deep").mkdir()
    (folder.path / "current").symlink_to("in")
    os.link(folder.path / "in/a.tif", folder.path / "in/deep/z.tif")
    job = folder.job(inputs={"glob": ["current/*.tif", "**/*.tif"]})
    assert [os.path.relpath(one.path, folder.path) for one in find_inputs(job)] == ["in/a.tif", "in/b.tif"]


def test_row_30_a_folder_outside_is_reached_by_its_link(folder: Folder) -> None:
    (folder.path / "jobs/x").mkdir(parents=True)
    (folder.path / "jobs/x/orthos").symlink_to("../../in")
    job = Folder(folder.path / "jobs").job(inputs={"glob": "**/*.tif"})
    assert [one.fields["folder"] for one in find_inputs(job)] == ["x/orthos", "x/orthos"]


# Row 31: values and patterns that lead elsewhere

LAYERS = [
    "{stem:999999999}.gpkg",
    "{stem:>9}.gpkg",
    "{stem!r}.gpkg",
    "{stem.__class__}.gpkg",
    "{stem[0]}.gpkg",
    "{0}.gpkg",
    "{}.gpkg",
    "{stem:{name}}.gpkg",
    "{stem.gpkg",
    "out/../../{stem}.gpkg",
    "out/{stem}/../../x.gpkg",
    "{folder}/../{stem}.gpkg",
    "out/{stem}\n.gpkg",
    "/tmp/aerialseg-{stem}\x1b.gpkg",
]


@pytest.mark.parametrize("layer", LAYERS)
def test_row_31_a_pattern_is_made_of_names_and_plain_fields(folder: Folder, layer: str) -> None:
    refuses(folder, "outputs.layer", outputs={"layer": layer})


@pytest.mark.parametrize("table", ["inputs", "outputs"])
def test_row_31_a_nul_in_a_job_file_is_refused(folder: Folder, table: str) -> None:
    tables: dict[str, Any] = {"inputs": {"glob": "in/*\0.tif"}, "outputs": {"layer": "a\0{stem}.gpkg"}}
    refuses(folder, table, "NUL", **{table: tables[table]})


VALUES = ["../x", "..", "a/../../x", "..\\x", "/etc/x", "\\x", "C:\\x", "a\nb", "a\x1b", "", "x/"]


@pytest.mark.parametrize("value", [*VALUES, "a\0b"])
def test_row_31_an_id_of_an_item_cannot_lead_elsewhere(folder: Folder, value: str) -> None:
    inputs = stac(folder, (value, "in/a.tif"))
    refuses(folder, "items.json", inputs=inputs, outputs={"layer": "out/{id}.gpkg"})
    assert not (folder.path / "x.gpkg").exists()


@pytest.mark.parametrize("value", VALUES)
def test_row_31_a_column_cannot_lead_elsewhere(folder: Folder, value: str) -> None:
    (folder.path / "list.csv").write_text(f'path,flight\nin/a.tif,"{value}"\n')
    refuses(folder, "list.csv, line 2", inputs={"csv": "list.csv"}, outputs={"layer": "out/{flight}.gpkg"})


def test_row_31_dots_of_two_columns_do_not_add_up(folder: Folder) -> None:
    (folder.path / "list.csv").write_text("path,one,two\nin/a.tif,.,.\n")
    refuses(folder, "line 2", inputs={"csv": "list.csv"}, outputs={"layer": "{one}{two}/{stem}.gpkg"})


def test_row_31_columns_that_no_pattern_uses_may_say_anything(folder: Folder) -> None:
    (folder.path / "list.csv").write_text("path,note,place\nin/a.tif,see ../x and /y,north/a..b\n")
    tables = {"inputs": {"csv": "list.csv"}, "outputs": {"layer": "out/{place}/{stem}.gpkg"}}
    assert folder.run(**tables).counts == {"done": 1}
    assert (folder.path / "out/north/a..b/a.gpkg").exists()


def test_row_31_an_empty_folder_does_not_lead_to_the_root(folder: Folder) -> None:
    assert folder.run(outputs={"layer": "{folder}/{stem}-lc.gpkg"}).counts == {"done": 2}
    assert (folder.path / "a-lc.gpkg").exists()


@pytest.mark.slow
def test_row_31_a_pattern_that_says_so_leaves_the_job_files_folder(folder: Folder) -> None:
    inside = Folder(folder.path / "jobs")
    inside.path.mkdir()
    tables = {"inputs": {"glob": "../in/*.tif"}}
    assert inside.run(outputs={"layer": "../out/{stem}.gpkg"}, **tables).counts == {"done": 2}
    assert inside.run(outputs={"layer": f"{folder.path}/x/../far/{{stem}}.gpkg"}, **tables).counts == {"done": 2}
    assert (folder.path / "out/a.gpkg").exists()
    assert (folder.path / "far/a.gpkg").exists()


@pytest.mark.slow
def test_row_31_names_of_files_are_names_whatever_they_hold(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable, a home or a field in a file's own name means nothing."""
    monkeypatch.setenv("FLIGHT", "/somewhere")
    for name in ("$FLIGHT", "~root", "{job}", "line\nbreak", "a..b"):
        draw(folder.path / f"in/{name}.tif", land_cover(SIDE, SIDE))
    assert folder.run(outputs={"layer": "{stem}.gpkg"}).counts == {"done": 7}
    assert {path.stem for path in folder.path.glob("*.gpkg")} == {
        "a",
        "b",
        "$FLIGHT",
        "~root",
        "{job}",
        "line\nbreak",
        "a..b",
    }


def test_row_31_a_path_that_is_none_is_refused(folder: Folder) -> None:
    refuses(folder, "items.json", inputs=stac(folder, ("one", "in/a\0.tif")))
    (folder.path / "list.txt").write_text("in/a\0.tif\n")
    with pytest.raises(InputError, match=r"list\.txt, line 1"):
        folder.run(inputs={"list": "list.txt"})
