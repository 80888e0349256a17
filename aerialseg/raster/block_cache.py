"""Working pixels that the threads of one run share, so that each tile of the source is decoded about once.

Windows overlap by twice the halo: with blocks of 1024 px and a halo of 608 px each pixel lies in 4.8 of them. What is
decoded is therefore kept in pages, whole tiles of the source, while blocks are taken in strips of columns so narrow
that the pages around one row of them fit into a bounded cache, however wide the raster is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from aerialseg.raster.decode import Pixels, Valid
from aerialseg.raster.grid import Box, Grid
from aerialseg.raster.source import Lost, Source
from aerialseg.raster.view import View

CACHE_BYTES = 128 << 20
"""What the pages of one run may take; rasters whose tiles are too large for that are read window by window."""
PAGE_PX = 512
"""Pages are tiles of the source or, where those are small, as many of them as make up this side."""
RESAMPLED_PX = 1024
"""The side of a page of resampled pixels or of a mosaic, whose edges cut through tiles."""

MAX_FILE_PX = 2048
"""Files of a mosaic up to this side are read whole."""

Name = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Order:
    """How a run goes over its grid: ``cols`` blocks wide strips from top to bottom, ``page`` (rows, cols) in px.

    ``page`` is None where sharing cannot pay: then windows are read one by one.
    """

    cols: int
    page: tuple[int, int] | None
    cache_bytes: int = 0

    def key(self, grid: Grid, index: int) -> tuple[int, int, int]:
        """What to sort blocks by."""
        row, col = divmod(index, grid.cols)
        return col // self.cols, row, col


def reading_order(grid: Grid, view: View, tile: tuple[int, int], cache_bytes: int = CACHE_BYTES) -> Order:
    """The order for a source with tiles (or strips) of ``tile`` (rows, cols): as wide strips as fit into the cache."""
    page = _page(view, tile)
    plain = not view.collar and all(piece.always_valid for piece in view.pieces)
    pixel_bytes = len(view.bands) + (0 if plain else 1)  # a few pages lack pixels, where there are holes

    def needed(cols: int) -> int:
        rows = _covered(grid.block + 2 * grid.halo, page[0], grid.height)
        return rows * _covered(cols * grid.block + 2 * grid.halo, page[1], grid.width) * pixel_bytes

    fitting = next((cols for cols in range(grid.cols, 0, -1) if needed(cols) <= cache_bytes), 0)
    if not fitting and needed(1) > 2 * cache_bytes:
        return Order(grid.cols, None)
    fitting = fitting or 1
    strips = -(-grid.cols // fitting)
    cols = -(-grid.cols // strips)
    return Order(cols, page, needed(cols))


def _page(view: View, tile: tuple[int, int]) -> tuple[int, int]:
    if view.resampled or len(view.pieces) > 1:
        return _whole_files(view) or (RESAMPLED_PX, RESAMPLED_PX)
    rows, cols = tile
    if cols >= view.geo.width:
        return _whole(rows, 64), view.geo.width
    return _whole(rows, PAGE_PX), _whole(cols, PAGE_PX)


def _whole_files(view: View) -> tuple[int, int] | None:
    """A page that holds whole files, each of which is then opened and decoded once; None where they do not lie so."""
    shapes = {piece.shape for piece in view.pieces}
    height, width = view.pieces[0].shape
    if view.resampled or len(shapes) > 1 or max(height, width) > MAX_FILE_PX:
        return None
    tops, lefts = (
        {(start - first) % side for start in starts}
        for first, side, starts in (
            (view.top, height, [piece.top for piece in view.pieces]),
            (view.left, width, [piece.left for piece in view.pieces]),
        )
    )
    return (_whole(height, PAGE_PX), _whole(width, PAGE_PX)) if tops == lefts == {0} else None


def _whole(size: int, least: int) -> int:
    return -(-least // size) * size


def _covered(length: int, page: int, whole: int) -> int:
    """The most pixels that the pages under ``length`` pixels have, wherever those lie."""
    return min(((length - 2) // page + 2) * page, whole)


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """``valid`` is None where every pixel is; ``lost`` are the tiles of the source that could not be read for it."""

    box: Box
    pixels: Pixels
    valid: Valid | None
    lost: frozenset[Lost]

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + (0 if self.valid is None else self.valid.nbytes)


class Pages:
    """The working pixels of a view, for any number of threads: each has a dataset handle of its own. A context manager.

    A page is decoded by the thread that wants it first; others that want it wait for that thread.
    """

    def __init__(self, view: View, order: Order, *, allow_remote: bool = False) -> None:
        self.view, self.order, self._allow_remote = view, order, allow_remote
        self._own = threading.local()
        self._lock = threading.Lock()
        self._sources: list[Source] = []
        self._pages: OrderedDict[Name, Future[Page]] = OrderedDict()
        self._bytes = 0

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every handle and drop every page; no thread may be reading any more."""
        self._pages.clear()
        for source in self._sources:
            source.close()

    def read(self, box: Box) -> tuple[Pixels, Valid, frozenset[Lost]]:
        """What `Source.read` gives for ``box``, and the tiles of the source that could not be read for it.

        Raises InputError.
        """
        inner = box & Box(0, 0, *self.view.shape)
        if self.order.page is None or not inner:
            pixels, valid = self._source().read(box)
            return pixels, valid, self._source().lost_in(box)
        pages = self._get(list(self._names(inner)))
        pixels = (np.empty if inner == box else np.zeros)((len(self.view.bands), *box.shape), np.uint8)
        valid = (np.ones if inner == box else np.zeros)(box.shape, np.bool_)
        for page in pages:
            shared = page.box & inner
            where, origin = shared.within(box), shared.within(page.box)
            pixels[(slice(None), *where)] = page.pixels[(slice(None), *origin)]
            if page.valid is not None or inner != box:
                valid[where] = True if page.valid is None else page.valid[origin]
        return pixels, valid, frozenset().union(*(page.lost for page in pages))

    def _names(self, box: Box) -> Iterator[Name]:
        assert self.order.page is not None
        rows, cols = self.order.page
        for row in range(box.top // rows, -(-box.bottom // rows)):
            for col in range(box.left // cols, -(-box.right // cols)):
                yield row, col

    def _get(self, names: Sequence[Name]) -> list[Page]:
        futures: list[Future[Page]] = []
        mine: list[tuple[Name, Future[Page]]] = []
        with self._lock:
            for name in names:
                if name not in self._pages:
                    self._pages[name] = Future()
                    mine.append((name, self._pages[name]))
                self._pages.move_to_end(name)
                futures.append(self._pages[name])
        self._load(mine)  # before waiting for others, so that nobody waits in a circle
        return [future.result() for future in futures]

    def _load(self, mine: Sequence[tuple[Name, Future[Page]]]) -> None:
        try:
            for name, future in mine:
                page = self._decode(name)
                future.set_result(page)
                self._keep(page)
        except BaseException as error:
            with self._lock:
                for name, future in mine:
                    if not future.done():
                        del self._pages[name]
                        future.set_exception(error)
            raise

    def _decode(self, name: Name) -> Page:
        assert self.order.page is not None
        (row, col), (rows, cols) = name, self.order.page
        box = Box(row * rows, col * cols, (row + 1) * rows, (col + 1) * cols) & Box(0, 0, *self.view.shape)
        source = self._source()
        pixels, valid = source.read(box)
        lost = source.lost_in(box)
        whole = self.view.always_valid and not lost
        return Page(box, pixels, None if whole or valid.all() else valid, lost)

    def _keep(self, page: Page) -> None:
        """Count the page and drop the ones that were not wanted for longest while there are too many."""
        with self._lock:
            self._bytes += page.nbytes
            for name in list(self._pages) if self._bytes > self.order.cache_bytes else ():
                if self._bytes <= self.order.cache_bytes:
                    break
                if self._pages[name].done():
                    self._bytes -= self._pages.pop(name).result().nbytes

    def _source(self) -> Source:
        source: Source | None = getattr(self._own, "source", None)
        if source is None:
            source = self._own.source = Source(self.view, allow_remote=self._allow_remote, decoders=1)
            with self._lock:
                self._sources.append(source)
        return source
