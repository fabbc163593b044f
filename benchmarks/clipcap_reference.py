"""Compare our decoding with the published ClipCap code, token for token, and time both.

    git clone https://github.com/rmokady/CLIP_prefix_caption
    python benchmarks/clipcap_reference.py CLIP_prefix_caption [--cases 400] [--write]

The checkout's own `generate2`, `generate_beam`, `ClipCaptionModel` and `MLP` are taken out of its
predict.py and run as they are, on small random GPT-2s; nothing else of that file (CLIP, cog) is
needed. `--write` renews the reference file that the tests compare with.
"""

import argparse
import ast
import json
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
import torch.nn.functional as nnf
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from prefix_models.clipcap import ClipCap
from prefix_models.config import ClipCapConfig

REFERENCE = Path(__file__).parents[1] / "tests/prefix_models/reference/clipcap_tokens.json"
PERIOD = 13  # id of "." in GPT-2's vocabulary, and of the toy one here


@dataclass(frozen=True)
class Case:
    """A random model and its inputs, fully determined by these numbers."""

    seed: int
    width: int = 32
    heads: int = 2
    layers: int = 2
    vocabulary: int = 60
    prefix_length: int = 10
    embedding_dim: int = 16
    rows: int = 4
    max_new_tokens: int = 24
    beam_size: int = 5
    temperature: float = 1.0
    period: float = 1.5  # how much louder "." is than other tokens: how early texts end


def random_case(seed: int) -> Case:
    """Draw a case; the draws cover short and long texts, and beams of mixed lengths."""
    draw = np.random.RandomState(seed)
    heads = int(draw.choice([1, 2, 4]))
    return Case(
        seed=seed,
        width=16 * heads,
        heads=heads,
        layers=int(draw.choice([1, 2, 3])),
        vocabulary=int(draw.choice([20, 60, 200])),
        prefix_length=int(draw.choice([1, 4, 10])),
        embedding_dim=int(draw.choice([8, 32])),
        max_new_tokens=int(draw.choice([1, 2, 8, 24, 40, 67])),
        beam_size=int(draw.choice([2, 3, 5, 5, 5])),
        temperature=float(draw.choice([0.7, 1.0, 1.0, 1.5])),
        period=float(draw.choice([1.0, 1.3, 1.6, 2.0])),
    )


def fill(module: nn.Module, seed: int, prefix: str = "") -> None:
    """Set every parameter from numpy, by its name: the same in every version of torch.

    RandomState, because its streams are frozen, unlike those of newer generators.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw = np.random.RandomState((zlib.crc32((prefix + name).encode()) + seed) % 2**32)
            values = torch.from_numpy(draw.standard_normal(tuple(parameter.shape))).float()
            if parameter.dim() == 1:  # biases near 0, LayerNorm scales near 1
                is_scale = ".ln_" in name and name.endswith("weight")
                parameter.copy_(0.1 * values + float(is_scale))
            else:
                fan_in = min(parameter.shape) if "wte" in name or "wpe" in name else 8
                parameter.copy_(values * (2.0 / fan_in**0.5))


def toy_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words "0", "1", ... are their own ids, except that id 13 is written "."."""
    words = {"." if i == PERIOD else str(i): i for i in range(vocabulary)}
    backend = Tokenizer(models.WordLevel(words, unk_token="0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def build(case: Case) -> tuple[ClipCap, torch.Tensor]:
    """Return our model of a case and its embeddings [rows, d]."""
    lm = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=case.vocabulary,
            n_positions=96,
            n_embd=case.width,
            n_layer=case.layers,
            n_head=case.heads,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    config = ClipCapConfig(case.embedding_dim, prefix_length=case.prefix_length, stop="period")
    model = ClipCap(lm, toy_tokenizer(case.vocabulary), config).eval()
    fill(model.lm, case.seed, "gpt.")
    fill(model.mapper, case.seed, "mapper.")
    with torch.no_grad():
        lm.transformer.wte.weight[PERIOD] *= case.period
    draw = np.random.RandomState(case.seed + 1)
    embeddings = torch.from_numpy(draw.standard_normal((case.rows, case.embedding_dim))).float()
    return model, embeddings


def load_published(checkout: Path) -> dict[str, Any]:
    """Execute only the four definitions that are compared, from the checkout's predict.py."""
    wanted = {"generate2", "generate_beam", "ClipCaptionModel", "MLP"}
    source = (checkout / "predict.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if getattr(node, "name", None) in wanted]
    # What its imports and type aliases would have provided.
    names: dict[str, Any] = {
        "nn": nn, "nnf": nnf, "np": np, "torch": torch, "Optional": Optional,
        "Tuple": tuple, "T": torch.Tensor, "D": torch.device,
    }  # fmt: skip
    exec(compile(tree, str(checkout / "predict.py"), "exec"), names)
    return names


class _NumberTokenizer:
    """The two methods the published functions call; text is ids with spaces."""

    def encode(self, text: str) -> list[int]:
        return [PERIOD]

    def decode(self, ids: Any) -> str:
        return " ".join(str(int(i)) for i in ids)


class Published:
    """The published model with the weights of ours."""

    def __init__(self, names: dict[str, Any], model: ClipCap) -> None:
        from prefix_models.checkpoints import original_state_dict

        class Factory:  # stands where predict.py loads "gpt2" from the hub
            from_pretrained = staticmethod(lambda name: GPT2LMHeadModel(model.lm.config))

        names["GPT2LMHeadModel"] = Factory
        self.names = names
        size, length = model.config.embedding_dim, model.config.prefix_length
        self.model = names["ClipCaptionModel"](length, prefix_size=size).eval()
        self.model.load_state_dict(original_state_dict(model), strict=True)

    @torch.no_grad()
    def prefix(self, embedding: torch.Tensor) -> torch.Tensor:
        """Map one embedding [d] to [1, P, hidden], as predict.py does."""
        return self.model.clip_project(embedding[None]).reshape(1, self.model.prefix_length, -1)

    def greedy(self, embedding: torch.Tensor, limit: int) -> list[int]:
        """Return generate2's tokens for one embedding [d]."""
        try:
            text = self.names["generate2"](
                self.model, _NumberTokenizer(), embed=self.prefix(embedding), entry_length=limit
            )
        except TypeError:  # published bug: a text of one token cannot be made a list
            logits = self.model.gpt(inputs_embeds=self.prefix(embedding)).logits[0, -1]
            return [int(logits.argmax())]
        return [int(i) for i in text.split()]

    def beam(self, embedding: torch.Tensor, case: Case) -> list[list[int]]:
        """Return all of generate_beam's hypotheses for one embedding [d], best first."""
        texts = self.names["generate_beam"](
            self.model,
            _NumberTokenizer(),
            beam_size=case.beam_size,
            embed=self.prefix(embedding),
            entry_length=case.max_new_tokens,
            temperature=case.temperature,
        )
        return [[int(i) for i in text.split()] for text in texts]

    @torch.no_grad()
    def loss(self, embeddings: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> float:
        """Loss as its train.py computes it: position 0 of the logits is the prefix's last."""
        length = self.model.prefix_length
        attention = torch.cat((torch.ones(len(ids), length), mask.float()), 1)
        logits = self.model(ids, embeddings, attention).logits[:, length - 1 : -1]
        return float(nnf.cross_entropy(logits.flatten(0, 1), ids.flatten(), ignore_index=0))


def ours(model: ClipCap, embeddings: torch.Tensor, case: Case) -> tuple[list[Any], list[Any]]:
    """Return greedy tokens of all rows and all hypotheses of all rows."""
    limit = case.max_new_tokens
    greedy = [one.token_ids for one in model.generate(embeddings, max_new_tokens=limit)]
    beams = model.beams(
        embeddings,
        max_new_tokens=limit,
        beam_size=case.beam_size,
        temperature=case.temperature,
    )
    return greedy, [[one.token_ids for one in row] for row in beams]


def theirs(
    published: Published, embeddings: torch.Tensor, case: Case
) -> tuple[list[Any], list[Any]]:
    """As `ours`, by the published code, row by row."""
    return (
        [published.greedy(row, case.max_new_tokens) for row in embeddings],
        [published.beam(row, case) for row in embeddings],
    )


def compare(names: dict[str, Any], cases: int) -> int:
    """Print mismatches over random cases; return how many rows differ."""
    bad, greedy_rows, beam_rows, ended, loss_gap = 0, 0, 0, 0, 0.0
    lengths: set[int] = set()
    mixed = 0
    for seed in range(cases):
        case = random_case(seed)
        model, embeddings = build(case)
        published = Published(names, model)
        expected, got = theirs(published, embeddings, case), ours(model, embeddings, case)
        for kind, want, have in zip(("greedy", "beam"), expected, got, strict=True):
            for row, (a, b) in enumerate(zip(want, have, strict=True)):
                if a != b:
                    bad += 1
                    print(f"MISMATCH {kind} row {row} of {case}\n  published {a}\n  ours      {b}")
        greedy_rows += len(expected[0])
        beam_rows += len(expected[1])
        lengths |= {len(row) for row in expected[0]} | {len(h) for row in expected[1] for h in row}
        ended += sum(row[-1] == PERIOD for row in expected[0])
        mixed += sum(len({len(h) for h in row}) > 1 for row in expected[1])
        loss_gap = max(loss_gap, _loss_gap(model, published, embeddings, case))
    print(
        f"{cases} cases, {greedy_rows} greedy and {beam_rows} beam rows (all hypotheses): {bad} "
        f"mismatches; lengths {min(lengths)}-{max(lengths)}, {ended} greedy texts ended by '.', "
        f"{mixed} beams of mixed lengths; largest loss difference {loss_gap:.1e}"
    )
    return bad


def _loss_gap(model: ClipCap, published: Published, embeddings: torch.Tensor, case: Case) -> float:
    draw = np.random.RandomState(case.seed)
    # No id 0: the published loss takes it for padding and ignores it.
    texts = [
        " ".join(str(i) for i in draw.randint(14, case.vocabulary, draw.randint(1, 12)))
        for _ in embeddings
    ]
    ids, mask = model.encode(texts)
    with torch.no_grad():
        return abs(float(model.loss(embeddings, texts)) - published.loss(embeddings, ids, mask))


def time_both(names: dict[str, Any], rows: int = 8) -> None:
    """Print seconds for a batch of embeddings; every text takes all its 24 tokens."""
    case = Case(0, width=256, heads=4, layers=6, vocabulary=5000, embedding_dim=512, rows=rows,
                max_new_tokens=24, period=0.0)  # fmt: skip
    model, embeddings = build(case)
    published = Published(names, model)
    for kind in ("greedy", "beam"):
        seconds = []
        for side in (0, 1):
            start = time.perf_counter()
            if kind == "greedy" and side:
                for row in embeddings:
                    published.greedy(row, case.max_new_tokens)
            elif side:
                for row in embeddings:
                    published.beam(row, case)
            else:
                model.generate(embeddings, decoding=kind, max_new_tokens=case.max_new_tokens)
            seconds.append(time.perf_counter() - start)
        print(
            f"{kind}: {rows} embeddings, ours {seconds[0]:.2f} s, published {seconds[1]:.2f} s, "
            f"{seconds[1] / seconds[0]:.1f} times"
        )


def write(names: dict[str, Any], wanted: int = 30) -> None:
    """Write reference tokens of cases that rounding on another machine cannot change."""
    kept: list[dict[str, Any]] = []
    seed = 10_000
    while len(kept) < wanted:
        case = random_case(seed)
        seed += 1
        model, embeddings = build(case)
        published = Published(names, model)
        expected = theirs(published, embeddings, case)
        nudges = [1 + 1e-5 * torch.randn(embeddings.shape) for _ in range(2)]
        if all(theirs(published, embeddings * nudge, case) == expected for nudge in nudges):
            kept.append({"case": asdict(case), "greedy": expected[0], "beam": expected[1]})
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in kept)
    REFERENCE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"wrote {len(kept)} cases (of {seed - 10_000} drawn) to {REFERENCE}")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="clone of rmokady/CLIP_prefix_caption")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="renew the tests' reference file")
    args = parser.parse_args()
    names = load_published(args.checkout)
    if args.write:
        write(names)
    bad = compare(names, args.cases)
    time_both(names)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
