"""What a ProjectorModel is besides its weights: sizes, input normalisation, prompt."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from prefix_models.checks import Checked, PositiveCount, check_choice
from prefix_models.errors import PrefixModelError
from prefix_models.projector.placeholders import find_placeholders
from prefix_models.projector.projectors import PROJECTORS

PROMPT_SLOT = "{prompt}"

Storage = Literal["store", "reference"]
"""What a folder keeps of the language model: its weights, or where they came from."""


@dataclass(frozen=True)
class ProjectorConfig(Checked):
    """Settings of a ProjectorModel, saved beside its weights.

    Args:
        embedding_dim: width d of the embeddings it reads.
        projector: kind of projector, a key of `prefix_models.projector.projectors.PROJECTORS`.
        tokens_per_region: number K of soft tokens for each embedding. One vector holds a whole
            region, hence more than LLaVA's one for each patch; ClipCap has 10. Costs K positions
            for each region of a prompt.
        normalize_input: scale embeddings to the L2 norm sqrt(d), that is coordinates of about unit
            size, before the projector. False: as they are.
        encoder: name of the encoder whose embeddings it was trained on (open_clip's
            "name/pretrained"); empty when unknown. Nothing loads it, but a RegionCaptioner refuses
            a backbone of another name.
        prompt: what `loss`, `generate` and `stream` ask about the one region they have:
            "<region>" once, and words.
        template: text around a prompt, with "{prompt}" where that goes. Empty means the tokenizer's
            chat template, with one user turn, or where it has none "USER: ... ASSISTANT:"; the
            model's own config holds what that came to, so a folder always asks the same way.

    Raises:
        PrefixModelError: a value is out of range or of another type.
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
                f"prompt must hold <region> once and no other placeholder, got {self.prompt!r}; "
                "prompts about several regions go to ProjectorModel.answer"
            )
        if self.template and self.template.count(PROMPT_SLOT) != 1:
            raise PrefixModelError(f"template must hold {PROMPT_SLOT} once, got {self.template!r}")
        if find_placeholders(self.template):
            raise PrefixModelError(
                f"template must hold no placeholder of a region or image, got {self.template!r}; "
                "they belong in the prompt"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ProjectorConfig":
        """Build from `to_dict`'s values; unknown or missing names raise PrefixModelError."""
        return cls.read(values, "a projector")
