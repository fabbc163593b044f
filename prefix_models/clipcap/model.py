"""ClipCap: a prefix made from an embedding, in front of any Hugging Face causal language model."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefix_models.base import PrefixModel
from prefix_models.clipcap.config import ClipCapConfig, check_prefix_name
from prefix_models.clipcap.folder import (
    ClipCapParts,
    empty_mapper,
    read_folder,
    read_mappers,
    write_folder,
)
from prefix_models.clipcap.mappers import build_mapper
from prefix_models.errors import PrefixModelError, within
from prefix_models.lm.strict_loading import check_device

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on


class ClipCap(PrefixModel):
    """A mapper and a language model: embeddings [M, d] -> M texts (Mokady et al. 2021).

    A model may hold several mappers for one language model, each called by the name of its prefix:
    `model.with_prefix("zero-shot")`.

    Args:
        lm: Hugging Face causal language model that takes `inputs_embeds`. It is not changed.
        tokenizer: its Hugging Face tokenizer.
        config: see ClipCapConfig.
        prefix: name of the first mapper's prefix.
        mapper: the first mapper; None creates a new, untrained one.

    Raises:
        PrefixModelError: tokenizer, language model and config do not match.
    """

    def __init__(
        self,
        lm: Any,
        tokenizer: Any,
        config: ClipCapConfig,
        *,
        prefix: str = "default",
        mapper: nn.Module | None = None,
    ) -> None:
        super().__init__(lm, tokenizer, config.stop)
        self.config: ClipCapConfig = config
        self._prompt_ids: list[int] = (
            tokenizer(config.prompt, add_special_tokens=False)["input_ids"] if config.prompt else []
        )
        self.context_length = config.prefix_length + len(self._prompt_ids)
        self.mappers = nn.ModuleDict()
        self.prefix_name = ""
        if self.room < 1:
            raise PrefixModelError(
                f"prefix and prompt take {self.context_length} positions, the language model has "
                f"{self.positions}; there is no room for text"
            )
        width = lm.get_input_embeddings().weight.shape[1]
        self._add(prefix, build_mapper(config, width) if mapper is None else mapper)
        self.prefix_name = prefix

    # --- mappers and their prefixes

    @property
    def mapper(self) -> nn.Module:
        """The mapper in use: [M, d] -> [M, P, hidden]."""
        return self.mappers[self.prefix_name]

    @property
    def prefixes(self) -> list[str]:
        """Names of the prefixes, one for each mapper."""
        return list(self.mappers)

    def with_prefix(self, name: str) -> "Self":
        """Return a view of this model that uses another of its mappers; all weights are shared.

        Raises:
            PrefixModelError: there is no prefix of that name.
        """
        if name not in self.mappers:
            raise PrefixModelError(
                f"no prefix named {name!r}; this model has {', '.join(self.prefixes)}"
            )
        view = copy.copy(self)
        view.prefix_name = name
        return view

    def add_prefix(self, name: str) -> "Self":
        """Add a copy of the mapper in use under a new name; return a view that uses the copy.

        Raises:
            PrefixModelError: the name is taken, or has other characters than letters, digits, "-"
                and "_".
        """
        self._add(name, copy.deepcopy(self.mapper))
        return self.with_prefix(name)

    def _add(self, name: str, mapper: nn.Module) -> None:
        check_prefix_name(name)
        if name in self.mappers:
            raise PrefixModelError(f"there is already a prefix named {name!r}")
        self.mappers[name] = mapper

    # --- from embeddings to vectors

    def scale_input(self, embeddings: Tensor) -> Tensor:
        """Scale embeddings [M, d] to unit norm if the config says so."""
        return F.normalize(embeddings, dim=-1) if self.config.normalize_input else embeddings

    def context(self, embeddings: Tensor) -> Tensor:
        """Return the vectors before the text, [M, P + prompt, hidden]."""
        embed = self.lm.get_input_embeddings()
        context = self.prefix(embeddings).to(embed.weight.device, embed.weight.dtype)
        if self._prompt_ids:
            prompt = embed(torch.tensor(self._prompt_ids, device=self.device))
            context = torch.cat((context, prompt.expand(len(context), -1, -1)), dim=1)
        return context

    # --- folders

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model with all its mappers to a folder; the one in use becomes the default.

        The folder is written completely or not at all; an older ClipCap folder is replaced.

        Raises:
            PrefixModelError: the folder holds something else or can't be written.
        """
        parts = ClipCapParts(self.lm, self.tokenizer, self.config, self.prefixes, self.prefix_name)
        write_folder(parts, dict(self.mappers.items()), Path(folder))

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        prefix: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> "Self":
        """Load a model that `save_pretrained` wrote, in eval mode, without using the network.

        Args:
            folder: a local folder.
            prefix: which mapper to use, by its prefix's name; None means the folder's default.
            device: where to put the model.
            dtype: of all weights; None means as saved.

        Raises:
            PrefixModelError: a file is missing, damaged or inconsistent with the others, or there
                is no such prefix or device.
        """
        device, folder = check_device(device), Path(folder)
        lm, tokenizer, config, prefixes, default = read_folder(folder, dtype)
        with within(folder):
            empty = empty_mapper(lm, config)
            model = cls(lm, tokenizer, config, prefix=default, mapper=empty)
        mappers = read_mappers(folder, lm, config, prefixes)
        model.mappers = nn.ModuleDict(mappers).to(dtype=dtype)
        model = model.to(device).eval()
        return model.with_prefix(prefix) if prefix is not None else model
