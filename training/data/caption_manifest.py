"""Your own data, with one JSON object per line.

    {"image": "1.jpg", "caption": "a cat on a mat"}
    {"image": "2.jpg", "captions": ["a dog", "a brown dog"]}
    {"image": "3.jpg", "regions": [{"box": [3, 120, 148, 271], "caption": "a red car"}]}

Regions have one of the forms of `regionlm.bulk.manifest` (mask, rle, polygon or box), and a
``caption`` or ``captions``. Paths are relative to the folder of the manifest. null counts as left
out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from PIL import Image

from prefix_models.checks import Described, check_value
from prefix_models.errors import within
from regionlm.bulk.manifest import decode
from regionlm.errors import InputError
from regionlm.inputs.images import open_image
from regionlm.inputs.json_lines import JsonLines, without_nulls
from regionlm.inputs.regions import FilePath, Several, check_region, read_region
from training.data.example import Example, Parts
from training.data.source_options import ManifestOptions

_SAID = ("caption", "captions")
_Texts = Annotated[list[str], Described("a list of texts", fits=len)]


class CaptionManifest:
    """An opened manifest; each line takes 16 bytes of memory.

    Without ``skip_bad``, the form of all lines is checked at once. Images are not opened yet.

    Raises InputError: the file is missing or empty, or a line has another form (says which).
    """

    def __init__(self, options: ManifestOptions, *, skip_bad: bool = False) -> None:
        self.path, self.skip_bad = Path(options.path), skip_bad
        self._lines = JsonLines(self.path, self._see)

    @property
    def key(self) -> dict[str, Any]:
        """Digest of the file, and the folder at which its paths start."""
        return {"manifest": self._lines.digest, "folder": str(self.path.parent.resolve())}

    def __len__(self) -> int:
        """Number of lines, without blank ones."""
        return len(self._lines)

    def __getitem__(self, index: int) -> Example:
        """Decode the image and regions of a line. Raises InputError: they can't be used."""
        raw, number = self._lines.read(index)
        value = self._parse(raw, number)
        parts = Parts(self._place(number), self.skip_bad)
        with within(parts.place):
            image = open_image(self.path.parent / value["image"])
        return read_said(value, image, self.path.parent, parts)

    def _see(self, raw: bytes, number: int) -> None:
        if not self.skip_bad:
            self._parse(raw, number)

    def _parse(self, raw: bytes, number: int) -> dict[str, Any]:
        with within(self._place(number)):
            value = without_nulls(decode(raw))
            check_said(value, ("image", "id"))
            check_value("image", value.get("image"), FilePath, InputError)
        return value

    def _place(self, number: int) -> str:
        return f"{self.path}, line {number}"


def check_said(value: Any, others: tuple[str, ...] | None) -> None:
    """Raise InputError unless an object has caption, captions, or regions with captions.

    others: further keys that it may have; None allows any.
    """
    if not isinstance(value, dict):
        raise InputError(
            'expected an object such as {"image": "a.jpg", "caption": "a cat"}; found'
            f" {type(value).__name__}"
        )
    known = (*_SAID, "regions", *(others or ()))
    unknown = [key for key in value if key not in known]
    if unknown and others is not None:
        raise InputError(f"unknown key {unknown[0]!r}; expected {', '.join(known)}")
    found = [key for key in (*_SAID, "regions") if key in value]
    if len(found) != 1:
        raise InputError(
            f"expected one of caption, captions and regions; found {' and '.join(found) or 'none'}"
        )
    if found[0] != "regions":
        _captions(value)
        return
    for region in check_value("regions", value["regions"], Several, InputError):
        if not isinstance(region, dict):
            raise InputError(f"a region: expected an object, found {str(region)[:40]!r}")
        check_region(_form(region))
        _captions(region)


def read_said(value: dict[str, Any], image: Image.Image, folder: Path, parts: Parts) -> Example:
    """The example that a checked object describes.

    folder: where relative paths of masks start.
    """
    if "regions" not in value:
        return parts.whole(image, parts.texts(_captions(value)))
    for position, region in enumerate(value["regions"]):
        with parts.checked():
            found = read_region(_form(region), position, folder, image.size)
            if len(found) != 1:
                raise InputError(
                    f"mask {region['mask']}: expected one region for a caption, found {len(found)}"
                )
            parts.add(found[0].mask, parts.texts(_captions(region)))
    return parts.example(image)


def _form(region: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in region.items() if key not in _SAID}


def _captions(value: dict[str, Any]) -> list[Any]:
    if all(key in value for key in _SAID):
        raise InputError("expected caption or captions, found both")
    if "captions" in value:
        return check_value("captions", value["captions"], _Texts, InputError)
    return [check_value("caption", value.get("caption"), str, InputError)]
