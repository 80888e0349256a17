#!/usr/bin/env bash
# Everything of training that waits for a GPU, in the order of what matters; each command goes on where it was cut off.
#   benchmarks/train_on_gpu.sh DATA_DIR ENCODER_WEIGHTS OUT_DIR
# DATA_DIR: the Semantic Drone Dataset. ENCODER_WEIGHTS: resnet18-encoder-fp16.safetensors, or torchvision's resnet34 with
# encoder.start = "pretrained". Logs lie in OUT_DIR/*.log; figures go to docs/model.md and docs/progressive-resizing.md.
set -euo pipefail
data=$1 weights=$2 out=$3
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
run() { name=$1; shift; echo "== $name"; aerialseg "$@" 2>&1 | tee -a "$out/$name.log"; }

trap 'rm -f "$here"/configs/training/.*-gpu*.toml' EXIT
nvidia-smi | tee "$out/gpu.log"
run places train "$here/configs/training/drone-gpu.toml" --data "$data" --out "$out/places" --encoder-weights "$weights"
sed 's/semantic-drone-places.csv/semantic-drone-random.csv/; s/name = "drone-landcover"/name = "drone-landcover-random"/' \
  "$here/configs/training/drone-gpu.toml" >"$here/configs/training/.drone-gpu-random.toml"
run random train "$here/configs/training/.drone-gpu-random.toml" --data "$data" --out "$out/random" --encoder-weights "$weights"
sed 's/budget_mpx = 37.5/budget_mpx = 1000/; s/max_batch = 8/max_batch = 64/' "$here/configs/training/resolution.toml" >"$here/configs/training/.resolution-gpu.toml"
run resolution experiment "$here/configs/training/.resolution-gpu.toml" --data "$data" --out "$out/resolution" --encoder-weights "$weights"
for model in places random; do
  config=$([ $model = places ] && echo drone-gpu.toml || echo .drone-gpu-random.toml)
  run "$model-scores" evaluate "$out/$model" --data "$data" --config "$here/configs/training/$config" --precision fp32 --out "$out/$model-report" --overwrite
  run "$model-tta" evaluate "$out/$model" --data "$data" --config "$here/configs/training/$config" --tta
done
