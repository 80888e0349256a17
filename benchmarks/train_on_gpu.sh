#!/usr/bin/env bash
# Everything of training that waits for a GPU, in the order of what matters; each command goes on where it was cut off.
#   benchmarks/train_on_gpu.sh DATA_DIR ENCODER_WEIGHTS TEACHER_WEIGHTS OUT_DIR
# DATA_DIR: the Semantic Drone Dataset. ENCODER_WEIGHTS: resnet18-encoder-fp16.safetensors, or torchvision's resnet34 with
# encoder.start = "pretrained". TEACHER_WEIGHTS: resnet50v1-imagenet1k-fp16.safetensors. Logs lie in OUT_DIR/*.log; figures
# go to docs/model.md and docs/progressive-resizing.md.
set -euo pipefail
data=$1 weights=$2 teacher=$3 out=$4
configs=$(cd "$(dirname "$0")/.." && pwd)/configs/training
mkdir -p "$out"
run() { name=$1; shift; echo "== $name"; aerialseg "$@" 2>&1 | tee -a "$out/$name.log"; }

trap 'rm -f "$configs"/.*-gpu*.toml' EXIT
nvidia-smi | tee "$out/gpu.log"
for split in places random; do   # a teacher must not have learned what is held out: each split has its own
  suffix=$([ $split = places ] || echo "-$split")
  for kind in teacher drone-gpu; do
    sed "s/semantic-drone-places.csv/semantic-drone-$split.csv/; s/^\(name = \"[a-z-]*\)\"/\1$suffix\"/" \
      "$configs/$kind.toml" >"$configs/.$kind-gpu-$split.toml"
  done
  model_config=$configs/.drone-gpu-gpu-$split.toml
  teachers=()
  for seed in 2026 2027; do
    teachers+=(--teacher "$out/teacher-$split-$seed")
    run "teacher-$split-$seed" train "$configs/.teacher-gpu-$split.toml" --data "$data" --out "$out/teacher-$split-$seed" \
      --encoder-weights "$teacher" --seed "$seed"
  done
  run "$split" train "$model_config" --data "$data" --out "$out/$split" --encoder-weights "$weights" "${teachers[@]}"
  run "$split-scores" evaluate "$out/$split" --data "$data" --config "$model_config" --precision fp32 --out "$out/$split-report" --overwrite
  run "$split-tta" evaluate "$out/$split" --data "$data" --config "$model_config" --tta
done
sed 's/budget_mpx = 37.5/budget_mpx = 1000/; s/max_batch = 8/max_batch = 64/' "$configs/resolution.toml" >"$configs/.resolution-gpu.toml"
run resolution experiment "$configs/.resolution-gpu.toml" --data "$data" --out "$out/resolution" --encoder-weights "$weights"
