"""Running the command: its lines, its end, and the end of its children."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from aerialseg_plugin import child
from aerialseg_plugin.child import run_lines
from aerialseg_plugin.kept_run import KeptRun, RunPlace
from aerialseg_plugin.progress import ProgressReader, spoken_duration

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
{handler}
while True:
    time.sleep(0.1)
"""
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


class Log:
    """A feedback that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []

    def __getattr__(self, name: str) -> object:
        return lambda value: self.said.append((name, value))


def _run(script: str, is_cancelled=lambda: False) -> tuple[int, list[tuple[str, str]]]:
    lines: list[tuple[str, str]] = []
    code = run_lines([sys.executable, "-c", script], dict(os.environ), lambda *line: lines.append(line), is_cancelled)
    return code, lines


def _ends(pid: int) -> bool:
    """Whether the process ends within ten seconds; one that nobody has waited for is at its end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(") ")[-1][0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_lines_of_both_streams_and_the_exit_code_come_back() -> None:
    code, lines = _run("import sys; print('ä'); print('two'); print('b', file=sys.stderr); sys.exit(3)")
    assert code == 3
    assert [line for stream, line in lines if stream == "stdout"] == ["ä", "two"]
    assert [line for stream, line in lines if stream == "stderr"] == ["b"]


def test_a_hundred_thousand_lines_arrive_whole() -> None:
    _, lines = _run("for i in range(100_000): print(i)")
    assert [line for _, line in lines] == [str(i) for i in range(100_000)]


@pytest.mark.slow
@pytest.mark.parametrize("handler", ["", STUBBORN])
def test_cancelling_ends_the_command_and_its_children(handler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "PATIENCE_S", 1.0)
    pids: list[str] = []
    code = run_lines(
        [sys.executable, "-c", PARENT.format(handler=handler)],
        dict(os.environ),
        lambda _, line: pids.append(line) if line.isdigit() else None,
        lambda: bool(pids),
    )
    assert code != 0
    assert _ends(int(pids[0]))


def test_an_exception_in_the_log_ends_the_command() -> None:
    seen: list[str] = []

    def fail(_: str, line: str) -> None:
        seen.append(line)
        raise RuntimeError("the dialog is gone")

    with pytest.raises(RuntimeError, match="dialog is gone"):
        run_lines([sys.executable, "-c", PARENT.format(handler="")], dict(os.environ), fail, lambda: False)
    assert _ends(int(seen[0]))


def test_progress_says_stage_per_cent_and_time_left_and_never_goes_back() -> None:
    log = Log()
    now = iter(range(0, 1000, 10))
    reader = ProgressReader(log, clock=lambda: float(next(now)))
    for line in (
        '{"event": "note", "message": "5,000 x 4,000 px"}',
        '{"event": "stage", "stage": "blocks"}',
        '{"event": "progress", "stage": "blocks", "fraction": 0.5, "seconds_left": 90.0}',
        '{"event": "stage", "stage": "polygons"}',
        '{"event": "progress", "stage": "polygons", "fraction": 1.0, "seconds_left": 0.0}',
        '{"event": "a later version says more"}',
        '{"event": "done", "paths": ["/map.gpkg"]}',
    ):
        reader.take("stderr", line)
    assert ("pushInfo", "5,000 x 4,000 px") in log.said
    texts = [value for name, value in log.said if name == "setProgressText"]
    assert texts == [
        "Classifying …",
        "Classifying: 50%, about 2 min left",
        "Drawing polygons …",
        "Drawing polygons: 100%",
    ]
    bar = [value for name, value in log.said if name == "setProgress"]
    assert bar == sorted(bar)
    assert bar[-1] == pytest.approx(97)
    assert reader.paths == ["/map.gpkg"]


def test_the_log_is_not_flooded_with_progress() -> None:
    log = Log()
    reader = ProgressReader(log, clock=lambda: 0.0)
    for i in range(100):
        event = f'{{"event": "progress", "stage": "blocks", "fraction": {i / 100}, "seconds_left": {100 - i}}}'
        reader.take("stderr", event)
    assert sum(name == "setProgressText" for name, _ in log.said) == 1
    assert sum(name == "setProgress" for name, _ in log.said) == 100


def test_a_failure_is_the_commands_own_message_or_else_its_last_lines() -> None:
    reader = ProgressReader(Log())
    reader.take("stderr", "Traceback")
    assert reader.failure(1) == "Traceback\naerialseg ended with exit code 1."
    reader.take("stderr", '{"event": "error", "code": 3, "message": "ortho.tif has no georeference"}')
    assert reader.failure(3) == "ortho.tif has no georeference"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "about 1 s"), (59, "about 59 s"), (150, "about 2 min"), (9000, "about 2.5 h")]
)
def test_durations_are_spoken(seconds: float, text: str) -> None:
    assert spoken_duration(seconds) == text


def test_a_kept_run_tells_how_it_was_called_and_another_folder_is_refused(tmp_path: Path) -> None:
    KeptRun(str(tmp_path / "kept")).write(["/data/ortho.tif", "--resolution=0.1"])
    assert KeptRun(str(tmp_path / "kept")).read() == ["/data/ortho.tif", "--resolution=0.1"]
    with pytest.raises(ValueError, match="holds no kept run"):
        KeptRun(str(tmp_path)).read()


@pytest.mark.parametrize("was_there", [False, True])
def test_of_a_cancelled_run_only_what_was_there_before_stays(tmp_path: Path, was_there: bool) -> None:
    output, unfinished = tmp_path / "map.gpkg", tmp_path / "map.gpkg.run"
    if was_there:
        unfinished.mkdir()
    own = []

    def cancelled() -> None:
        with RunPlace([str(output)], "") as place:
            own.append(Path(place.file("area.gpkg")))
            own[0].touch()
            unfinished.mkdir(exist_ok=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    assert unfinished.exists() == was_there
    assert not own[0].parent.exists()
