"""Settings of a ProjectorModel: sizes, input normalisation, and prompt."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from prefix_models.checks import Checked, PositiveCount, check_choice
from prefix_models.errors import PrefixModelError
from prefix_models.projector.placeholders import find_placeholders
from prefix_models.projector.projectors import PROJECTORS

PROMPT_SLOT = "{prompt}"

Storage = Literal["store", "reference"]
"""What a folder holds of the language model: its weights, or where they were loaded from."""


@dataclass(frozen=True)
class ProjectorConfig(Checked):
    """Settings of a ProjectorModel, saved with its weights.

    Args:
        embedding_dim: width d of the input embeddings.
        projector: kind of projector, a key of `prefix_models.projector.projectors.PROJECTORS`.
        tokens_per_region: number K of soft tokens for each embedding. An embedding describes a
            whole region and so needs more than the one token that LLaVA has for a patch; ClipCap
            has 10. Every region in a prompt takes K positions.
        normalize_input: scale embeddings to the L2 norm sqrt(d), so that coordinates are of about
            unit size, before the projector.
        encoder: name of the encoder that the embeddings come from (open_clip's "name/pretrained");
            empty if unknown. It is not loaded, but a RegionCaptioner refuses a backbone of another
            name.
        prompt: the prompt of `loss`, `generate` and `stream`, with "<region>" once.
        template: text around a prompt, with "{prompt}" in its place. Empty means one user turn of
            the tokenizer's chat template or, if it has none, "USER: ... ASSISTANT:". The model's
            config holds the resulting text, so a saved model always uses the same template.

    Raises:
        PrefixModelError: a value is out of range or has the wrong type.
    """

    error: ClassVar[type[PrefixModelError]] = PrefixModelError

    embedding_dim: PositiveCount
    projector: str = "mlp2x_gelu"
    tokens_per_region: PositiveCount = 8
    normalize_input: bool = True
    encoder: str = ""
    prompt: str = "<region>\nDescribe this region."
    template: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("projector", self.projector, PROJECTORS, PrefixModelError)
        if [place.region for place in find_placeholders(self.prompt)] != [0]:
            raise PrefixModelError(
                f"prompt: expected <region> once and no other placeholder, found {self.prompt!r}; "
                "prompts about several regions go to ProjectorModel.answer"
            )
        if self.template and self.template.count(PROMPT_SLOT) != 1:
            raise PrefixModelError(
                f"template: expected {PROMPT_SLOT} once, found {self.template!r}"
            )
        if find_placeholders(self.template):
            raise PrefixModelError(
                "template: expected no placeholders of regions or images, found "
                f"{self.template!r}; they belong in the prompt"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ProjectorConfig":
        """Build from `to_dict`'s values; unknown or missing names raise PrefixModelError."""
        return cls.read(values, "a projector")
