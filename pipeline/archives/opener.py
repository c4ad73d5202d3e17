"""Opens the products of a survey: from a folder in place, from anywhere else by fetching them or parts of them."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archives.access import Access
from pipeline.archives.files import ArchiveFiles
from pipeline.archives.images import FitsImage
from pipeline.archives.ranges import RangedImage
from pipeline.archives.tile_table import PixelBox, Span
from pipeline.data import Integrity, Product
from pipeline.errors import ArchiveError, BadImage
from pipeline.storage import without_credentials
from pipeline.surveys import TileImage

OPEN_FILES = 64  # well under the usual 1,024 a process; sixteen bricks of four products
_DECODED_BYTES = 256 << 20  # of tiles kept in memory: one full brick of four products
_AHEAD = 16  # files on their way or waiting to be opened: 200 MB of disk for whole bricks
_THREADS = 8  # that wait for archives; how many may ask at once is the limiter's to say

Image = FitsImage | RangedImage


class Opener:
    """Opens each product once, however often it is asked for. One a chunk, used as a context manager.

    The chunk's sources come in tile order, so that the most recent tiles are enough: older ones are closed and
    their fetched copies removed. A failure is remembered too: nothing is asked for twice.
    """

    def __init__(self, root: str | None, access: Access | None = None, gap: int | None = None) -> None:
        """`gap`: remote images come by ranges, and so many bytes cost as much as a request; None: as whole files."""
        self._files = ArchiveFiles(root, access)
        self._gap = gap
        self._open: OrderedDict[str, tuple[Image, Path]] = OrderedDict()
        self._failed: dict[str, tuple[type[Exception], str]] = {}
        self._closed_bytes = 0
        self._vouched: dict[str, bool] = {}  # by path: whether a checksum of the archive's holds
        self._expected: deque[Product] = deque()
        self._coming: dict[str, Future[tuple[Image, Path]]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self.waited = 0.0  # s in which the caller waited for files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for future in self._coming.values():
            if not future.cancelled() and future.exception() is None:
                future.result()[0].close()
        while self._open:
            self._close_oldest()
        self._files.__exit__(kind, error, trace)

    @property
    def bytes_read(self) -> int:
        """Bytes fetched, and for files in place the bytes of the pixels handed out."""
        if self._files.bytes_fetched:
            return self._files.bytes_fetched
        return self._closed_bytes + sum(image.bytes_decoded for image, _ in self._open.values())

    @property
    def requests(self) -> int:
        """Files and ranges asked of the archive, those that it does not have included."""
        return self._files.requests

    def integrity(self, products: Iterable[Product]) -> Integrity | None:
        """Whether checksums vouch for all of the products that came, None where none did."""
        came = [self._vouched[product.path] for product in products if product.path in self._vouched]
        if not came:
            return None
        return Integrity.CHECKED if all(came) else Integrity.UNCHECKED

    def __call__(self, product: Product) -> TileImage:
        """The product's image. Raises FileNotFoundError, ArchiveError or BadImage; all name the file."""
        name = product.path
        if name in self._failed:
            kind, message = self._failed[name]
            raise kind(message)
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name][0]
        coming, began = self._coming.pop(name, None), time.perf_counter()
        try:
            image, path = self._brought(product) if coming is None else coming.result()
        except (FileNotFoundError, ArchiveError, BadImage) as error:
            self._failed[name] = type(error), str(error)
            raise
        finally:
            self.waited += time.perf_counter() - began
            self._send_for_more()
        self._open[name] = image, path
        self._vouched[name] = image.vouched if isinstance(image, RangedImage) else self._files.vouched(path)
        if len(self._open) > OPEN_FILES:
            self._close_oldest()
        self._forget_decoded()
        return image

    def expect(self, products: Iterable[Product]) -> None:
        """These will be opened, in this order: send for them, a few at a time. Files in place need nothing."""
        self._expected.extend(product for product in products if not self._in_place(product))
        self._send_for_more()

    def fetch(self, boxes: Mapping[str, Sequence[PixelBox]]) -> None:
        """Fetch all that the boxes of the open images (by path) still lack, as many ranges at once as may be.

        What cannot be fetched shows when its section is read.
        """
        found = {name: self._open[name][0] for name in boxes if name in self._open}
        ranged = {name: image for name, image in found.items() if isinstance(image, RangedImage)}
        wanted = [(image, span) for name, image in ranged.items() for span in image.missing(boxes[name])]
        if wanted:
            began = time.perf_counter()
            list(self._pool.map(_fetched, wanted))
            self.waited += time.perf_counter() - began

    def _in_place(self, product: Product) -> bool:
        return product.kind != "cutout" and self._files.in_place(product.path)

    def _send_for_more(self) -> None:
        while self._expected and len(self._coming) < _AHEAD:
            product = self._expected.popleft()
            known = (self._open, self._failed, self._coming)
            if not any(product.path in names for names in known):
                self._coming[product.path] = self._pool.submit(self._brought, product)

    def _brought(self, product: Product) -> tuple[Image, Path]:
        name, shown = product.path, without_credentials(product.path)
        if self._gap is not None and product.layout is not None and not self._in_place(product):
            path = self._files.new_path()
            return RangedImage(partial(self._files.read, name), path, shown, self._gap), path
        path = self._files.path(name, product.expected, rendered=product.kind == "cutout")
        return FitsImage(path, shown), path

    @property
    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, "archive")
        return self._threads

    def _close_oldest(self) -> None:
        _, (image, path) = self._open.popitem(last=False)
        self._closed_bytes += image.bytes_decoded
        image.close()
        self._files.release(path)

    def _forget_decoded(self) -> None:
        """Drop the pixels of the images that were used longest ago, beyond the memory that they may fill."""
        total = 0
        for image, _ in reversed(self._open.values()):
            total += image.bytes_held
            if total > _DECODED_BYTES:
                image.forget()


def _fetched(wanted: tuple[RangedImage, Span]) -> None:
    image, span = wanted
    image.try_to_fetch(span)
