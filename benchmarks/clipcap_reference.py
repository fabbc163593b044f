"""Compare our ClipCap with the published code, number for number, and time both.

    git clone https://github.com/rmokady/CLIP_prefix_caption
    python benchmarks/clipcap_reference.py CLIP_prefix_caption [--cases 400] [--write]

The checkout's own models (train.py's, predict.py's for the linear mapper), `generate2` and
`generate_beam` run as they are on small random GPT-2s. `--write` renews the files that the tests
compare with. Exit code 1 if a token differs, logits differ by more than rounding, or ours is less
than 8 times as fast.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clipcap_cases import PERIOD, Case, build, our_logits, our_tokens, random_case, some_tokens
from clipcap_original import Checkout, Published

from prefix_models.clipcap.model import ClipCap

REFERENCE = Path(__file__).parents[1] / "tests/prefix_models/reference"
FIRST_WRITTEN = 10_000  # seeds from here on are for the tests' files
TIMED = {  # 16 regions, all of whose texts take 24 tokens
    "MLP, prefix of 10": dict(mapper="mlp", prefix_length=10),
    "transformer, prefix of 40": dict(
        mapper="transformer", prefix_length=40, clip_length=40, mapper_layers=8,
        normalize_input=True,
    ),
}  # fmt: skip


def compare(checkout: Checkout, cases: int) -> bool:
    """Print differences over random cases; return whether all are within rounding."""
    bad, greedy_rows, beam_rows, ended, mixed, tied = 0, 0, 0, 0, 0, 0
    lengths: set[int] = set()
    gaps: list[tuple[float, ...]] = []
    for seed in range(cases):
        case = random_case(seed)
        model, embeddings = build(case)
        published = Published(checkout, model)
        expected = published.tokens(embeddings, case)
        bad += _report(case, expected, our_tokens(model, embeddings, case))
        greedy_rows += len(expected[0])
        beam_rows += len(expected[1])
        lengths |= {len(row) for row in expected[0]} | {len(h) for row in expected[1] for h in row}
        ended += sum(row[-1] == PERIOD for row in expected[0])
        mixed += sum(len({len(h) for h in row}) > 1 for row in expected[1])
        tied += len(expected[0]) * (case.copies > 1)
        gaps.append(_gaps(checkout, model, published, embeddings, case))
    loss, single, double = np.max(gaps, axis=0)
    print(
        f"{cases} cases, {greedy_rows} greedy and {beam_rows} beam rows (all hypotheses): {bad} "
        f"mismatches; lengths {min(lengths)}-{max(lengths)}, {ended} greedy texts ended by '.', "
        f"{mixed} beams of mixed lengths, {tied} rows with exact ties at every step\n"
        f"largest difference of losses {loss:.1e}; of logits, relative to the row's largest: "
        f"{single:.1e} in float32, {double:.1e} in float64"
    )
    return not bad and bool(double < 1e-12)


def _report(case: Case, expected: tuple[list[Any], ...], got: tuple[list[Any], ...]) -> int:
    bad = 0
    for kind, want, have in zip(("greedy", "beam"), expected, got, strict=True):
        for row, (a, b) in enumerate(zip(want, have, strict=True)):
            if a != b:
                bad += 1
                print(f"MISMATCH {kind} row {row} of {case}\n  published {a}\n  ours      {b}")
    return bad


def _gaps(
    checkout: Checkout, model: ClipCap, published: Published, embeddings: torch.Tensor, case: Case
) -> tuple[float, ...]:
    """Return differences of the losses, of logits in float32 and in float64."""
    draw = np.random.RandomState(case.seed)
    # No id 0: the published loss takes it for padding and ignores it.
    texts = [
        " ".join(str(i) for i in draw.randint(14, case.vocabulary, draw.randint(1, 12)))
        for _ in embeddings
    ]
    ids, mask = model.encode(texts)
    with torch.no_grad():
        loss = abs(float(model.loss(embeddings, texts)) - published.loss(embeddings, ids, mask))
    single = _logits_gap(model, published, embeddings, case)
    double = model.double()
    return loss, single, _logits_gap(double, Published(checkout, double), embeddings.double(), case)


def _logits_gap(
    model: ClipCap, published: Published, embeddings: torch.Tensor, case: Case
) -> float:
    ids = some_tokens(case)
    expected = published.logits(embeddings, ids)
    difference = (our_logits(model, embeddings, ids) - expected).abs().amax(-1)
    return float((difference / expected.abs().amax(-1)).max())


def time_both(checkout: Checkout, name: str, rows: int = 16) -> bool:
    """Print seconds for a batch of regions; return whether ours is fast enough, tokens equal."""
    case = Case(
        0, width=256, heads=4, layers=6, vocabulary=5000, embedding_dim=512, rows=rows,
        max_new_tokens=24, period=0.0, **TIMED[name],
    )  # fmt: skip
    model, embeddings = build(case)
    published = Published(checkout, model)
    fine = True
    for kind in ("greedy", "beam"):
        start = time.perf_counter()
        if kind == "greedy":
            expected: list[Any] = [published.greedy(row, case.max_new_tokens) for row in embeddings]
        else:
            expected = [published.beam(row, case)[0] for row in embeddings]
        theirs, start = time.perf_counter() - start, time.perf_counter()
        got = model.generate(embeddings, decoding=kind, max_new_tokens=case.max_new_tokens)
        ours = time.perf_counter() - start
        differ = sum(one.token_ids != row for one, row in zip(got, expected, strict=True))
        print(
            f"{name}, {kind}: {rows} regions, ours {ours:.2f} s, published {theirs:.2f} s, "
            f"{theirs / ours:.1f} times as fast; {differ} texts differ"
        )
        fine &= not differ and theirs >= 8 * ours
    return fine


def write(checkout: Checkout, wanted: int = 40, with_logits: int = 12) -> None:
    """Write what the tests compare with: tokens, logits, names and shapes of weights."""
    kept: list[dict[str, Any]] = []
    logits: dict[str, np.ndarray] = {}
    layouts: dict[str, Any] = {}
    seed = FIRST_WRITTEN
    while len(kept) < wanted:
        case = random_case(seed)
        seed += 1
        model, embeddings = build(case)
        published = Published(checkout, model)
        expected = published.tokens(embeddings, case)
        # Only cases that rounding on another machine cannot change.
        nudges = [1 + 1e-5 * torch.randn(embeddings.shape) for _ in range(2)]
        if any(published.tokens(embeddings * nudge, case) != expected for nudge in nudges):
            continue
        kept.append({"case": asdict(case), "greedy": expected[0], "beam": expected[1]})
        if len(logits) < with_logits and case.vocabulary <= 60:
            exact = Published(checkout, model.double())
            scores = exact.logits(embeddings.double(), some_tokens(case))
            logits[str(case.seed)] = scores.float().numpy()
        if case.mapper not in layouts:
            shapes = {name: list(w.shape) for name, w in published.model.state_dict().items()}
            layouts[case.mapper] = {"case": asdict(case), "weights": shapes}
    REFERENCE.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in kept)
    (REFERENCE / "clipcap_tokens.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in layouts.values())
    (REFERENCE / "clipcap_layouts.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    np.savez_compressed(REFERENCE / "clipcap_logits.npz", **logits)
    print(f"wrote {len(kept)} cases (of {seed - FIRST_WRITTEN} drawn) to {REFERENCE}")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="clone of rmokady/CLIP_prefix_caption")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="renew the tests' reference files")
    args = parser.parse_args()
    checkout = Checkout(args.checkout)
    if args.write:
        write(checkout)
    fine = compare(checkout, args.cases)
    for name in TIMED:
        fine &= time_both(checkout, name)
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
