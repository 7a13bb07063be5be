"""MedMNIST-style npz files (Yang et al. 2023, arXiv 2110.14795): arrays of images and labels in one file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from crypto.imaging.preprocess import scale_to_bytes, window_to_bytes
from fl_client.data.base import Bytes, Item, Source, Stamp
from fl_client.data.config import NO_LABELS, DataConfig, named_group
from fl_client.data.items import UNLABELLED, one_class
from fl_client.data.named import class_names
from fl_client.data.npz_finite import NOT_FINITE, WRITE_NUMBERS, not_finite, refuse_lost, said_of_left
from fl_client.data.npz_scale import Scale, scale_of
from medveil.errors import DataError
from medveil.npz import load_arrays
from medveil.plain import shown

_MOST_CLASSES = 4096
_LONGEST_CLASS = 256
_PARTS = {"train": "train", "val": "validation", "test": "test"}
Arrays = dict[str, npt.NDArray]


class NpzSource(Source):
    """Images of one npz file, kept in memory as they are stored.

    Takes ``train_images``/``train_labels`` with ``val_*`` and ``test_*`` (the official split is kept), or
    ``images``/``labels``; optionally ``classes``, the names in the order of the labels. Images are (n, H, W) or
    (n, H, W, 3); labels integers (n,) or (n, 1). Pickled arrays are refused. What is not of 8 bit is brought there by
    one scale for all images (`fl_client.data.npz_scale`), or by ``data.window``. An image with a value that is not
    finite raises when it is read, and is told of before; a file that has no other of a class is refused.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        arrays = self._load()
        parts = self._parts(arrays)
        self._images = [images for _, images, _, _ in parts]
        sites = self._sites(arrays, parts)
        self._scale = self._settled_scale()
        self.shares_scale = self._scale is not None
        self._at = [(p, row) for p, part in enumerate(parts) for row in range(len(part[2]))]
        names, codes = self._names(arrays, [labels for _, _, labels, _ in parts])
        items = [
            Item(
                f"{key}/{row}",
                codes[int(label)],
                None if groups is None else str(groups[row]),
                _PARTS.get(key),
                None if own is None else str(own[row]),
            )
            for (key, _, labels, groups), own in zip(parts, sites, strict=True)
            for row, label in enumerate(labels)
        ]
        self.classes = names
        self._unfit = [not_finite(images) for images in self._images]
        refuse_lost(items, np.concatenate(self._unfit), names, where=self.path)
        self._finish(items, default_size=self._own_size())

    def _load(self) -> Arrays:
        arrays = load_arrays(self.path, self._is_wanted)
        stat = self.path.stat()
        self._file = Stamp(stat.st_size, stat.st_mtime_ns)
        return arrays

    def _is_wanted(self, name: str) -> bool:
        """Whether an array is one of ours; what else a file holds is not read."""
        labels = () if self._unlabelled else ("labels",)
        kinds = {"images", named_group(self._config), self._config.partition.by, *labels}
        return (
            (name == "classes" and not self._unlabelled)
            or name in kinds
            or any(name == f"{key}_{kind}" for key in _PARTS for kind in kinds)
        )

    @property
    def _unlabelled(self) -> bool:
        return self._config.labels == NO_LABELS

    def _parts(self, arrays: Arrays) -> list[tuple[str, npt.NDArray, npt.NDArray, npt.NDArray | None]]:
        prefixes = [key for key in _PARTS if f"{key}_images" in arrays]
        wanted = [(key, f"{key}_images", f"{key}_labels", f"{key}_") for key in prefixes] or [
            ("images", "images", "labels", "")
        ]
        made = []
        for key, images, labels, prefix in wanted:
            if self._unlabelled and images in arrays:
                arrays[labels] = np.zeros(len(arrays[images]), np.int64)
            if images not in arrays or labels not in arrays:
                raise DataError(
                    f"has no arrays '{images}' and '{labels}' (it has {', '.join(sorted(arrays)) or 'none'})",
                    where=self.path,
                )
            pixels, codes = arrays[images], arrays[labels]
            self._check_arrays(images, pixels, labels, codes)
            made.append((key, pixels, codes.reshape(len(codes)), self._groups(arrays, prefix, len(codes))))
        return made

    def _check_arrays(self, images: str, pixels: npt.NDArray, labels: str, codes: npt.NDArray) -> None:
        if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
            raise DataError(
                f"'{images}' has shape {pixels.shape}", where=self.path, cure="(n, H, W), (n, H, W, 1) or (n, H, W, 3)"
            )
        if pixels.dtype.kind not in "uif":
            raise DataError(f"'{images}' has dtype {pixels.dtype}", where=self.path, cure="numbers")
        if codes.shape not in {(len(pixels),), (len(pixels), 1)} or codes.dtype.kind not in "ui":
            raise DataError(
                f"'{labels}' is {codes.dtype} {codes.shape} for {len(pixels)} images",
                where=self.path,
                cure="one integer per image",
            )
        if min(pixels.shape[1:3]) < self._config.min_side:
            raise DataError(
                f"images of {pixels.shape[2]}x{pixels.shape[1]} pixels are smaller than data.min_side "
                f"{self._config.min_side}",
                where=self.path,
            )

    def _groups(self, arrays: Arrays, prefix: str, count: int) -> npt.NDArray | None:
        named = named_group(self._config)
        if named in (None, "none"):
            return None
        key = f"{prefix}{named}"
        if key not in arrays or arrays[key].shape != (count,):
            raise DataError(f"has no array '{key}' with one group per image", where=self.path)
        return arrays[key]

    def _sites(
        self, arrays: Arrays, parts: Sequence[tuple[str, npt.NDArray, npt.NDArray, npt.NDArray | None]]
    ) -> list[npt.NDArray | None]:
        """What ``data.partition.by`` names, part by part."""
        by = self._config.partition.by
        if by is None:
            return [None] * len(parts)
        keys = [by if key == "images" else f"{key}_{by}" for key, *_ in parts]
        for key, (_, _, labels, _) in zip(keys, parts, strict=True):
            if key not in arrays or arrays[key].shape != (len(labels),):
                raise DataError(f"has no array '{key}' with one value per image", where=self.path)
        return [arrays[key] for key in keys]

    def _names(self, arrays: Arrays, labels: Sequence[npt.NDArray]) -> tuple[tuple[str, ...], dict[int, int]]:
        if self._unlabelled:
            return UNLABELLED, {0: 0}
        codes = sorted({int(code) for part in labels for code in np.unique(part)})
        if codes and codes[-1] >= _MOST_CLASSES:
            raise DataError(f"unknown label {codes[-1]}", where=self.path, cure=f"labels are below {_MOST_CLASSES}")
        if "classes" in arrays and arrays["classes"].size > _MOST_CLASSES:
            raise DataError(f"names {arrays['classes'].size} classes", where=self.path, cure=f"{_MOST_CLASSES} at most")
        known = (
            [shown(name, most=_LONGEST_CLASS) for name in arrays["classes"].reshape(-1)]
            if "classes" in arrays
            else self._config.classes
        )
        if known is None:
            known = [str(code) for code in range(max(codes, default=0) + 1)]
        twice = next((name for name, times in Counter(known).items() if times > 1), None)
        if twice is not None:
            # Images of the second would be taken for images of the first.
            raise DataError(f"names the class '{twice}' twice", where=self.path, cure="give each class its own name")
        wrong = [code for code in codes if not 0 <= code < len(known)]
        if wrong:
            raise DataError(f"unknown label {wrong[0]}", where=self.path, cure=f"labels are 0 to {len(known) - 1}")
        names = class_names(known, self._config, where=self.path) if self._config.classes else tuple(known)
        if len(names) < 2:
            raise one_class("has one class only", names[0], where=self.path, cure="list all of them in data.classes")
        return names, {code: names.index(known[code]) for code in codes}

    def _settled_scale(self) -> Scale | None:
        """One scale for all images; None where they are of 8 bit, or a window of grey values says it."""
        if self._config.window is not None and all(_is_grey(images) for images in self._images):
            return None
        try:
            scale = scale_of(self._images)
        except DataError as error:
            raise DataError(error.problem, where=self.path, cure=error.cure) from None
        if scale is not None:
            self.said += (scale.said,)
            self.warnings += (scale.warning,) if scale.warning else ()
        return scale

    def _remarks(self) -> Iterator[str]:
        yield from super()._remarks()
        left = [item.id for item, (part, row) in zip(self.items, self._at, strict=True) if self._unfit[part][row]]
        yield from said_of_left(left, len(self.items))

    def _own_size(self) -> int:
        height, width = self._images[0].shape[1:3]
        if height != width and self._config.image_size is None:
            raise DataError(f"images are {width}x{height} pixels", where=self.path, cure="set data.image_size")
        return int(height)

    def _keep(self, kept: Sequence[int]) -> None:
        self._at = [self._at[i] for i in kept]

    def _decode(self, index: int) -> Bytes:
        part, row = self._at[index]
        pixels = self._images[part][row]
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        if self._unfit[part][row]:
            raise DataError(NOT_FINITE, where=self.items[index].id, cure=WRITE_NUMBERS)
        if self._config.window is not None and pixels.ndim == 2:
            return window_to_bytes(pixels, self._config.window)
        return pixels if self._scale is None else scale_to_bytes(pixels, self._scale.low, self._scale.high)

    def contents(self, index: int) -> bytes:
        """SHA-256 of one row of the array: its dtype, shape and bytes."""
        part, row = self._at[index]
        pixels = np.ascontiguousarray(self._images[part][row])
        return hashlib.sha256(f"{pixels.dtype.str} {pixels.shape}\n".encode() + pixels.tobytes()).digest()

    def _stamp(self, index: int) -> Stamp:
        return self._file


def _is_grey(images: npt.NDArray) -> bool:
    return images.ndim == 3 or images.shape[3] == 1
