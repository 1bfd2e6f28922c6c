#!/bin/sh
# plm-kl on Flickr8k: language models that were trained on its training captions, a causal and a masked one, teach the
# text encoder of a small CLIP, beside CLIP's contrastive loss on the same photos. Before and after: KL of the tokens of
# held-out captions, and retrieval on the test photos. The control has the same steps of the contrastive loss alone.
# Run it again after any interruption: what is done is not done again.
#
#   MMKD_TEST_DATA   folder with flickr8k/ and weights/tf_efficientnet_lite0/ (tests/README.md)
#   SEEDS            default "0 1 2"
#   LM_EPOCHS        of the language models, default 4
#   CLIP_STEPS       of the small CLIP before, default 470: five epochs
#   STEPS            of each arm, default 150
#   TEXTS            held-out captions of the KL, default 2000
#   OMP_NUM_THREADS  default 1, with two trainings side by side
set -eu
cd "$(dirname "$0")"
DATA="${MMKD_TEST_DATA:?a folder with flickr8k/ and weights/ (tests/README.md)}"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
SET="$DATA/flickr8k"

mmkd prepare-data --source flickr8k --images "$SET/images" --annotations "$SET/dataset_flickr8k.json" --name flickr8k
python small_clip.py --weights "$DATA/weights/tf_efficientnet_lite0/model.safetensors" --size 64 \
    --out "$ROOT/small-clip"

teacher() { # KIND
    python caption_lm.py --kind "$1" --data flickr8k --out "$ROOT/lm-$1" ${LM_EPOCHS:+--epochs "$LM_EPOCHS"}
    mmkd cache-teacher --teacher lm --weights "$ROOT/lm-$1" --data flickr8k --name "lm-$1" --verify 200 \
        --set teacher.max_tokens=32
}

retrieved() { # RUN
    mmkd evaluate --bench flickr8k-retrieval --model "$1" --data flickr8k --split test --name "$1-test"
}

tokens() { # KIND MODEL NAME
    [ -f "$ROOT/token-kl/$1-$3.json" ] && return
    python token_kl.py --data flickr8k --split test --teacher "$ROOT/lm-$1" --model "$2" --texts "${TEXTS:-2000}" \
        > "$ROOT/token-kl/$1-$3.tmp"
    mv "$ROOT/token-kl/$1-$3.tmp" "$ROOT/token-kl/$1-$3.json"
}

mmkd distill --config plm-kl.toml --method contrastive --data flickr8k --name clip --set train.batch_size=64 \
    --set "student.arch=local-dir:$ROOT/small-clip" --set "train.max_steps=${CLIP_STEPS:-470}" \
    --set train.peak_lr=5e-4 --set train.schedule=cosine --set train.warmup_ratio=0.1 &
one=$!
teacher causal
teacher masked
wait $one

arm() { # NAME --method ... --data ...
    name="$1-s$seed"; shift
    mmkd distill --config plm-kl.toml --name "$name" --seed "$seed" "$@" \
        --set "student.arch=local-dir:$ROOT/runs/clip/model" --set "train.max_steps=${STEPS:-150}"
    retrieved "$name"
}

mkdir -p "$ROOT/token-kl"
retrieved clip
for seed in ${SEEDS:-0 1 2}; do
    arm control --method contrastive --data flickr8k &
    one=$!
    arm causal --method plm-kl --data flickr8k:lm-causal
    wait $one
    arm masked --method plm-kl --data flickr8k:lm-masked &
    one=$!
    arm causal-heavy --method plm-kl --data flickr8k:lm-causal --set method.scale=1
    wait $one
    for kind in causal masked; do
        tokens $kind "$ROOT/runs/clip" clip
        tokens $kind "$ROOT/runs/control-s$seed" "control-s$seed"
        tokens $kind "$ROOT/runs/$kind-s$seed" "$kind-s$seed"
    done
    tokens causal "$ROOT/runs/causal-heavy-s$seed" "causal-heavy-s$seed"
done
python plm_kl_table.py
