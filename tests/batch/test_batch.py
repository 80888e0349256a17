"""The job: what is done, what is left alone, what is said; with predictors that need no torch."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerialseg.batch import changes as decide
from aerialseg.batch.dry_run import describe_estimate, dry_run
from aerialseg.batch.events import Events
from aerialseg.batch.job import Selection
from aerialseg.batch.ledger import LEDGER
from aerialseg.batch.lock import hold_folder
from aerialseg.batch.status import status_of
from aerialseg.errors import InputError, OutputError
from aerialseg.mapping.settings import BLOCK_PX, warn_of_old_name
from aerialseg.model.interface import Prediction, Tile
from aerialseg.raster.opening import without_georef_warnings
from tests.batch.conftest import SIDE, Folder, Told, cut_in_half, draw
from tests.conftest import land_cover
from tests.fakes import Oracle

ALL = {"a.tif", "b.tif", "deep/c.tif"}


@dataclass(frozen=True)
class Counted(Oracle):
    """Notes each tile; fails at those whose numbers are in ``fails``."""

    seen: list[int] = field(default_factory=list)
    fails: tuple[int, ...] = ()

    def predict(self, tile: Tile) -> Prediction:
        self.seen.append(len(self.seen))
        if self.seen[-1] in self.fails:
            raise RuntimeError("the fake died, as it was told to")
        return super().predict(tile)


class InInt8(Counted):
    numerics = "cpu int8"


def outputs(folder: Folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in (folder.path / "out").rglob("*.tif")}


def test_every_input_gets_its_layer_and_the_second_run_does_nothing(folder: Folder) -> None:
    counted = Counted()
    first = folder.run(predictor=counted)
    assert (first.exit_code, first.counts) == (0, {"done": 3})
    assert all((folder.path / "out" / f"{name}.gpkg").exists() for name in ("a", "b", "deep/c"))
    assert list((folder.path / "night.job/runs").iterdir()) == []
    before = outputs(folder)
    second = folder.run(predictor=counted)
    assert (second.exit_code, second.counts) == (0, {"unchanged": 3})
    assert len(counted.seen) == 3
    assert outputs(folder) == before


@pytest.mark.slow
def test_a_changed_input_is_done_again_and_no_other(folder: Folder) -> None:
    folder.run()
    draw(folder.path / "in/b.tif", land_cover(SIDE, SIDE, seed=9))
    assert folder.run().counts == {"done": 1, "unchanged": 2}
    assert folder.reasons() == {"a.tif": "unchanged", "b.tif": "the input changed", "deep/c.tif": "unchanged"}


def test_an_input_that_was_only_touched_is_not_done_again(folder: Folder) -> None:
    folder.run()
    os.utime(folder.path / "in/b.tif")
    assert folder.run().counts == {"unchanged": 3}
    assert "the same content" in folder.reasons()["b.tif"]
    folder.run()
    assert folder.reasons()["b.tif"] == "unchanged"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": {"min-area": 2}}, "min-area changed from the default to 2.0"),
        ({"outputs": {"layer": "out/{folder}/{stem}-2.gpkg"}}, "the names of its outputs changed"),
    ],
)
def test_other_settings_do_all_again(folder: Folder, changes: dict[str, Any], reason: str) -> None:
    folder.run()
    assert folder.run(**changes).counts == {"done": 3}
    assert set(folder.reasons().values()) == {f"{reason} ({decide.NOTHING_KEPT})"}


@pytest.mark.slow
def test_a_setting_by_its_old_name_warns_once_and_another_name_is_another_setting(
    folder: Folder, told: tuple[Events, Told]
) -> None:
    warn_of_old_name.cache_clear()
    events, lines = told
    assert folder.run(settings={"gsd": 0.2}, events=events).counts == {"done": 3}
    said = [line for line in lines if "until version" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: settings.gsd works until version 0.3: write settings.resolution METRES|native")
    assert folder.run(settings={"resolution": 0.2}).counts == {"done": 3}, "the old name may have meant the pixel size"
    assert folder.run(settings={"resolution": 0.1}).counts == {"done": 3}
    assert "resolution changed from 0.2 to 0.1" in folder.reasons()["a.tif"]


def test_settings_that_cannot_change_a_result_do_nothing_again(folder: Folder) -> None:
    folder.run()
    assert folder.run(settings={"max-pixels": 1e6, "device": "cpu"}).counts == {"unchanged": 3}


@pytest.mark.slow
def test_another_model_or_version_does_all_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.run()
    other = Oracle(replace(Oracle().card, weights_sha256="1" * 64))
    assert folder.run(predictor=other).counts == {"done": 3}
    assert set(folder.reasons().values()) == {"the model changed"}
    monkeypatch.setattr(decide, "__version__", "99.0")
    assert folder.run(predictor=other).counts == {"done": 3}
    assert all(reason.endswith("to 99.0") for reason in folder.reasons().values())


@pytest.mark.slow
def test_a_missing_output_is_made_again(folder: Folder) -> None:
    folder.run()
    (folder.path / "out/deep/c.tif").unlink()
    assert folder.run().counts == {"done": 1, "unchanged": 2}
    assert folder.reasons()["deep/c.tif"].endswith("c.tif is missing")
    assert (folder.path / "out/deep/c.tif").exists()


def test_a_broken_input_is_named_and_the_others_are_done(folder: Folder) -> None:
    cut_in_half(folder.path / "in/b.tif")
    summary = folder.run()
    assert (summary.exit_code, summary.counts) == (1, {"done": 2, "failed": 1})
    broken = folder.entries()["b.tif"]
    assert (broken.status, broken.error_kind) == ("failed", "input")
    assert "damaged or cut short" in broken.error
    assert not (folder.path / "out/b.gpkg").exists()
    assert list((folder.path / "night.job/runs").iterdir()) == []


@pytest.mark.slow
def test_an_older_result_stays_when_the_new_input_is_broken(folder: Folder) -> None:
    folder.run()
    before = outputs(folder)
    cut_in_half(folder.path / "in/b.tif")
    assert folder.run().exit_code == 1
    assert outputs(folder) == before


@pytest.mark.slow
def test_a_broken_input_is_not_tried_every_night_but_is_named_every_morning(folder: Folder) -> None:
    cut_in_half(folder.path / "in/b.tif")
    folder.run()
    counted = Counted()
    summary = folder.run(predictor=counted)
    assert (summary.exit_code, summary.counts) == (1, {"unchanged": 2, "failed": 1})
    assert counted.seen == []
    assert "--retry-failed" in folder.reasons()["b.tif"]
    assert folder.run(Selection(retry_failed=True)).exit_code == 1
    assert folder.entries()["b.tif"].reason == "failed before"
    draw(folder.path / "in/b.tif", land_cover(SIDE, SIDE, seed=1))
    assert folder.run().counts == {"done": 1, "unchanged": 2}


def test_a_missing_input_fails_by_its_name(folder: Folder) -> None:
    (folder.path / "list.txt").write_text("in/a.tif\nin/none.tif\n")
    summary = folder.run(inputs={"list": "list.txt"})
    assert (summary.exit_code, summary.counts) == (1, {"done": 1, "failed": 1})
    assert "none.tif" in folder.entries()["in/none.tif"].error


@pytest.mark.slow
def test_what_may_pass_is_tried_again_after_a_pause(folder: Folder, told: tuple[Events, Told]) -> None:
    events, lines = told
    start = time.monotonic()
    retry = {"times": 2, "wait_s": 0.3, "factor": 2}
    summary = folder.run(predictor=Counted(fails=(0, 3)), events=events, retry=retry)
    assert (summary.exit_code, summary.counts) == (0, {"done": 3})
    assert folder.entries()["a.tif"].attempts == 3
    assert time.monotonic() - start >= 0.3 + 0.6
    assert [line for line in lines if "trying again in" in line]


def test_tries_are_limited_and_broken_inputs_are_tried_once(folder: Folder) -> None:
    cut_in_half(folder.path / "in/b.tif")
    summary = folder.run(predictor=Counted(fails=tuple(range(20))), retry={"times": 2, "wait_s": 0.0})
    assert summary.counts == {"failed": 3}
    assert {name: entry.attempts for name, entry in folder.entries().items()} == {
        "a.tif": 3,
        "b.tif": 1,
        "deep/c.tif": 3,
    }
    assert "RuntimeError: the fake died" in folder.entries()["a.tif"].error


@pytest.mark.slow
def test_when_more_fail_than_are_tolerated_no_more_are_begun(folder: Folder) -> None:
    summary = folder.run(predictor=Counted(fails=(0, 1, 2)), failures={"tolerate": 0})
    assert (summary.exit_code, summary.counts) == (1, {"failed": 1, "not finished": 2})
    assert folder.run().counts == {"done": 3}
    assert folder.reasons()["b.tif"] == "was not finished"


def test_only_some(folder: Folder) -> None:
    assert folder.run(Selection(only="deep/*")).counts == {"done": 1}
    assert not (folder.path / "out/a.gpkg").exists()
    assert folder.run().counts == {"done": 2, "unchanged": 1}


@pytest.mark.slow
def test_several_rasters_at_a_time_give_the_same(folder: Folder) -> None:
    folder.run()
    before = outputs(folder)
    folder.run(settings={"min-area": 0.5}, run={"rasters": 3})
    folder.run(run={"rasters": 3})
    assert outputs(folder) == before


def test_the_report_names_every_input_and_is_one_page_that_needs_nothing_else(folder: Folder) -> None:
    draw(folder.path / "in/<b>&.tif", land_cover(SIDE, SIDE, seed=5))
    cut_in_half(folder.path / "in/b.tif")
    summary = folder.run()
    values = json.loads(summary.reports[0].read_text())
    lines = {line["name"]: line for line in values["inputs"]}
    assert set(lines) == {*ALL, "<b>&.tif"}
    assert values["totals"]["inputs"] == {"failed": 1, "done": 3}
    done = lines["a.tif"]
    assert sum(done["areas_m2"].values()) == pytest.approx((SIDE * 0.1) ** 2, rel=0.01)
    assert (done["status"], done["pixels"], done["reason"]) == ("done", SIDE * SIDE, "new")
    assert sum(len(bars) for bars in values["workers"].values()) == 4
    page = summary.reports[1].read_text()
    assert "1 of 4 inputs failed" in page
    assert "damaged or cut short" in page
    assert "&lt;b&gt;&amp;.tif" in page
    assert page.count('src="data:image/png;base64,') == 3
    assert "<svg" in page
    assert not [word for word in ('src="http', 'href="http', "<link", "@import") if word in page]
    assert (summary.reports[1].parent / "latest.html").read_text() == page


@pytest.mark.long
@pytest.mark.slow
def test_the_report_of_a_run_that_did_nothing_still_shows_what_is_there(folder: Folder) -> None:
    folder.run()
    page = folder.run().reports[1].read_text()
    assert "There was nothing to do" in page
    assert page.count('src="data:image/png;base64,') == 3


@pytest.mark.slow
def test_old_reports_go(folder: Folder) -> None:
    for _ in range(4):
        folder.run(keep={"reports": 2})
    assert len(list((folder.path / "night.job/reports").glob("*run*.html"))) == 2


@pytest.mark.slow
def test_what_a_kill_left_of_a_run_directory_does_no_harm(folder: Folder) -> None:
    folder.run(keep={"runs": True})
    runs = folder.path / "night.job/runs"
    for torn in runs.iterdir():  # as a removal, or a beginning, that was cut off may leave it
        for path in torn.iterdir():
            if path.is_file():
                path.unlink()
    (runs / "gone-0123").mkdir()
    for path in (folder.path / "out").rglob("*.gpkg"):
        path.unlink()
    assert folder.run().counts == {"done": 3}
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize("changed", ["", "input", "model", "numerics", "settings", "version"])
def test_blocks_of_an_interrupted_run_are_those_of_the_same_input_computed_in_the_same_way(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    only_a, two_blocks = Selection(only="a.tif"), (8, BLOCK_PX + 8)
    draw(folder.path / "in/a.tif", land_cover(*two_blocks))
    assert folder.run(only_a, predictor=Counted(fails=(1,))).exit_code == 1
    if changed == "input":
        draw(folder.path / "in/a.tif", land_cover(*two_blocks, seed=9))
    if changed == "version":
        monkeypatch.setattr(decide, "__version__", "99.0")
    counted = InInt8() if changed == "numerics" else Counted()
    if changed == "model":
        counted = Counted(replace(counted.card, weights_sha256="1" * 64))
    settings = {"bands": [3, 2, 1]} if changed == "settings" else {}
    assert folder.run(only_a, predictor=counted, settings=settings).counts == {"done": 1}
    assert len(counted.seen) == (2 if changed else 1)


@pytest.mark.slow
def test_run_directories_are_kept_on_request(folder: Folder) -> None:
    folder.run(keep={"runs": True})
    assert len(list((folder.path / "night.job/runs").glob("*/run.json"))) == 3


def test_hooks_get_the_report_and_may_fail(folder: Folder, told: tuple[Events, Told]) -> None:
    events, lines = told
    script = "import sys, pathlib; pathlib.Path('said').write_text(' '.join(sys.argv[1:]))"
    (folder.path / "hook.py").write_text(script)
    hook = f"{sys.executable} hook.py {{report}} {{exit_code}} {{done}}"
    summary = folder.run(hooks={"after": [hook, "no-such-command {json}"]}, events=events)
    assert summary.exit_code == 0
    assert (folder.path / "said").read_text() == f"{summary.reports[1]} 0 3"
    assert [line for line in lines if line.startswith("error: the hook 'no-such-command")]


@pytest.mark.slow
@pytest.mark.parametrize(("on", "runs"), [("always", True), ("failure", False), ("success", True)])
def test_hooks_run_after_the_runs_they_are_for(folder: Folder, on: str, runs: bool) -> None:
    folder.run(hooks={"after": "touch {job}.said", "on": on})
    assert (folder.path / "night.said").exists() is runs


def test_log_lines_are_json(folder: Folder) -> None:
    with open(folder.path / "log.jsonl", "w") as stream:
        folder.run(events=Events(None, stream))
    lines = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    kinds = [line["event"] for line in lines]
    assert (kinds[0], kinds[-1], kinds.count("begun"), kinds.count("done")) == ("started", "finished", 3, 3)
    assert {"time", "level", "event", "message"} <= set(lines[0])
    assert lines[-1]["exit_code"] == 0


@pytest.mark.slow
def test_row_23_one_run_of_a_job_at_a_time_and_a_killed_ones_lock_is_taken_over(folder: Folder) -> None:
    code = (
        "import sys, time, pathlib; from aerialseg.batch.lock import hold_folder\n"
        "with hold_folder(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path / "night.job")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=rf"in use by process {process.pid} on .* since 20"):
            folder.run()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert folder.run().exit_code == 0  # the lock of a dead one is taken over


def test_the_folder_is_free_afterwards(folder: Folder) -> None:
    folder.run()
    with hold_folder(folder.path / "night.job"):
        pass


def test_a_message_names_the_keys_of_the_job_file(folder: Folder) -> None:
    settings = {"bands": [1, 2, 9]}
    (line, *_) = dry_run(folder.job(settings=settings), predictor=Oracle()).lines
    folder.run(settings=settings)
    for message in (line.problem, folder.entries()["a.tif"].error):
        assert "settings.bands 1,2,9" in message
        assert "--" not in message


def test_a_dry_run_says_what_and_why_and_writes_nothing(folder: Folder) -> None:
    cut_in_half(folder.path / "in/b.tif")
    (folder.path / "in/deep/no.tif").write_text("<html>")
    before = sorted(folder.path.rglob("*"))
    estimate = dry_run(folder.job(), predictor=Oracle())
    assert sorted(folder.path.rglob("*")) == before
    lines = describe_estimate(estimate)
    assert lines[0] == "compute a.tif: new, 0.00 Mpx"
    assert "would fail" in next(line for line in lines if "no.tif" in line)
    assert lines[-1].startswith("3 of 4 inputs to compute: 0.0 Mpx, 1 would fail, about ")
    assert (estimate.failing, estimate.exit_code) == (1, 1)
    assert estimate.disk_bytes > 0
    folder.run()
    estimate = dry_run(folder.job(), predictor=Oracle())
    assert [line.action for line in estimate.lines] == ["skip", "stay failed", "skip", "stay failed"]
    assert (estimate.pixels, estimate.exit_code) == (0, 1)
    (folder.path / "in/b.tif").unlink()
    (folder.path / "in/deep/no.tif").unlink()
    assert dry_run(folder.job(), predictor=Oracle()).exit_code == 0
    os.utime(folder.path / "in/a.tif")
    assert "from 2 inputs done before" in dry_run(folder.job(settings={"min-area": 1}), predictor=Oracle()).basis


def test_the_status_is_seen_from_outside(folder: Folder) -> None:
    with pytest.raises(InputError, match="no job's folder"):
        status_of(folder.path / "night.job")
    cut_in_half(folder.path / "in/b.tif")
    folder.run()
    found = status_of(folder.path / "night.job")
    assert (found.state, found.exit_code, found.counts["done"]) == ("finished", 1, 2)
    assert [name for name, _ in found.failed] == ["b.tif"]
    json.dumps(found.to_json())


def test_a_run_that_died_is_seen_as_cut_off(folder: Folder) -> None:
    folder.run()
    base = sqlite3.connect(folder.path / "night.job" / LEDGER)
    base.execute("UPDATE runs SET ended = NULL")
    base.commit()
    base.close()
    assert status_of(folder.path / "night.job").state == "cut off"


def test_a_ledger_that_is_none_is_an_output_error(folder: Folder) -> None:
    (folder.path / "night.job").mkdir()
    (folder.path / "night.job" / LEDGER).write_bytes(b"no database" * 100)
    with pytest.raises(OutputError, match=r"is damaged .*: delete it to start anew; finished outputs stay"):
        folder.run()


def test_thumbnails_are_pictures_in_the_colours_of_the_legend(folder: Folder) -> None:
    import rasterio
    from rasterio.io import MemoryFile

    folder.run()
    with without_georef_warnings(), MemoryFile(folder.entries()["a.tif"].thumbnail) as memory, memory.open() as picture:
        classes, colours = picture.read(1), picture.colormap(1)
    with rasterio.open(folder.path / "out/a.tif") as file:
        assert np.array_equal(file.read(1), classes)
    card = Oracle().card
    assert all(colours[entry.id][:3] == entry.color for entry in card.legend)


@pytest.mark.slow
def test_the_job_does_not_grow_its_files_with_each_night(folder: Folder) -> None:
    folder.run()
    before = {path.name for path in (folder.path / "night.job").iterdir()}
    for seed in range(3):
        draw(folder.path / "in/b.tif", land_cover(SIDE, SIDE, seed=20 + seed))
        folder.run()
    assert (
        {path.name for path in (folder.path / "night.job").iterdir()}
        == before
        == {"ledger.sqlite", "lock", "reports", "runs"}
    )


@pytest.mark.slow
def test_paths_with_odd_names_work(folder: Folder) -> None:
    for name in ("with space", "ünï", "-dash", "a{b}", "x'y\"z"):
        draw(folder.path / f"in/{name}.tif", land_cover(SIDE, SIDE))
    assert folder.run().counts == {"done": 8}
    assert (Path(folder.path) / "out/a{b}.gpkg").exists()
