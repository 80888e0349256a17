"""Job files, tables, STAC and other texts of any size: refused at once, in less than 500 MB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_END = """
import sys, time
from aerialseg.batch.stac_in import read_items
from aerialseg.errors import InputError
from aerialseg.legend import Legend
from aerialseg.toml import read_toml
READ = {"json": lambda path: list(read_items(path, None)), "csv": Legend.from_csv, "toml": lambda p: read_toml(p, "t")}
TEXTS = {
    "nothing": lambda file: file.truncate(1 << 30),
    "lists": lambda file: file.write(b"a = [" + b"[]," * 10_000_000 + b"[]]"),
    "objects": lambda file: file.write(b"[" + b'{"a":{}},' * 3_000_000 + b"1]"),
    "objects within the limit": lambda file: file.write(b"[" + b'{"a":{}},' * 990_000 + b"1]"),
    "cells": lambda file: file.write(b"name,r,g,b" + b"," * 30_000_000),
    "cells within the limit": lambda file: file.write(b"name,r,g,b" + b"," * 2_900_000),
    "lines": lambda file: file.write(b"name,r,g,b" + b"\\n" * 30_000_000),
    "lines within the limit": lambda file: file.write(b"name,r,g,b" + b"\\n," * 1_400_000),
    "wide letters": lambda file: file.write("name,r,g,b\\n\U0001f600".encode() + b"a" * 31_000_000 + b"\\0"),
}
from pathlib import Path
for ending, read in READ.items():
    for name, write in TEXTS.items():
        path = Path(sys.argv[1], f"{name}.{ending}")
        with open(path, "wb") as file:
            write(file)
        began = time.process_time()
        try:
            raise SystemExit(f"{path} was read: {read(path)!r:.100}")
        except InputError as error:
            assert path.name in str(error), error
        assert time.process_time() - began < 5, path
        path.unlink()
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
assert peak_kb < 500_000, peak_kb
"""


@pytest.mark.slow
def test_row_09_texts_without_end_are_refused_at_once_in_little_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_END, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
