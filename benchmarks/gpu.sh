#!/usr/bin/env bash
# All that waits for a GPU but training, in ten minutes at most: tests, throughput, exactness, a map on every GPU there is.
#   benchmarks/gpu.sh OUT_DIR
# Logs lie in OUT_DIR; a part that fails or takes too long does not keep the others from running. Figures go to
# docs/performance.md.
set -uo pipefail
out=$1
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
[ -x "$python" ] || python=python3
mkdir -p "$out"
part() { name=$1 limit=$2; shift 2; echo "== $name"; timeout "$limit" "$@" 2>&1 | tee "$out/$name.log"; echo "exit ${PIPESTATUS[0]}"; }

part gpu 20 nvidia-smi
part tests 90 "$python" -m pytest -q -n 0 -m gpu "$here/tests"
part throughput 150 "$python" "$here/benchmarks/throughput.py" --device cuda --rounds 2 --size 8192 --scene 2048
part exactness 120 "$python" -m aerialseg seams --device cuda --json "$out/seams.json" --overwrite
part demo 60 "$python" -m aerialseg demo "$out/demo" --overwrite
count=$("$python" -c "import torch; print(torch.cuda.device_count())")
for number in $(seq 0 $((count - 1))); do
  part "map-$number" 60 "$python" -m aerialseg segment "$out/demo/ortho.tif" "$out/map-$number.gpkg" --device "cuda:$number" --timeline --overwrite
done
