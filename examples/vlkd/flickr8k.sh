#!/bin/sh
# VLKD on Flickr8k's photos, with the joint space of a CNN and a text encoder in CLIP's place: a BART that has read
# captions only learns to see, and writes captions with no further training. Beside it captions without a captioner, and
# the same BART trained to caption.
# Run it again after any interruption: what is done is not done again.
#
#   MMKD_TEST_DATA   folder with flickr8k/ and weights/tf_efficientnet_lite0/ (tests/README.md)
#   SEEDS            of VLKD and of the captioner; default "0"
#   PRECISION        of the BARTs' training; default float32, bfloat16 is faster where the processor has it (AVX-512 BF16)
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
DATA="${MMKD_TEST_DATA:?a folder with flickr8k/ and weights/ (tests/README.md)}"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
SET="$DATA/flickr8k" PRECISION="${PRECISION:-float32}"

mmkd prepare-data --source flickr8k --images "$SET/images" --annotations "$SET/dataset_flickr8k.json" --name flickr8k
mmkd cache-teacher --teacher timm --arch tf_efficientnet_lite0 \
    --weights "$DATA/weights/tf_efficientnet_lite0/model.safetensors" --data flickr8k --name cnn \
    --set cache.rows_per_shard=512
mmkd distill --config ../mm-d2v2/flickr8k.toml --data flickr8k --cache cnn --name joint-space
mmkd cache-teacher --teacher run:joint-space --data flickr8k --name joint
python caption_bart.py --data flickr8k --precision "$PRECISION" --out "$ROOT/caption-bart"
python caption_bart.py --data flickr8k --epochs 0 --out "$ROOT/random-bart"

scored() { # NAME FILE SPLIT
    mmkd evaluate --bench flickr8k-caption --predictions "$2" --annotations "$SET/dataset_flickr8k.json" \
        --split "$3" --name "$1-$3"
}

for split in val test; do
    python caption_baselines.py --data flickr8k --cache joint --split $split --out "$ROOT/baselines-$split"
    for baseline in constant nearest consensus; do
        scored $baseline "$ROOT/baselines-$split/$baseline.json" $split
    done
done

captioned() { # RUN
    for split in val test; do
        mmkd generate --task caption --model "$1" --data flickr8k --cache joint --split $split \
            --name "$1-$split-written"
        results="$ROOT/results/$1-$split-written/captions.json"
        python caption_baselines.py --data flickr8k --cache joint --split $split --shuffle "$results" \
            --out "$ROOT/baselines-$split/$1"
        scored "$1" "$results" $split
        scored "$1-shuffled" "$ROOT/baselines-$split/$1/shuffled.json" $split
    done
}

taught() { # RUN [more]
    run="$1-s$seed"; shift
    mmkd distill --config flickr8k.toml --data flickr8k --cache joint --set "student.weights=$ROOT/caption-bart" \
        --set "train.precision=$PRECISION" --seed "$seed" --name "$run" "$@"
    captioned "$run"
}

for seed in ${SEEDS:-0}; do
    taught spans &
    one=$!
    taught whole --set "method.mask_ratio=[0.2, 0.9]" --set method.mask_whole=0.5
    wait $one
    mmkd finetune --task caption --model "hf:$ROOT/random-bart" --data flickr8k --cache joint --seed "$seed" \
        --name "captioner-s$seed" --set train.batch_size=128 --set train.peak_lr=1e-3 --set train.max_steps=400 \
        --set student.max_tokens=40 --set "train.precision=$PRECISION"
    captioned "captioner-s$seed"
done
python flickr8k_table.py
