"""``python -m aerialseg``"""

from aerialseg.cli import main

main()
