"""What can go wrong: one tree, each branch with the exit code that the commands give back.

Each error is a built-in type as well (as rasterio's are), so that code which knows nothing of aerialseg can still
catch it. A message names the value it met, the value it wanted, and what to do next.
"""

from __future__ import annotations


class AerialsegError(Exception):
    """The root: catch it to catch everything that aerialseg raises on purpose."""

    exit_code = 1


class UsageError(AerialsegError, ValueError):
    """The call contradicts itself or would destroy something: options, output paths."""

    exit_code = 2


class InputError(AerialsegError, OSError):
    """The raster (or data set) cannot be used as it is."""

    exit_code = 3


class ModelError(AerialsegError, ValueError):
    """The model cannot be loaded or does not fit the job."""

    exit_code = 4


class OutputError(AerialsegError, OSError):
    """A result or the run directory cannot be written."""

    exit_code = 5


class ResourceError(AerialsegError, RuntimeError):
    """The machine lacks something: a GPU, memory, disk space."""

    exit_code = 6


class Interrupted(AerialsegError, KeyboardInterrupt):
    """The run was asked to stop (SIGINT, SIGTERM); its directory stays and can be resumed."""

    exit_code = 130
