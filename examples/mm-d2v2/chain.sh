#!/bin/sh
# MM-D2V2 at full size: a teacher's CLS, cached once, regressed by a multimodal student; retrieval on COCO and Flickr30k.
# Run it again after any interruption: what is done is not done again. CONFIG names the variant (c d f g h i k l).
set -eu
cd "$(dirname "$0")"
CONFIG="${CONFIG:-g}"
: "${COCO:?folder with train2014/, val2014/ and dataset_coco.json (the Karpathy split)}"
: "${FLICKR30K:?folder with images/ and dataset_flickr30k.json}"
: "${D2V2_TEXT:?nlp_base.pt of data2vec 2.0, in a folder with encoder.json, vocab.bpe and dict.txt}"

case "$CONFIG" in
    f) # taught by the model that its own picture blocks start from
        teacher=d2v2
        weights="${D2V2_IMAGE:?base_imagenet.pt of data2vec 2.0}" ;;
    c | d | g | h | i | k | l)
        teacher=beit2
        weights="${BEIT2:?beitv2_base_patch16_224_pt1k.pth, the self-supervised weights}" ;;
    *)
        echo "CONFIG=$CONFIG is none of c d f g h i k l" >&2
        exit 2 ;;
esac
case "$CONFIG" in
    c | d) set -- ;; # a text encoder alone: its pictures are the teacher's
    *) set -- --set "student.image_weights=${D2V2_IMAGE:?base_imagenet.pt of data2vec 2.0}" ;;
esac

# The notes crop 60 to 100 % of a picture's area and mirror half of them [C], anew each time; a cache holds VIEWS of them
# [U], in turn an epoch, and the student sees the view that the teacher saw. COCO's 123,287 pictures take 189 MB a view
# (768 bfloat16 each) and a pass of the teacher; the 27 epochs of 60,000 steps see each of four views about seven times.
VIEWS="${VIEWS:-4}"

mmkd prepare-data --source coco --images "$COCO" --annotations "$COCO/dataset_coco.json" \
    --train-splits train,restval --name coco --workers 8
mmkd prepare-data --source flickr30k --images "$FLICKR30K/images" --annotations "$FLICKR30K/dataset_flickr30k.json" \
    --name flickr30k --workers 8
mmkd cache-teacher --teacher "$teacher" --weights "$weights" --data coco --name "coco-$teacher" --workers 8 --verify 64 \
    --views "$VIEWS" --set cache.view.scale_min=0.6
mmkd distill --config "configs/$CONFIG.toml" --data coco --cache "coco-$teacher" --name "mm-d2v2-$CONFIG" --workers 8 \
    --set "student.text_weights=$D2V2_TEXT" "$@"
mmkd evaluate --bench coco-retrieval --model "mm-d2v2-$CONFIG" --name "mm-d2v2-$CONFIG-coco"
mmkd evaluate --bench flickr30k-retrieval --model "mm-d2v2-$CONFIG" --data flickr30k --name "mm-d2v2-$CONFIG-flickr30k"
