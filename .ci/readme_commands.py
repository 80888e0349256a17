"""The shell commands of a page's blocks that follow ``<!-- ci: NAME -->``: README.md's, or those of the page given.

python3 .ci/readme_commands.py run                              # prints them
python3 .ci/readme_commands.py steps docs/tutorial.md --time    # runs them in one shell, each with its seconds
python3 .ci/readme_commands.py steps docs/tutorial.md --write   # and writes the seconds into the page
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = re.compile(r"  # [\d,]+ s$", re.MULTILINE)


def blocks(page: Path, name: str) -> list[str]:
    found = re.findall(
        rf"<!-- ci: {re.escape(name)} -->\n```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )
    return found or sys.exit(f"{page.name} has no block marked <!-- ci: {name} -->")


def run_timed(commands: list[str]) -> dict[str, str]:
    """Each command -> the same with its seconds. One shell runs all of them, for some set what later ones need."""
    shell = subprocess.Popen(["bash", "-euo", "pipefail"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    timed = {}
    for command in commands:
        print(f"$ {command}", flush=True)
        begin = time.monotonic()
        print(f"{command} </dev/null >&2; echo", file=shell.stdin, flush=True)
        if not shell.stdout.readline():
            sys.exit(f"failed: {command}")
        seconds = max(1, round(time.monotonic() - begin))
        print(f"-- {seconds} s", flush=True)
        timed[command] = f"{command}  # {seconds:,} s"
    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("page", nargs="?", default="README.md")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    page = ROOT / given.page
    text = "".join(blocks(page, given.name))
    if not (given.time or given.write):
        sys.stdout.write(text)
        return
    timed = run_timed(SECONDS.sub("", text).splitlines())
    if given.write:
        bare = [timed.get(line, line) for line in SECONDS.sub("", page.read_text(encoding="utf-8")).split("\n")]
        page.write_text("\n".join(bare), encoding="utf-8")


if __name__ == "__main__":
    main()
