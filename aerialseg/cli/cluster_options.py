"""The options that send work to other processes, and the cluster that they mean."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from aerialseg.cli.options import options
from aerialseg.errors import UsageError

if TYPE_CHECKING:
    from aerialseg.cluster.dask_cluster import DaskCluster

CLUSTER_OPTIONS = options(
    click.option(
        "--dask",
        metavar="ADDRESS",
        help="Run on the Dask cluster with this scheduler: tcp://host:8786, or its scheduler file.",
    ),
    click.option("--workers", metavar="N", type=int, help="Run in N processes on this machine."),
)


@contextmanager
def cluster_of(dask: str | None, workers: int | None) -> Iterator[DaskCluster | None]:
    """The cluster that the two options ask for; None when neither is given. Raises UsageError, ResourceError."""
    if dask is None and workers is None:
        yield None
        return
    if dask is not None and workers is not None:
        raise UsageError("--dask and --workers contradict each other: give one of them")
    try:
        from aerialseg.cluster.dask_cluster import connect, local_cluster
    except ModuleNotFoundError as error:
        if error.name not in ("dask", "distributed"):
            raise
        raise UsageError("--dask and --workers need the extra `dask`: pip install 'aerialseg[dask]'") from error
    _quieten_dask()
    cluster = connect(dask) if dask is not None else local_cluster(workers or 0)
    try:
        yield cluster
    except KeyboardInterrupt:
        raise  # the process ends at once, and its worker processes with it: no time for farewells
    except BaseException:
        cluster.close()
        raise
    cluster.close()


def _quieten_dask() -> None:
    """Keep what Dask says off the terminal, for the whole process: our errors say what to do. Once it is imported."""
    warnings.filterwarnings("ignore", "Mismatched versions found")
    for name in (
        "distributed",
        "distributed.client",
        "tornado.application",
    ):  # those that Dask gave handlers of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)
