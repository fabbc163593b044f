"""The 59 classes of Pascal Context, by their numbers among the 459 of the full annotation.

Tools order the names differently (alphabetical, VOC's first, as in `59_labels.txt`) but agree on
the numbers. The numbers are those of the "PASCAL in Detail" API, the names those of `labels.txt` at
https://cs.stanford.edu/~roozbeh/pascal-context/, which is in alphabetical order.
"""

from __future__ import annotations

#: Name by number, both ascending.
CLASSES = {
    2: "aeroplane", 9: "bag", 18: "bed", 19: "bedclothes", 22: "bench", 23: "bicycle", 25: "bird",
    31: "boat", 33: "book", 34: "bottle", 44: "building", 45: "bus", 46: "cabinet", 59: "car",
    65: "cat", 68: "ceiling", 72: "chair", 80: "cloth", 85: "computer", 98: "cow", 104: "cup",
    105: "curtain", 113: "dog", 115: "door", 144: "fence", 158: "floor", 159: "flower", 162: "food",
    187: "grass", 189: "ground", 207: "horse", 220: "keyboard", 232: "light", 258: "motorbike",
    259: "mountain", 260: "mouse", 284: "person", 295: "plate", 296: "platform", 308: "pottedplant",
    324: "road", 326: "rock", 347: "sheep", 349: "shelves", 354: "sidewalk", 355: "sign",
    360: "sky", 366: "snow", 368: "sofa", 397: "table", 415: "track", 416: "train", 420: "tree",
    424: "truck", 427: "tvmonitor", 440: "wall", 445: "water", 454: "window", 458: "wood",
}  # fmt: skip

SPELLED = {"pottedplant": "potted plant", "tvmonitor": "tv monitor"}

#: Other names of classes in some files.
SYNONYMS = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
