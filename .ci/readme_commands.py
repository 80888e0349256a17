"""Print the shell commands of the README's block that follows ``<!-- ci: NAME -->``."""

import re
import sys
from pathlib import Path

readme = Path(__file__).resolve().parents[1].joinpath("README.md").read_text(encoding="utf-8")
found = re.search(rf"<!-- ci: {re.escape(sys.argv[1])} -->\n```\w*\n(.*?)```", readme, re.DOTALL)
if not found:
    sys.exit(f"README.md has no block marked <!-- ci: {sys.argv[1]} -->")
sys.stdout.write(found.group(1))
