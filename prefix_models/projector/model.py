"""A LLaVA-style prefix model: projected embeddings in the prompt of any causal LM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefix_models.base import PrefixModel
from prefix_models.decoding.options import DecodeOptions, Generation
from prefix_models.errors import PrefixModelError, within
from prefix_models.lm.strict_loading import check_device
from prefix_models.mapper_files import load_mapper
from prefix_models.projector.config import ProjectorConfig, Storage
from prefix_models.projector.folder import (
    WEIGHTS,
    ProjectorParts,
    empty_projector,
    read_projector,
    write_projector,
)
from prefix_models.projector.placeholders import check_placeholders
from prefix_models.projector.projectors import build_projector
from prefix_models.projector.prompts import Part, PromptTokenizer, chat_template

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on


class ProjectorModel(PrefixModel):
    """A projector and a language model: prompts about regions -> texts (after Liu et al. 2023).

    Each embedding becomes `tokens_per_region` soft tokens at its placeholder: `<region>`, or
    `<region1>`, `<region2>` and so on. `<image>` stands for the embedding of the whole image, which
    is in the same joint space and goes through the same projector. `loss`, `generate` and `stream`
    use the config's prompt with one region; `answer`, `stream_answer` and `answer_loss` take any
    prompts.

    Args:
        lm: Hugging Face causal language model that takes `inputs_embeds`, in any precision, also
            with LoRA adapters of peft (see `prefix_models.lm.adapters`). It is not changed.
        tokenizer: its Hugging Face tokenizer.
        config: see ProjectorConfig.
        projector: maps embeddings to soft tokens; None creates a new, untrained one.

    Raises:
        PrefixModelError: tokenizer, language model and config do not match.
    """

    def __init__(
        self,
        lm: Any,
        tokenizer: Any,
        config: ProjectorConfig,
        *,
        projector: nn.Module | None = None,
    ) -> None:
        super().__init__(lm, tokenizer, "eos")
        self.config: ProjectorConfig = replace(
            config, template=config.template or chat_template(tokenizer)
        )
        self._parts = PromptTokenizer(tokenizer, self.config.template)
        self._prompt = self._parts(self.config.prompt)
        self.context_length = sum(
            len(part) if isinstance(part, list) else config.tokens_per_region
            for part in self._prompt
        )
        if self.room < 1:
            raise PrefixModelError(
                f"the prompt takes {self.context_length} positions, the language model has "
                f"{self.positions}; there is no room for text"
            )
        width = lm.get_input_embeddings().weight.shape[1]
        self.projector = (
            build_projector(config.projector, config.embedding_dim, config.tokens_per_region, width)
            if projector is None
            else projector
        )
        # Set if the model's folder refers to the language model instead of containing it.
        self.reference: dict[str, Any] | None = None

    @property
    def mapper(self) -> nn.Module:
        """The projector: [M, d] -> [M, K, hidden]."""
        return self.projector

    def scale_input(self, embeddings: Tensor) -> Tensor:
        """Scale embeddings [M, d] to the norm sqrt(d) if the config says so."""
        if not self.config.normalize_input:
            return embeddings
        return F.normalize(embeddings, dim=-1) * self.config.embedding_dim**0.5

    def context(self, embeddings: Tensor) -> Tensor:
        """Return the config's prompt with each embedding in it, [M, context_length, hidden]."""
        visual = self._like_words(self.prefix(embeddings))
        return torch.cat(
            [
                self._words(part).expand(len(visual), -1, -1) if isinstance(part, list) else visual
                for part in self._prompt
            ],
            dim=1,
        )

    # --- any prompts

    @torch.no_grad()
    def answer(
        self,
        prompts: Sequence[str],
        regions: Sequence[Tensor],
        images: Tensor | None = None,
        **decoding: Any,
    ) -> list[Generation]:
        """Answer prompts about any number of regions: "Compare <region1> with <region2>".

        A row's text does not depend on what else is in the batch, except that `max_new_tokens`
        None means what fits after the longest prompt.

        Args:
            prompts: M texts with placeholders, without the chat format around them.
            regions: for each prompt, the embeddings [R_i, d] of its regions.
            images: [M, d], for prompts with `<image>`.
            **decoding: as in `generate`.

        Raises:
            PrefixModelError: as `generate`; or placeholders and embeddings do not match.
        """
        options = DecodeOptions.from_dict(decoding)
        contexts = self._contexts(prompts, regions, images)
        if not contexts:
            return []
        context, mask = _left_padded(contexts)
        return self._write(context, options, mask)

    def stream_answer(
        self,
        prompt: str,
        regions: Tensor,
        image: Tensor | None = None,
        **decoding: Any,
    ) -> Iterator[str]:
        """Yield `answer`'s text for one prompt piece by piece; `regions` [R, d], `image` [d]."""
        options = DecodeOptions.from_dict(decoding)
        images = None if image is None else image[None]
        with torch.no_grad():
            (context,) = self._contexts([prompt], [regions], images)
        return self._stream(context[None], options)

    def answer_loss(
        self,
        prompts: Sequence[str],
        regions: Sequence[Tensor],
        answers: Sequence[str],
        images: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of answers to prompts, as `loss`; other arguments as in `answer`.

        Only the tokens of the answers and their end tokens are predicted.
        """
        contexts = self._contexts(prompts, regions, images)
        if len(answers) != len(contexts):
            raise PrefixModelError(
                f"expected one answer for each of {len(contexts)} prompts, found {len(answers)}"
            )
        return self._loss_after(contexts, answers)

    def _contexts(
        self, prompts: Sequence[str], regions: Sequence[Tensor], images: Tensor | None
    ) -> list[Tensor]:
        """Check that prompts and embeddings match; return each prompt's context [C_i, hidden]."""
        if isinstance(prompts, str) or isinstance(regions, Tensor):
            raise PrefixModelError(
                "expected a list of prompts, and a list with each one's embeddings [R_i, d]"
            )
        rows = len(prompts)
        if len(regions) != rows or (images is not None and len(images) != rows):
            images_given = "" if images is None else f" and embeddings of {len(images)} images"
            raise PrefixModelError(
                f"expected regions{' and an image' if images_given else ''} for each of {rows} "
                f"prompts, found regions for {len(regions)}{images_given}"
            )
        split = [self._parts(prompt) for prompt in prompts]
        given = [*regions] if images is None else [*regions, images]
        for embeddings in given:
            self._check(embeddings)
        for prompt, parts, own in zip(prompts, split, regions, strict=True):
            places = [part for part in parts if not isinstance(part, list)]
            check_placeholders(prompt, places, len(own), images is not None)
        if not given:
            return []
        device = self.device
        visual = self.prefix(torch.cat([embeddings.to(device) for embeddings in given]))
        by_prompt = visual.split([len(embeddings) for embeddings in given])
        contexts = []
        for row, parts in enumerate(split):
            own_visual: dict[int | None, Tensor] = dict(enumerate(by_prompt[row]))
            if images is not None:
                own_visual[None] = by_prompt[-1][row]
            contexts.append(self._splice(parts, own_visual))
        return contexts

    def _splice(self, parts: Sequence[Part], visual: Mapping[int | None, Tensor]) -> Tensor:
        """Return the vectors [C, hidden] of a prompt with `visual` [K, hidden] at placeholders."""
        return torch.cat(
            [
                self._words(part)
                if isinstance(part, list)
                else self._like_words(visual[part.region])
                for part in parts
            ]
        )

    def _words(self, ids: list[int]) -> Tensor:
        words: Tensor = self.lm.get_input_embeddings()(torch.tensor(ids, device=self.device))
        return words

    def _like_words(self, vectors: Tensor) -> Tensor:
        words = self.lm.get_input_embeddings().weight
        return vectors.to(words.device, words.dtype)

    # --- folders

    def save_pretrained(self, folder: str | Path, *, language_model: Storage | None = None) -> None:
        """Write the model to a folder, completely or not at all; an older one is replaced.

        Args:
            folder: new, empty, or an older ProjectorModel's.
            language_model: "store" writes the language model's weights; "reference" writes only the
                hub id or folder that transformers loaded it from, whose weights it must still have.
                Adapters are always written. None means as in the folder that this model was loaded
                from, and otherwise "store".

        Raises:
            PrefixModelError: the folder holds something else or can't be written, or the language
                model can't be referred to.
        """
        parts = ProjectorParts(self.lm, self.tokenizer, self.config, self.reference)
        write_projector(parts, self.projector, Path(folder), language_model)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        lm: Any = None,
        offline: bool = False,
    ) -> Self:
        """Load a model that `save_pretrained` wrote, in eval mode.

        Args:
            folder: a local folder.
            device: where to put the model.
            dtype: of all weights; None means as saved.
            lm: the language model, if you have loaded it yourself (in 4 or 8 bits, for example),
                without adapters. It is neither moved nor converted, but the folder's adapters are
                added to it; the projector goes to its device.
            offline: if the folder refers to a language model, load it from this machine's files.

        Raises:
            PrefixModelError: a file is missing, damaged or inconsistent with the others.
        """
        device, folder = check_device(device), Path(folder)
        parts = read_projector(folder, dtype, lm, offline)
        with within(folder):
            empty = empty_projector(parts.lm, parts.config)
            model = cls(parts.lm, parts.tokenizer, parts.config, projector=empty)
        load_mapper(model.projector, folder / WEIGHTS)
        model.reference = parts.reference
        model.projector.to(dtype=dtype)
        if lm is None:
            return model.to(device).eval()
        # The language model is the caller's, and quantised weights can't be moved.
        model.projector.to(model.device)
        model.training = False
        model.projector.eval()
        return model


def _left_padded(contexts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Stack contexts [C_i, hidden] to [M, C, hidden], with a mask [M, C] if lengths differ."""
    longest = max(map(len, contexts))
    if all(len(one) == longest for one in contexts):
        return torch.stack(list(contexts)), None
    stacked = torch.stack([F.pad(one, (0, 0, longest - len(one), 0)) for one in contexts])
    places = torch.arange(longest, device=stacked.device)
    lengths = torch.tensor([len(one) for one in contexts], device=stacked.device)
    return stacked, places >= longest - lengths[:, None]
