"""Opens the products of a survey: from a folder in place, from anywhere else by fetching them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archives.access import Access
from pipeline.archives.files import ArchiveFiles
from pipeline.archives.images import FitsImage
from pipeline.data import Integrity, Product
from pipeline.errors import ArchiveError, BadImage
from pipeline.storage import without_credentials
from pipeline.surveys import TileImage

_OPEN_FILES = 64  # well under the usual 1,024 a process; sixteen bricks of four products
_DECODED_BYTES = 512 << 20  # whole images kept in memory: two full bricks of four products


class Opener:
    """Opens each product once, however often it is asked for. One a chunk, used as a context manager.

    The chunk's sources come in tile order, so that the most recent tiles are enough: older ones are closed and
    their fetched copies removed. A failure is remembered too: nothing is asked for twice.
    """

    def __init__(self, root: str | None, access: Access | None = None) -> None:
        self._files = ArchiveFiles(root, access)
        self._open: OrderedDict[str, tuple[FitsImage, Path]] = OrderedDict()
        self._failed: dict[str, tuple[type[Exception], str]] = {}
        self._closed_bytes = 0
        self._vouched: dict[str, bool] = {}  # by path: whether a checksum of the archive's holds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Files asked of the archive, those that it does not have included."""
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
        try:
            path = self._files.path(name, product.expected, rendered=product.kind == "cutout")
            image = FitsImage(path, without_credentials(name))
        except (FileNotFoundError, ArchiveError, BadImage) as error:
            self._failed[name] = type(error), str(error)
            raise
        self._open[name] = image, path
        self._vouched[name] = self._files.vouched(path)
        if len(self._open) > _OPEN_FILES:
            self._close_oldest()
        self._forget_decoded()
        return image

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
