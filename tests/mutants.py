"""Breaks central lines one at a time and runs the tests that should notice: ``scripts/mutants``.

scripts/mutants             # all of tests/mutants.toml
scripts/mutants halo lock   # those whose name holds one of these words

All this happens in a temporary copy of the working tree; the tree itself is only read. A mutant is caught when a test
fails. Exit code 1: one survived, or no test could run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Mutant:
    """``old`` stands once in ``file`` and becomes ``new``, which ``breaks`` something; ``test`` should notice."""

    breaks: str
    file: str
    old: str
    new: str
    test: str

    def text(self, root: Path) -> str:
        """The file's text, broken. Raises ValueError unless ``old`` stands there exactly once."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.breaks}: {self.old!r} stands {found} times in {self.file}, wanted once")
        return text.replace(self.old, self.new)


def read_mutants() -> list[Mutant]:
    values = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return [Mutant(**entry) for entry in values["mutant"]]


def copy_tree(target: Path) -> None:
    """Copy the files of the working tree that git knows or would add, as they are."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run_tests(root: Path, tests: list[str], numba_cache: str | None = None) -> tuple[int, str]:
    """Exit code of pytest, stopped at the first failure, and the name of that test (or pytest's last lines)."""
    environment = os.environ | {"PYTHONPATH": str(root)}  # goes before the checkout that is installed
    if numba_cache:
        environment["NUMBA_CACHE_DIR"] = numba_cache
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-m", "", "--timeout=120", "-p", "no:cacheprovider", *tests],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    return ended.returncode, failed[1] if failed else "\n".join(ended.stdout.splitlines()[-20:]) + ended.stderr


def try_mutant(mutant: Mutant, root: Path) -> tuple[int, str]:
    text = mutant.text(ROOT)
    (root / mutant.file).write_text(text, encoding="utf-8")
    try:
        if "@kernel" not in text:
            return run_tests(root, [mutant.test])
        with tempfile.TemporaryDirectory() as cache:  # numba does not see that a function called by a kernel changed
            return run_tests(root, [mutant.test], cache)
    finally:
        shutil.copy2(ROOT / mutant.file, root / mutant.file)


def main(words: list[str]) -> int:
    mutants = [one for one in read_mutants() if not words or any(word in one.breaks for word in words)]
    for one in mutants:
        one.text(ROOT)
    bad, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = Path(folder)
        copy_tree(root)
        code, said = run_tests(root, sorted({one.test for one in mutants}))
        if code:
            print(f"tests fail before anything is broken: {said}")
            return 1
        print(f"nothing broken: all pass ({time.monotonic() - began:.0f} s)", flush=True)
        for one in mutants:
            start = time.monotonic()
            code, said = try_mutant(one, root)
            bad += code != 1
            result = {0: "SURVIVED", 1: f"caught by {said}"}.get(code, f"NO TEST RAN: {said}")
            print(f"{one.breaks}: {result} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{len(mutants) - bad} of {len(mutants)} caught in {time.monotonic() - began:.0f} s")
    return int(bad > 0 or not mutants)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
