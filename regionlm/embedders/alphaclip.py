"""`alphaclip`: a CLIP fine-tuned to read the mask as a fourth input channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.open_clip_insides import is_own_vit, set_activation
from regionlm.backbones.state_dicts import load_weights, read_weights
from regionlm.backbones.vision import VisionBackbone
from regionlm.embedders.embedder import AT_ONCE, Embedder, EmbedderImage
from regionlm.embedders.localized import RegionEmbeddings
from regionlm.embedders.options import AlphaClipOptions, check_embedder
from regionlm.errors import ModelError
from regionlm.inputs.placement import Placement, Resize

ALPHA_MEAN, ALPHA_STD = 0.5, 0.26  # published: a mask's 0 and 1 become -1.92 and 1.92
_ALPHA_KEY = "conv1_alpha.weight"


class AlphaClip(Embedder[RegionEmbeddings]):
    """Alpha-CLIP (Sun et al. 2023): a convolution of the mask is added to the patch embeddings, and
    the whole image tower was fine-tuned with it.

    The mask is resized with the image, bilinear and antialiased, then normalised with 0.5 and
    0.26. "No region", as for ``image_embedding``, is a mask of ones, not of zeros. Padding is
    outside every region. M + 1 forwards.

    Args:
        backbone: the fine-tuned image tower.
        alpha_weight: the mask's convolution, ``[D, 1, P, P]``. All zeros make it plain CLIP.
        size, resize: see ``AlphaClipOptions``.

    Raises:
        ModelError: a convolution of another shape, or with NaN or Inf in it.
    """

    options_type = AlphaClipOptions
    options: AlphaClipOptions

    def __init__(
        self,
        backbone: ClipViT,
        alpha_weight: Tensor,
        *,
        size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(backbone, size=size, resize=resize)
        self._tuned = backbone
        wanted = [backbone.width, 1, *backbone.patch_size]
        if list(alpha_weight.shape) != wanted:
            raise ModelError(
                f"{backbone.name}: expected an alpha convolution {wanted}, found"
                f" {list(alpha_weight.shape)}"
            )
        if not torch.isfinite(alpha_weight).all():
            raise ModelError(f"{backbone.name}: the alpha convolution holds NaN or Inf")
        self.alpha_weight = alpha_weight.detach().to(backbone.device, backbone.dtype)

    @classmethod
    def from_checkpoint(cls, backbone: ClipViT, **options: Any) -> AlphaClip:
        """Put a published checkpoint into a copy of a backbone's image tower.

        Args:
            backbone: gives the architecture and, elsewhere, the text tower (Alpha-CLIP kept
                OpenAI's); its own weights are not used and not changed.
            **options: the fields of ``AlphaClipOptions``.

        Raises:
            InputError: no checkpoint given. ModelError: it is missing, damaged, no Alpha-CLIP, or
                of another architecture than the backbone.
        """
        check_embedder("alphaclip", options)
        cls.refuse_other_towers(backbone)
        chosen = AlphaClipOptions(**options)
        state, alpha_weight = read_alphaclip(Path(str(chosen.checkpoint)))
        tower = deepcopy(backbone.model.visual)
        set_activation(tower, "quick_gelu" if chosen.quick_gelu else "gelu")
        load_weights(tower, state, what=str(chosen.checkpoint), name=backbone.name)
        holder = nn.Module()
        holder.visual = tower
        tuned = ClipViT(
            holder,
            mean=backbone.mean,
            std=backbone.std,
            name=f"{backbone.name} with {chosen.checkpoint}",
            inversion_defaults=backbone.inversion_defaults,
        )
        tuned.trunk_options = backbone.trunk_options
        embedder = cls(tuned, alpha_weight, size=chosen.size, resize=chosen.resize)
        embedder.options = chosen
        return embedder

    @staticmethod
    def refuse_other_towers(backbone: VisionBackbone) -> None:
        """Raise ModelError for an image tower of another form than Alpha-CLIP's."""
        if not is_own_vit(backbone.tower):
            raise ModelError(
                f"{backbone.name}: alphaclip needs an image tower like those of OpenAI's CLIPs,"
                f" found {type(backbone.tower).__name__}; use one of those, such as"
                " ViT-B-16-quickgelu/openai"
            )

    def _embed(
        self, images: Sequence[EmbedderImage], masks: list[Tensor]
    ) -> Iterator[RegionEmbeddings]:
        for image, some in zip(images, masks, strict=True):
            pixels = self._pixels(image)
            placed = self._placed(image)
            alphas = torch.stack([torch.ones(placed.size), *(_laid(mask, placed) for mask in some)])
            found = [self._with_alpha(pixels, part) for part in alphas.split(AT_ONCE)]
            whole, *regions = torch.cat(found)
            yield RegionEmbeddings(torch.stack(regions), whole)

    def _with_alpha(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Embeddings ``[m, d]`` of one image under float masks ``[m, H, W]`` of its size."""
        alpha = ((masks - ALPHA_MEAN) / ALPHA_STD).to(self.alpha_weight)
        added = F.conv2d(alpha[:, None], self.alpha_weight, stride=self.backbone.patch_size)
        x, grid = self._tuned.trunk(pixels[None], added=added.flatten(2).transpose(1, 2))
        return self.backbone.head().at(grid).embed(x)


def read_alphaclip(path: Path) -> tuple[dict[str, Tensor], Tensor]:
    """The image tower's state dict, under open_clip's names, and the alpha convolution.

    Raises:
        ModelError: as ``read_weights``, or not an Alpha-CLIP checkpoint.
    """
    state = read_weights(path)
    if _ALPHA_KEY not in state:
        raise ModelError(
            f"weights {path}: expected the state dict of an Alpha-CLIP image tower, found no"
            f" {_ALPHA_KEY} in it"
        )
    alpha_weight = state.pop(_ALPHA_KEY)
    # Alpha-CLIP's attention has a linear layer where nn.MultiheadAttention has bare parameters.
    renamed = {key.replace(".attn.in_proj.", ".attn.in_proj_"): v for key, v in state.items()}
    return renamed, alpha_weight


def _laid(mask: Tensor, placed: Placement) -> Tensor:
    """A bool mask ``[H, W]`` to a float one of the model's input, on the CPU; padding is 0."""
    wide = mask.cpu().float()[None, None]
    resized = F.interpolate(wide, size=placed.extent, mode="bilinear", antialias=True)[0, 0]
    (top, bottom), (left, right) = placed.spans
    return F.pad(resized, (left, placed.size[1] - right, top, placed.size[0] - bottom))
