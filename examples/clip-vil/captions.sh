#!/bin/sh
# Captions of Flickr8k's photos by the transformer of 6+6 layers that sees an ImageNet CNN's cells: cross-entropy, then
# self-critical training with CIDEr-D, each scored on its own pictures and with its captions at other pictures. Beside
# them captions without a captioner.
# Run it again after any interruption: what is done is not done again.
#
#   MMKD_TEST_DATA   folder with flickr8k/ and weights/tf_efficientnet_lite0/ (tests/README.md)
#   SEEDS            default "0"
#   EPOCHS           of cross-entropy, default 6
#   REWARDED         of self-critical training, default 2
#   PRECISION        of training; default float32, bfloat16 is faster where the processor has it (AVX-512 BF16)
#   MORE             more flags of `mmkd finetune`
#   OMP_NUM_THREADS  default 1
set -eu
cd "$(dirname "$0")"
DATA="${MMKD_TEST_DATA:?a folder with flickr8k/ and weights/ (tests/README.md)}"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
SET="$DATA/flickr8k" precision="train.precision=${PRECISION:-float32}"

mmkd prepare-data --source flickr8k --images "$SET/images" --annotations "$SET/dataset_flickr8k.json" --name flickr8k
mmkd cache-teacher --teacher timm --arch tf_efficientnet_lite0 --signals image_cls,grid \
    --weights "$DATA/weights/tf_efficientnet_lite0/model.safetensors" --data flickr8k --name cells \
    --set cache.rows_per_shard=512

scored() { # NAME FILE SPLIT
    mmkd evaluate --bench flickr8k-caption --predictions "$2" --annotations "$SET/dataset_flickr8k.json" \
        --split "$3" --name "$1-$3"
}

captioned() { # RUN
    for split in val test; do
        mmkd generate --task caption --model "$1" --data flickr8k --cache cells --split $split --beams 3 \
            --name "$1-$split-written"
        results="$ROOT/results/$1-$split-written/captions.json"
        python ../vlkd/caption_baselines.py --data flickr8k --cache cells --split $split --shuffle "$results" \
            --out "$ROOT/baselines-$split/$1"
        scored "$1" "$results" $split
        scored "$1-shuffled" "$ROOT/baselines-$split/$1/shuffled.json" $split
    done
}

for split in val test; do
    python ../vlkd/caption_baselines.py --data flickr8k --cache cells --signal image_cls --split $split \
        --out "$ROOT/baselines-$split"
    for baseline in constant nearest consensus; do
        scored $baseline "$ROOT/baselines-$split/$baseline.json" $split
    done
done

for seed in ${SEEDS:-0}; do
    mmkd finetune --config captions.toml --data flickr8k --cache cells --seed "$seed" --name "cross-entropy-s$seed" \
        --set "train.epochs=${EPOCHS:-6}" --set "$precision" ${MORE:-}
    captioned "cross-entropy-s$seed"
    mmkd finetune --config rewarded.toml --model "cross-entropy-s$seed" --data flickr8k --cache cells --seed "$seed" \
        --name "self-critical-s$seed" --set "train.epochs=${REWARDED:-2}" --set "$precision" ${MORE:-}
    captioned "self-critical-s$seed"
done
python captions_table.py
