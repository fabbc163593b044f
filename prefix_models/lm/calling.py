"""How to call a causal language model of transformers, found out by trying it once per model.

This is the only module that knows how a forward takes and returns its cache, how it is asked for
the last scores only, and how it takes position ids, padding and additive attention masks. Releases
of transformers rename these (in 5.24, `past_key_values` became `cache`) and models differ in which
they have. So names and signatures are not relied on: a few tokens are read in different ways, and
the results are compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import torch
import transformers
from torch import Tensor, nn

from prefix_models.errors import PrefixModelError, PrefixModelWarning, kind_and_line

_T = TypeVar("_T")

# Known names of caches; one of another name is recognised by its methods.
_CACHE_NAMES = ("cache", "past_key_values", "cache_params")
# Row orders for the steps of a trial: swapped, then with one row repeated.
_ORDERS = ((1, 0), (1, 0, 1))
# Tolerance of scores, relative to the largest. Half precision and quantised weights round more than
# that; for them a result counts as right if it is much nearer to the right answer than a wrong one.
_CLOSE, _NEARER = 1e-3, 0.5

_found: WeakKeyDictionary[nn.Module, dict[str, Any]] = WeakKeyDictionary()
_trusted: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True)
class Calling:
    """How one language model's forward is called."""

    cache: str | None
    """Name of the cache, as an argument and in the output; None: every call reads everything."""
    takes_positions: bool
    """Whether it takes position ids."""
    keeps_last: bool
    """Whether it can return the scores of the last positions only."""


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch dropout and the like off inside the block, then restore every flag."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def trust(lm: nn.Module) -> None:
    """Remember that this language model could be decoded when it was saved.

    If a trial fails now, the library has changed and not the model: it is then run without a cache
    and with a warning, instead of being refused.
    """
    _trusted.add(lm)


def calling_of(lm: nn.Module) -> Calling:
    """Return how the language model is called.

    Raises:
        PrefixModelError: it takes no `inputs_embeds`, or it has no cache whose rows can be
            reordered (RWKV, RecurrentGemma, MiniMax) and would generate nonsense.
    """
    return _once(lm, "calling", lambda: _try_out(lm))


def call(
    lm: nn.Module, calling: Calling, embeddings: Tensor, cache: Any = None, **arguments: Any
) -> tuple[Tensor, Any]:
    """Run embeddings [N, T, hidden] through the model, after what is in `cache`.

    Args:
        lm: the language model, which is not changed.
        calling: from `calling_of`.
        embeddings: the model's input.
        cache: from an earlier call; None at the start.
        **arguments: of the forward: attention_mask, position_ids.

    Returns:
        Scores of the last position [N, vocabulary], and the new cache, or None if the model is
        called without one.
    """
    if calling.keeps_last:
        arguments["logits_to_keep"] = 1
    if calling.cache is not None and cache is not None:
        arguments[calling.cache] = cache
    with in_eval_mode(lm):
        output = lm(inputs_embeds=embeddings, use_cache=calling.cache is not None, **arguments)
    return output.logits[:, -1], None if calling.cache is None else output[calling.cache]


def last_scores(lm: nn.Module, embeddings: Tensor, mask: Tensor, count: int) -> Tensor:
    """Scores [N, count, vocabulary] of the last `count` positions of embeddings [N, T, hidden].

    For training: gradients flow and modules keep their mode. `mask` [N, T] is 0 where padded.
    """
    only = {"logits_to_keep": count} if calling_of(lm).keeps_last else {}
    output = lm(inputs_embeds=embeddings, attention_mask=mask, use_cache=False, **only)
    scores: Tensor = output.logits[:, -count:]
    return scores


def reads_padding(lm: nn.Module) -> bool:
    """Whether a left-padded row gives the same scores as the row alone."""
    return _once(lm, "padding", lambda: _holds(_padded_reads_alike, lm))


def weighs_positions(lm: nn.Module) -> bool:
    """Whether the model adds a float mask [N, 1, T, T] to its attention scores."""
    return _once(lm, "weights", lambda: _holds(_twice_is_double, lm))


def display_name(lm: nn.Module) -> str:
    """A language model's name in messages: its class, and its model type if it is wrapped."""
    kind = type(lm).__name__
    family = str(getattr(getattr(lm, "config", None), "model_type", "") or "")
    plain = family.replace("_", "").replace("-", "")
    return kind if not family or plain in kind.lower() else f"{kind} ({family})"


# --- trials


def _once(lm: nn.Module, what: str, find: Callable[[], _T]) -> _T:
    known = _found.setdefault(lm, {})
    if what not in known:
        with _trying(lm):
            known[what] = find()
    found: _T = known[what]
    return found


@contextmanager
def _trying(lm: nn.Module) -> Iterator[None]:
    """Shield a trial from the caller's settings, such as autocast or a default device."""
    device = lm.get_input_embeddings().weight.device
    with (
        torch.no_grad(),
        torch.device(device),
        torch.autocast(device.type, enabled=False),
        # A compiled model would be compiled again for each shape of the trial.
        torch.compiler.set_stance("force_eager"),
    ):
        yield


def _try_out(lm: nn.Module) -> Calling:
    tokens = _sample(lm, 2, 4)
    calling, whole = _read_whole(lm, tokens)
    try:
        problem = _try_cache(lm, calling, tokens, whole)
        if isinstance(problem, str) and calling.takes_positions:
            unplaced = _try_cache(lm, replace(calling, takes_positions=False), tokens, whole)
            problem = problem if isinstance(unplaced, str) else unplaced
    except Exception as error:  # an unknown failure does not prove that the cache is wrong
        _warn_of(lm, kind_and_line(error))
        return calling
    if isinstance(problem, Calling):
        return problem
    if lm in _trusted:
        _warn_of(lm, problem)
        return calling
    raise PrefixModelError(
        "expected a language model with a usable cache, as attention models have, found"
        f" {display_name(lm)}, {problem}; use another, such as Llama or Qwen"
    )


def _read_whole(lm: nn.Module, tokens: Tensor) -> tuple[Calling, Tensor]:
    """How to call the model without a cache, and the scores of all tokens."""
    calling = Calling(None, True, False)
    try:
        return calling, _scores(lm, calling, tokens)
    except Exception:  # whatever a forward without position ids raises
        calling = replace(calling, takes_positions=False)
    try:
        return calling, _scores(lm, calling, tokens)
    except Exception as error:  # of any type: it may be anybody's model
        raise PrefixModelError(
            f"expected a causal language model that takes inputs_embeds, found {display_name(lm)},"
            f" whose forward failed ({kind_and_line(error)}); use another, such as Llama or Qwen"
        ) from error


def _try_cache(lm: nn.Module, calling: Calling, tokens: Tensor, whole: Tensor) -> Calling | str:
    """How to call the model with a cache, or what is wrong with its cache.

    Reading tokens [2, 4, hidden] one by one must give the scores `whole` of reading them at once.
    """
    first, calling = _with_last_only(lm, calling, tokens[:, :2])
    name = _cache_name(first)
    if name is None:
        return "which returns none"
    calling, cache, scores = replace(calling, cache=name), first[name], first.logits[:, -1]
    rows = torch.arange(2)
    for place, order in enumerate(_ORDERS, start=2):
        if not _is_close(lm, scores, whole[rows, place - 1], whole[rows.flip(0), place - 1]):
            return f"whose {name} changes its answers"
        chosen = torch.tensor(order)
        cache.reorder_cache(chosen)
        rows = rows[chosen]
        places = _places(calling, len(rows), 1, place)
        scores, cache = call(lm, calling, tokens[rows, place, None], cache, **places)
    same = _is_close(lm, scores, whole[rows, place], whole[rows.flip(0), place])
    return calling if same else f"whose {name} changes its answers"


def _with_last_only(lm: nn.Module, calling: Calling, tokens: Tensor) -> tuple[Any, Calling]:
    """Output of the first tokens, with the last scores only if the model supports that."""
    places = _places(calling, len(tokens), tokens.shape[1])
    with in_eval_mode(lm):
        try:
            output = lm(inputs_embeds=tokens, use_cache=True, logits_to_keep=1, **places)
        except Exception:  # whatever a forward without this argument raises
            output = lm(inputs_embeds=tokens, use_cache=True, **places)
    return output, replace(calling, keeps_last=output.logits.shape[1] == 1)


def _cache_name(output: Mapping[str, Any]) -> str | None:
    held = list(output)  # asking for an old name would give a deprecation warning
    known = [name for name in _CACHE_NAMES if name in held]
    able = [name for name in held if hasattr(output[name], "reorder_cache")]
    return next(iter(known + able), None)


def _padded_reads_alike(lm: nn.Module) -> bool:
    """Whether a padded row [x, a, b], followed by c, scores like [a, b, c]."""
    calling = calling_of(lm)
    tokens = _sample(lm, 2, 4)  # the second row is not padded
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    places = (mask.cumsum(1) - 1).clamp(min=0)

    def named(until: int, count: int) -> dict[str, Tensor]:
        positions = {"position_ids": places[:, until - count : until]}
        positions = positions if calling.takes_positions else {}
        return {"attention_mask": mask[:, :until], **positions}

    if calling.cache is None:
        found, _ = call(lm, calling, tokens, **named(4, 4))
    else:
        _, cache = call(lm, calling, tokens[:, :3], **named(3, 3))
        found, _ = call(lm, calling, tokens[:, 3:], cache, **named(4, 1))
    padded, unpadded = _scores(lm, calling, tokens[:1, 1:])[0], _scores(lm, calling, tokens[1:])[0]
    wanted = torch.stack((padded[-1], unpadded[-1]))
    return _is_close(lm, found, wanted, wanted.flip(0))


def _twice_is_double(lm: nn.Module) -> bool:
    """Whether a token of weight 2 scores like the same token given twice."""
    calling = replace(calling_of(lm), cache=None)
    tokens = _sample(lm, 8, 3)  # in some rows attention may ignore the token
    lowest = torch.finfo(tokens.dtype).min

    def read(shown: list[int], hidden: tuple[int, int], added: float) -> Tensor:
        """Scores after tokens `shown`; `added` goes to the last one's attention to the second."""
        mask = torch.full((len(shown), len(shown)), lowest, dtype=tokens.dtype).triu(1)
        mask[hidden] = lowest
        mask[-1, 1] += added
        rows = len(tokens)
        places = {"position_ids": torch.tensor(shown).expand(rows, -1)}
        places = places if calling.takes_positions else {}
        mask = mask.expand(rows, 1, -1, -1)
        return call(lm, calling, tokens[:, shown], attention_mask=mask, **places)[0]

    plain = _scores(lm, calling, tokens)[:, -1]
    once, twice = read([0, 1, 2], (0, 1), 0.0), read([0, 1, 2], (0, 1), math.log(2))
    # The second copy does not see the first, so both are equal in every layer.
    copied = read([0, 1, 1, 2], (2, 1), 0.0)
    kept = _is_close(lm, once, plain, copied) and _is_close(lm, twice, copied, plain)
    # If both were the same, the trial would prove nothing.
    return kept and bool((twice - copied).norm() < _NEARER * (plain - copied).norm())


def _holds(trial: Callable[[nn.Module], bool], lm: nn.Module) -> bool:
    try:
        return trial(lm)
    except Exception:  # kernels that take no such mask raise all kinds of errors
        return False


def _sample(lm: nn.Module, rows: int, count: int) -> Tensor:
    """Embeddings [rows, count, hidden] of distinct tokens."""
    embed = lm.get_input_embeddings()
    ids = torch.linspace(0, len(embed.weight) - 1, rows * count).long()
    sample: Tensor = embed(ids.view(rows, count))
    return sample


def _scores(lm: nn.Module, calling: Calling, tokens: Tensor) -> Tensor:
    """Scores [N, T, vocabulary] of one call without a cache."""
    places = _places(calling, len(tokens), tokens.shape[1])
    with in_eval_mode(lm):
        scores: Tensor = lm(inputs_embeds=tokens, use_cache=False, **places).logits
    return scores


def _places(calling: Calling, rows: int, count: int, before: int = 0) -> dict[str, Tensor]:
    """Position ids of `count` tokens per row after `before` others."""
    if not calling.takes_positions:
        return {}
    return {"position_ids": torch.arange(before, before + count).expand(rows, -1)}


def _is_close(lm: nn.Module, found: Tensor, wanted: Tensor, wrong: Tensor) -> bool:
    """Whether scores are as wanted; `wrong` is what a model without the ability would return."""
    found, wanted, wrong = found.double(), wanted.double(), wrong.double()
    if lm.get_input_embeddings().weight.dtype in (torch.float32, torch.float64):
        return bool((found - wanted).abs().max() <= _CLOSE * (1 + wanted.abs().max()))
    return bool((found - wanted).norm() <= _NEARER * (wrong - wanted).norm())


def _warn_of(lm: nn.Module, problem: str) -> None:
    warnings.warn(
        f"{display_name(lm)} runs without a cache, which is correct but slow: with transformers"
        f" {transformers.__version__} its cache can't be used ({problem}); constraints.txt lists"
        " the tested versions",
        PrefixModelWarning,
        stacklevel=2,
    )
