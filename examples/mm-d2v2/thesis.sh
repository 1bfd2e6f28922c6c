#!/bin/sh
# The thesis at full size: SHRe (q r s), S-SMKE (t to x) and the ablation of its teacher (y1 to y4), each of CONFIGS from
# the cache of its teacher; retrieval on COCO and Flickr30k, and each fine-tuned for it (z).
# Run it again after any interruption: what is done is not done again.
#
#   CONFIGS          default "x y1 y2 y3 y4": five teachers, with BEiT-2 first and none last
#   COCO, FLICKR30K  folders with the pictures and Karpathy's JSON; CC3M, CC12M: folders of tar shards, left out if unset
#   D2V2_IMAGE, BERT base_imagenet.pt of data2vec 2.0; folder or hub id of BERT base, uncased
#   BEIT2            beitv2_base_patch16_224_pt1k.pth; the other teachers are timm's, by their tags
#   VIEWS            crops of 0.9 to 1 of the area and flips, in turn an epoch; default 4
#   MORE             more flags of `mmkd distill`
set -eu
cd "$(dirname "$0")"
CONFIGS="${CONFIGS:-x y1 y2 y3 y4}" VIEWS="${VIEWS:-4}"
: "${COCO:?folder with train2014/, val2014/ and dataset_coco.json (the Karpathy split)}"
: "${FLICKR30K:?folder with images/ and dataset_flickr30k.json}"
: "${D2V2_IMAGE:?base_imagenet.pt of data2vec 2.0}"
BERT="${BERT:-google-bert/bert-base-uncased}"

teacher_of() { # CONFIG: the cache's name and the flags of its teacher
    case "$1" in
        q | r | s) name=resnet50; set -- --teacher resnet50 --signals logits ;;
        y1) name=beit2-ft; set -- --teacher beit2 --arch beitv2_base_patch16_224.in1k_ft_in1k --signals logits \
            --set teacher.cls=pre_norm --views "$VIEWS" ;;
        y2) name=d2v2; set -- --teacher d2v2 --weights "$D2V2_IMAGE" --views "$VIEWS" ;;
        y3) name=dino; set -- --teacher dino --set teacher.pool=cls --views "$VIEWS" ;;
        t | t[123] | u[12] | w) name=beit2; set -- --teacher beit2 \
            --weights "${BEIT2:?beitv2_base_patch16_224_pt1k.pth}" --views "$VIEWS" ;;
        v) name=beit2-tokens; set -- --teacher beit2 --signals image_tokens \
            --weights "${BEIT2:?beitv2_base_patch16_224_pt1k.pth}" --views "$VIEWS" ;;
        x | y4) name=beit2-pre-norm; set -- --teacher beit2 --set teacher.cls=pre_norm \
            --weights "${BEIT2:?beitv2_base_patch16_224_pt1k.pth}" --views "$VIEWS" ;; # of y4 the views alone are read
        *) echo "CONFIGS has $1, which is none of q r s t t1 t2 t3 u1 u2 v w x y1 y2 y3 y4" >&2; exit 2 ;;
    esac
    for set in $sets; do
        mmkd cache-teacher "$@" --data "$set" --name "$set-$name" --workers 8 --set cache.view.scale_min=0.9
    done
}

sets="coco ${CC3M:+cc3m} ${CC12M:+cc12m}"
for config in $CONFIGS; do # before anything is made
    case "$config" in
        q | r | s | t | t[123] | u[12] | v | w | x | y[1234]) ;;
        *) echo "CONFIGS has $config, which is none of q r s t t1 t2 t3 u1 u2 v w x y1 y2 y3 y4" >&2; exit 2 ;;
    esac
done
mmkd prepare-data --source coco --images "$COCO" --annotations "$COCO/dataset_coco.json" \
    --train-splits train,restval --name coco --workers 8
mmkd prepare-data --source flickr30k --images "$FLICKR30K/images" --annotations "$FLICKR30K/dataset_flickr30k.json" \
    --name flickr30k --workers 8
[ -z "${CC3M:-}" ] || mmkd prepare-data --source image-text --annotations "$CC3M" --name cc3m --workers 8 --skip-bad
[ -z "${CC12M:-}" ] || mmkd prepare-data --source image-text --annotations "$CC12M" --name cc12m --workers 8 --skip-bad

measured() { # RUN
    mmkd evaluate --bench coco-retrieval --model "$1" --data coco --name "$1-coco"
    mmkd evaluate --bench flickr30k-retrieval --model "$1" --data flickr30k --name "$1-flickr30k"
}

for config in $CONFIGS; do
    teacher_of "$config"
    data=""
    for set in $sets; do
        data="$data --data $set:$set-$name"
    done
    mmkd distill --config "configs/$config.toml" $data --name "s-smke-$config" --workers 8 --allow-rejected \
        --set "student.image_weights=$D2V2_IMAGE" --set "student.text_weights=$BERT" ${MORE:-}
    measured "s-smke-$config"
    for set in coco flickr30k; do
        mmkd finetune --config configs/z.toml --model "s-smke-$config" --data "$set" --name "s-smke-$config-z-$set" \
            --workers 8
        measured "s-smke-$config-z-$set"
    done
done
