#!/bin/sh
# SDS-CLIP at full size: CLIP's layer norms tuned on COCO by its own loss and by Stable Diffusion's, beside the control arm.
# Run it again after any interruption: what is done is not done again. CONFIG names the CLIP (vit-b-16 vit-b-32 vit-l-14 rn50).
set -eu
cd "$(dirname "$0")"
CONFIG="${CONFIG:-vit-b-16}"
: "${COCO:?folder with train2014/, val2014/ and dataset_coco.json (the Karpathy split)}"
: "${STABLE_DIFFUSION:?folder of Stable Diffusion 1.4 or 1.5 in the layout of diffusers}"
: "${WINOGROUND:?folder of the gated data set facebook/winoground}"
: "${ARO:?folder with visual_genome_relation.json, visual_genome_attribution.json and images/}"
: "${SUGARCREPE:?folder with the seven files, sugar-crepe/data}"
: "${VAL2017:?folder with the pictures of COCO val2017}"
: "${CIFAR:?folder with cifar-10-batches-py}"
: "${CLIP_WEIGHTS:=openai}" # a tag, or a file of them

case "$CONFIG" in
    vit-b-16) arch=ViT-B-16-quickgelu ;;
    vit-b-32) arch=ViT-B-32-quickgelu ;;
    vit-l-14) arch=ViT-L-14-quickgelu ;;
    rn50) arch=RN50-quickgelu ;;
    *)
        echo "CONFIG=$CONFIG is none of vit-b-16 vit-b-32 vit-l-14 rn50" >&2
        exit 2 ;;
esac

# Karpathy's train and restval: 113,287 pictures, where train2017 has 118,287. A cache of all 566,747 captions' text states
# (77 x 768 in bfloat16) would take 67 GB, so the text encoder runs beside the student (--live); with the room to spare,
# `mmkd cache-teacher --signals text_states` and --cache do the same and leave the encoder out of memory.
mmkd prepare-data --source coco --images "$COCO" --annotations "$COCO/dataset_coco.json" \
    --train-splits train,restval --name coco --workers 8

measured() { # NAME MODEL
    mmkd evaluate --bench winoground --model "$2" --annotations "$WINOGROUND" --name "$1-winoground"
    mmkd evaluate --bench aro --model "$2" --annotations "$ARO" --name "$1-aro"
    mmkd evaluate --bench sugarcrepe --model "$2" --annotations "$SUGARCREPE" --images "$VAL2017" --name "$1-sugarcrepe"
    mmkd evaluate --bench zeroshot-classification --set bench.set=cifar10 --model "$2" --images "$CIFAR" --name "$1-cifar10"
    mmkd evaluate --bench coco-retrieval --model "$2" --data coco --name "$1-coco"
}

measured "$CONFIG" "open_clip:$arch:$CLIP_WEIGHTS"
for method in contrastive sds; do
    case "$method" in
        sds) set -- --live --teacher "diffusers:$STABLE_DIFFUSION" ;;
        *) set -- ;;
    esac
    mmkd distill --method "$method" --preset sds/paper --student "open_clip:$arch:$CLIP_WEIGHTS" --data coco \
        --name "$method-$CONFIG" --workers 8 "$@"
    measured "$method-$CONFIG" "$method-$CONFIG"
done
mmkd evaluate --bench winoground --model "sds-$CONFIG" --annotations "$WINOGROUND" --against "contrastive-$CONFIG-winoground" \
    --name "$CONFIG-winoground-against-contrastive"
