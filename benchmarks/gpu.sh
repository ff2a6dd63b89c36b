#!/usr/bin/env bash
# Everything that waits for a GPU, in the order of what matters: is it right, is it clean, is it fast.
#
#   bash benchmarks/gpu.sh [PYTHON]          with streamfuse[dev] installed; compute-sanitizer where it is there
#
# The last part takes some three minutes, and writes what it has measured part by part.
set -u
cd "$(dirname "$0")/.."
python=${1:-python}
export STREAMFUSE_REQUIRE_CUDA=1
tests=(tests/kernels tests/model tests/test_batch.py tests/test_batch_cuda.py tests/test_nvdec.py
    tests/media/test_probe.py tests/media/test_device_frames.py tests/pipeline/test_on_gpu.py)
failed=0

"$python" -m pytest -q "${tests[@]}" || failed=1

if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
            "$python" -m pytest -q tests/kernels/test_cuda.py tests/test_batch_cuda.py || failed=1
    done
else
    echo "compute-sanitizer is not installed: memcheck and racecheck were not run"
fi

"$python" benchmarks/bench_cuda.py || failed=1
exit "$failed"
