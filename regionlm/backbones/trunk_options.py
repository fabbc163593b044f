"""How the trunk is computed; nothing heavy is imported, so that options can be listed quickly."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

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
    def trunk(self) -> TrunkOptions:
        """These options alone, of a class that has others, too."""
        return TrunkOptions(**{one.name: getattr(self, one.name) for one in fields(TrunkOptions)})

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that are not as usual, by name, as JSON values."""
        usual = asdict(AS_USUAL)
        return {name: one for name, one in asdict(self.trunk).items() if one != usual[name]}

    @property
    def record(self) -> dict[str, str]:
        """What answers say of it: by name, empty if all is as usual."""
        return {name: str(one).lower() for name, one in self.chosen.items()}

    def check_on(self, device: str) -> None:
        """Raise InputError for what is known of a type of device without trying it.

        device: `torch.device.type`.
        """
        if self.precision == "float16" and device == "cpu":
            raise InputError(
                "precision: expected float32 or bfloat16 on a CPU, found float16, which is slower"
                " there"
            )


AS_USUAL = TrunkOptions()
"""The trunk as it is computed unless something else is asked for."""
