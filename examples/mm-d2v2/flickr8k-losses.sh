#!/bin/sh
# What to ask of a student, on real photos: Flickr8k, an ImageNet CNN as teacher, one text transformer from scratch with
# the same budget under six losses: mean squared error, that and contrast (ITC), contrast with the teacher's vectors
# (CDL), that with a bank, ITC alone, and ITC with a plain bank of the model's own vectors.
# Run it again after any interruption: what is done is not done again.
#
#   MMKD_TEST_DATA   folder with flickr8k/ and weights/tf_efficientnet_lite0/ (tests/README.md)
#   SEEDS, ARMS      default "0 1 2", "mse mse-itc cdl cdl-bank itc itc-bank"
#   EPOCHS, BANK     default 3; 2048, of 5,999 photos
#   PRECISION        of training; default float32, bfloat16 is faster where the processor has it (AVX-512 BF16, AMX)
#   MORE             more flags of `mmkd distill`
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
DATA="${MMKD_TEST_DATA:?a folder with flickr8k/ and weights/ (tests/README.md)}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1

mmkd prepare-data --source flickr8k --images "$DATA/flickr8k/images" \
    --annotations "$DATA/flickr8k/dataset_flickr8k.json" --name flickr8k
OMP_NUM_THREADS=2 mmkd cache-teacher --teacher timm --arch tf_efficientnet_lite0 \
    --weights "$DATA/weights/tf_efficientnet_lite0/model.safetensors" \
    --data flickr8k --name cnn --verify 64 --set cache.rows_per_shard=512

taught() { # NAME [--set ...]
    name="$1"; shift
    mmkd distill --config flickr8k.toml --data flickr8k --cache cnn --name "$name" "$@"
    for split in val test; do
        mmkd evaluate --bench flickr8k-retrieval --model "$name" --split $split --name "$name-$split"
    done
}

contrast="--set method.contrastive_weight=1 --set method.regression_weight"
target="--set method.contrastive_weight=0 --set method.target_loss=contrastive-target --set method.regression_weight=1"
last=""
for seed in ${SEEDS:-0 1 2}; do
    for arm in ${ARMS:-mse mse-itc cdl cdl-bank itc itc-bank}; do
        case "$arm" in
            mse) of="--set method.contrastive_weight=0 --set method.regression_weight=1" ;;
            mse-itc) of="$contrast=0.5" ;;
            cdl) of="$target" ;;
            cdl-bank) of="$target --set method.target_bank=${BANK:-2048}" ;;
            itc) of="$contrast=0" ;;
            itc-bank) of="$contrast=0 --set method.bank.size=${BANK:-2048}" ;;
        esac
        taught "$arm-s$seed" --seed "$seed" --set "train.epochs=${EPOCHS:-3}" \
            --set "train.precision=${PRECISION:-float32}" $of ${MORE:-} &
        [ -z "$last" ] || wait "$last" # two at a time
        last=$!
    done
done
wait "$last"
python flickr8k_losses_table.py
