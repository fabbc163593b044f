"""The language model of an existing LLaVA-1.5, given selected and weighted patch tokens.

Nothing is trained or changed: the tokens come from the model's own projector, the chat format is
its own, and with all tokens at weight 1 its answer is the ordinary one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prefix_models.decoding.options import DecodeOptions, Generation
from prefix_models.errors import PrefixModelError, refusing
from prefix_models.generation import Heard, PrefixGenerator
from prefix_models.lm.calling import in_eval_mode
from prefix_models.lm.strict_loading import load_strictly

# What LLaVA-1.5 was trained to caption with, and the format around it (Liu et al. 2023).
PROMPT = "Provide a one-sentence caption for the provided image."
_PLAIN_FORMAT = "USER: {image}\n{prompt} ASSISTANT:"


class LlavaReader(PrefixGenerator):
    """A prompt with patch tokens in the image's place -> text.

    Args:
        model: transformers' `LlavaForConditionalGeneration`; it is not changed.
        processor: its `LlavaProcessor`.

    Raises:
        PrefixModelError: another kind of model, or the two do not match.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        if kind != "llava":
            raise PrefixModelError(
                f"expected a LlavaForConditionalGeneration (model_type llava), found {kind}"
            )
        super().__init__(model, processor.tokenizer, "eos")
        self.processor = processor
        self._image_id: int = model.config.image_token_id
        if processor.image_token_id != self._image_id:
            raise PrefixModelError(
                f"the processor writes the image as token {processor.image_token_id}, the model "
                f"expects {self._image_id}; they belong to different models"
            )

    @torch.no_grad()
    def see(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the image tower once for one image.

        Args:
            pixels: [1, 3, H, W], as the processor makes them.

        Returns:
            The image's tokens [T, hidden] for the language model; the model's config decides which
            layers of the tower they come from and whether [CLS] is among them. And the tower's
            hidden states, [1, 1 + patches, D] each: the input of each block, then the output of the
            last.
        """
        tower = next(self.lm.model.vision_tower.parameters())
        with in_eval_mode(self.lm):
            seen = self.lm.get_image_features(
                pixel_values=pixels.to(tower.device, tower.dtype), output_hidden_states=True
            )
        (tokens,) = seen.pooler_output
        return tokens, seen.hidden_states

    @torch.no_grad()
    def answer(
        self,
        prompt: str,
        tokens: Sequence[Tensor],
        weights: Sequence[Tensor],
        *,
        heard: Heard | None = None,
        **decoding: Any,
    ) -> list[Generation]:
        """Answer a prompt about each of M sets of patch tokens.

        Args:
            prompt: words only; the chat format and the image's place are the model's own.
            tokens: for each set, the visible tokens [T_i, hidden], T_i >= 1.
            weights: their weights [T_i] in (0, 1], see `prefix_models.decoding.cached_lm.CachedLM`.
            heard: as in `generate`; a row is a set of tokens.
            **decoding: fields of DecodeOptions. Unless `eos_token_id` is given, the end tokens are
                those of the model's generation config.

        Raises:
            PrefixModelError: as `generate`.
        """
        options = self._options(decoding)
        written: list[Generation | None] = [None] * len(tokens)
        # Rows without weights are decoded exactly as the model itself would, to the bit.
        whole = [bool((one == 1).all()) for one in weights]
        for kind in (True, False):
            rows = [row for row, is_whole in enumerate(whole) if is_whole is kind]
            if rows:
                context, mask = self._contexts(
                    prompt, [tokens[row] for row in rows], [weights[row] for row in rows]
                )
                own = _of_rows(options, rows, len(tokens))
                said = None if heard is None else _renumbered(heard, rows)
                texts = self._write(context, own, mask, said)
                for row, text in zip(rows, texts, strict=True):
                    written[row] = text
        return [text for text in written if text is not None]

    def stream_answer(
        self, prompt: str, tokens: Tensor, weights: Tensor, **decoding: Any
    ) -> Iterator[str]:
        """Yield `answer`'s text about one set of tokens [T, hidden] piece by piece."""
        options = self._options(decoding)
        with torch.no_grad():
            context, mask = self._contexts(prompt, [tokens], [weights])
        return self._stream(context, options, mask)

    def _options(self, decoding: Mapping[str, Any]) -> DecodeOptions:
        options = DecodeOptions.from_dict(decoding)
        ends = self.lm.generation_config.eos_token_id
        if options.eos_token_id is not None or ends is None:
            return options
        return replace(options, eos_token_id=ends)

    def _contexts(
        self, prompt: str, tokens: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Contexts [M, C, hidden], left-padded, with their mask [M, C] for CachedLM."""
        before, after = (self._words(ids) for ids in self._around_image(prompt))
        rows = [torch.cat((before, one.to(before), after)) for one in tokens]
        counts = [
            F.pad(one.to(before.device, torch.float32), (len(before), len(after)), value=1.0)
            for one in weights
        ]
        longest = max(map(len, rows))
        context = torch.stack([F.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        mask = torch.stack([F.pad(row, (longest - len(row), 0)) for row in counts])
        return context, None if bool((mask == 1).all()) else mask

    def _around_image(self, prompt: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the image."""
        if not isinstance(prompt, str) or not prompt.strip():
            raise PrefixModelError(f"prompt: expected a text that is not blank, found {prompt!r}")
        if self.processor.image_token in prompt:
            raise PrefixModelError(
                f"prompt: expected words only, found {prompt!r}: {self.processor.image_token} is"
                " added in front"
            )
        text = llava_prompt(self.processor, prompt)
        ids: list[int] = self.tokenizer(text)["input_ids"]
        if ids.count(self._image_id) != 1:
            raise PrefixModelError(
                f"the chat template: expected the image once in it, found it "
                f"{ids.count(self._image_id)} times: {text!r}"
            )
        place = ids.index(self._image_id)
        return ids[:place], ids[place + 1 :]

    def _words(self, ids: list[int]) -> Tensor:
        words: Tensor = self.lm.get_input_embeddings()(
            torch.tensor(ids, dtype=torch.long, device=self.device)
        )
        return words


def llava_prompt(processor: Any, prompt: str) -> str:
    """Return a prompt about one image in the model's chat format, ready for its processor.

    The format is the processor's chat template or, without one, LLaVA-1.5's "USER: ... ASSISTANT:".
    """
    if not processor.chat_template:
        return _PLAIN_FORMAT.format(image=processor.image_token, prompt=prompt)
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    turns = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(turns, add_generation_prompt=True))


def load_llava(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    offline: bool = False,
) -> LlavaReader:
    """Load a LLaVA and its processor from a folder or the Hugging Face hub, in eval mode.

    Args:
        source: folder or hub id of a `LlavaForConditionalGeneration`. Weights are safetensors,
            or in a folder a pickle of tensors (pytorch_model.bin).
        device: where to put the model.
        dtype: of the weights; None means as saved.
        offline: only use files on this machine.

    Raises:
        PrefixModelError: a file is missing, damaged or inconsistent with the others.
    """
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    local = offline or Path(source).is_dir()
    with refusing(PrefixModelError, f"cannot read the processor of {source}"):
        processor = AutoProcessor.from_pretrained(source, local_files_only=local)
    noun = f"the LLaVA {source}"
    model = load_strictly(
        LlavaForConditionalGeneration, source, noun, source, dtype, local_files_only=local
    )
    return LlavaReader(model.to(device), processor).eval()


def _of_rows(options: DecodeOptions, rows: Sequence[int], count: int) -> DecodeOptions:
    """The options for some rows of a batch, with their own seeds if each row has one."""
    if options.seed is None or isinstance(options.seed, int):
        return options
    if len(options.seed) != count:
        raise PrefixModelError(
            f"seed: expected one integer or one for each region, found {len(options.seed)} for"
            f" {count}"
        )
    return replace(options, seed=[options.seed[row] for row in rows])


def _renumbered(heard: Heard, rows: Sequence[int]) -> Heard:
    """For some rows of a batch: heard by their numbers in it."""
    return lambda row, piece: heard(rows[row], piece)
