#!/usr/bin/env bash
# On one GPU, in at most 8 minutes: that it finds what the CPU finds, and how fast.
#
#     bash benchmarks/gpu.sh > gpu.md                       # needs the extra bulk
#     bash benchmarks/gpu.sh --device cpu --tiny            # the script itself, in seconds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
