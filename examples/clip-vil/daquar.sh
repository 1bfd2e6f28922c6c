#!/bin/sh
# The whole chain of questions on DAQUAR's rooms: a head that attends to an ImageNet CNN's cells, and the same head on grey
# pictures, which is left with the question. Exact answers on the official test list, and their difference photo by photo.
# Run it again after any interruption: what is done is not done again.
#
#   MMKD_TEST_DATA   folder with daquar/ and weights/tf_efficientnet_lite0/ (tests/README.md)
#   SEEDS            default "0 1 2"
#   MORE             more flags of `mmkd finetune`
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
DATA="${MMKD_TEST_DATA:?a folder with daquar/ and weights/ (tests/README.md)}"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
SET="$DATA/daquar"

python grey_pictures.py --images "$SET/images" --out "$ROOT/grey"

answered() { # DATA RUN SEED
    mmkd finetune --config daquar.toml --data "$1" --cache "$1-cells" --seed "$3" --name "$2" ${MORE:-}
    mmkd generate --task vqa --model "$2" --data "$1" --cache "$1-cells" --split test --name "$2-said"
    mmkd evaluate --bench daquar --predictions "$2-said" --annotations "$SET/all_qa_pairs.txt" \
        --set "bench.photos=$SET/test_images_list.txt" --name "$2-test"
}

last=""
for data in rooms grey; do
    case "$data" in rooms) images="$SET/images" ;; *) images="$ROOT/grey" ;; esac
    mmkd prepare-data --source daquar --images "$images" --annotations "$SET/all_qa_pairs.txt" --name "$data"
    mmkd cache-teacher --teacher timm --arch tf_efficientnet_lite0 --signals grid \
        --weights "$DATA/weights/tf_efficientnet_lite0/model.safetensors" --data "$data" --name "$data-cells"
    for seed in ${SEEDS:-0 1 2}; do
        answered "$data" "$data-s$seed" "$seed" &
        [ -z "$last" ] || wait "$last" # two at a time
        last=$!
    done
done
wait "$last"
python daquar_table.py
