"""Which batcher a replica on Ray Serve should have: our engine, or ``@serve.batch``.

    python benchmarks/ray_serve_batching.py [--clients 16] [--seconds 20] [--rounds 3]

Both have one replica with one CPU and `mini`, and are asked in turns, so that a busy machine slows
both down, by the same clients, each for one region of an image that nobody asked for before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time

import numpy as np
import ray
from ray import serve

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
BATCH = 16  # the engine's own default
STEPS = 2


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class ByEngine:
    """Requests wait in the engine's queue."""

    def __init__(self) -> None:
        from regionlm.captioner import RegionCaptioner
        from regionlm.serve.engine import Engine
        from regionlm.serve.limits import Limits

        captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
        self._engine = Engine(captioner, Limits(max_queue=1000, max_batch=BATCH))

    async def __call__(self, pixels: np.ndarray) -> str:
        """The caption of a region of an image, uint8 ``[H, W, 3]``."""
        from PIL import Image

        from regionlm.inputs.masks import box_region
        from regionlm.inputs.views import ImageView
        from regionlm.serve.question import Question

        image = Image.fromarray(pixels)
        region = box_region((8, 8, 56, 56), image.size)
        asked = Question("caption", ImageView(image), [region], options={"steps": STEPS})
        return (await self._engine.ask(asked))[0].text


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class ByServe:
    """Requests wait in Ray Serve's batcher; the model is called on a thread, as in the engine."""

    def __init__(self) -> None:
        from regionlm.captioner import RegionCaptioner

        self._captioner = RegionCaptioner.from_pretrained("mini", device="cpu")

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.01)
    async def __call__(self, pixels: list[np.ndarray]) -> list[str]:
        """The captions of a region of each image, uint8 ``[H, W, 3]``."""
        return await asyncio.to_thread(self._work, pixels)

    def _work(self, pixels: list[np.ndarray]) -> list[str]:
        from PIL import Image

        from regionlm.inputs.masks import box_region

        images = [Image.fromarray(one) for one in pixels]
        regions = [[box_region((8, 8, 56, 56), image.size)] for image in images]
        found = self._captioner.caption_batch(images, regions, steps=STEPS)
        return [one[0].text for one in found]


async def rate(handle: serve.handle.DeploymentHandle, clients: int, seconds: float) -> list[float]:
    """Seconds that each answer took, of clients that each wait for theirs."""
    end, took = time.monotonic() + seconds, []

    async def client(number: int) -> None:
        random = np.random.default_rng([number, time.monotonic_ns()])
        while time.monotonic() < end:
            pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            began = time.monotonic()
            await handle.remote(pixels)
            took.append(time.monotonic() - began)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return took


def main() -> None:
    """Print a line for each round and batcher."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    kinds = {"engine": ByEngine, "serve.batch": ByServe}
    handles = {
        name: serve.run(kind.bind(), name=name, route_prefix=None) for name, kind in kinds.items()
    }
    for handle in handles.values():
        asyncio.run(rate(handle, 2, 3))
    for _ in range(options.rounds):
        for name, handle in handles.items():
            took = asyncio.run(rate(handle, options.clients, options.seconds))
            p50, p95 = np.percentile(took, [50, 95])
            speed = f"{len(took) / options.seconds:.1f} answers/s"
            print(f"{name}: {speed}, p50 {p50:.3f} s, p95 {p95:.3f} s", flush=True)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
