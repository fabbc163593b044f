"""Caption every image of a folder that has a label map beside it: NAME.png, NAME-labels.png.

python examples/caption_folder.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from regionlm.threads import sleep_while_waiting

sleep_while_waiting()  # before torch is imported; see docs/threads.md

from regionlm import InputError, RegionCaptioner  # noqa: E402

AT_ONCE = 8  # images captioned in one batch: bounds memory


def main(folder: Path) -> int:
    """Print a line for each region; return how many images were captioned."""
    pairs = []
    for labels in sorted(folder.glob("*-labels.png")):
        picture = labels.with_name(labels.name.replace("-labels", ""))
        if picture.exists():
            pairs.append((picture, labels))
    captioner = RegionCaptioner.from_pretrained("mini")  # or a folder, a preset, a hub id
    for start in range(0, len(pairs), AT_ONCE):
        pictures, masks = zip(*pairs[start : start + AT_ONCE], strict=True)
        captions = captioner.caption_batch(pictures, masks)
        for picture, regions in zip(pictures, captions, strict=True):
            for region in regions:
                print(f"{picture.name}\t{region.region}\t{region.text}\t{region.logprob:.2f}")
    return len(pairs)


if __name__ == "__main__":
    try:
        count = main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent))
    except InputError as error:  # an image or mask that can't be read: one line says which
        sys.exit(str(error))
    print(f"{count} images", file=sys.stderr)
