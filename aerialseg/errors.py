"""What can go wrong: one tree, each branch with the exit code that the commands give back.

Each error is a built-in type as well (as rasterio's are), so that code which knows nothing of aerialseg can still
catch it. A message names the value it met, the value it wanted, and what to do next.
"""

from __future__ import annotations


class AerialsegError(Exception):
    """Base class of the errors that aerialseg raises."""

    exit_code = 1


class UsageError(AerialsegError, ValueError):
    """Arguments are invalid or contradict one another, or an output exists."""

    exit_code = 2


class InputError(AerialsegError, OSError):
    """A raster or a data set cannot be read, or cannot be used as it is."""

    exit_code = 3


class MisfitError(InputError):
    """A raster's pixels or bands are not those that the model was made for.

    gsd_m: the ground size of its pixels (x, y), if known. bands: what it says of them, if that is what does not fit.
    """

    def __init__(self, message: str, gsd_m: tuple[float, float] | None = None, bands: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.gsd_m, self.bands = gsd_m, bands


class ModelError(AerialsegError, ValueError):
    """The model cannot be loaded or does not fit the job."""

    exit_code = 4


class OutputError(AerialsegError, OSError):
    """An output or the run's directory cannot be written, or is in use."""

    exit_code = 5


class ResourceError(AerialsegError, RuntimeError):
    """The machine has no such GPU, or not enough memory or disk space."""

    exit_code = 6


class Interrupted(AerialsegError, KeyboardInterrupt):
    """The run was asked to stop (SIGINT, SIGTERM); its directory stays and can be resumed."""

    exit_code = 130
