"""How the trunk is computed; nothing heavy is imported, so that options can be listed quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from prefix_models.checks import Checked
from regionlm.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class TrunkOptions(Checked):
    """How the trunk, all blocks but the explained ones, is computed.

    Args:
        precision: Type of the numbers in its matrix products. `bfloat16` takes about half the time
            where the hardware has it, and changes vectors by some 1e-4; `float16` is for GPUs. All
            else, MaskInversion above all, stays in the model's own type, float32.
        compile: Compile it with torch.compile, once for each shape of images: a minute or more that
            pays for itself over many images. Needs a compiler (on a CPU, g++).

    Raises:
        InputError: an option has another value.
    """

    error: ClassVar[type[InputError]] = InputError

    precision: Precision = "float32"
    compile: bool = False

    @property
    def record(self) -> dict[str, str]:
        """What answers say of it: by name, empty if all is as usual."""
        found: dict[str, str] = {}
        if self.precision != "float32":
            found["precision"] = self.precision
        return {**found, "compile": "true"} if self.compile else found
