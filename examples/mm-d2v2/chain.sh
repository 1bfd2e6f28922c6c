#!/bin/sh
# MM-D2V2 at full size: BEiT-2's CLS, cached once, regressed by a multimodal student; retrieval on COCO and Flickr30k.
# Run it again after any interruption: what is done is not done again. CONFIG names the variant (c d f g h i k l).
set -eu
cd "$(dirname "$0")"
: "${COCO:?folder with train2014/, val2014/ and dataset_coco.json (the Karpathy split)}"
: "${FLICKR30K:?folder with images/ and dataset_flickr30k.json}"
: "${BEIT2:?beitv2_base_patch16_224_pt1k.pth, the self-supervised weights}"
: "${D2V2_IMAGE:?base_imagenet.pt of data2vec 2.0}"
: "${D2V2_TEXT:?nlp_base.pt of data2vec 2.0, in a folder with encoder.json, vocab.bpe and dict.txt}"
CONFIG="${CONFIG:-g}"

mmkd prepare-data --source coco --images "$COCO" --annotations "$COCO/dataset_coco.json" \
    --train-splits train,restval --name coco --workers 8
mmkd prepare-data --source flickr30k --images "$FLICKR30K/images" --annotations "$FLICKR30K/dataset_flickr30k.json" \
    --name flickr30k --workers 8
mmkd cache-teacher --teacher beit2 --weights "$BEIT2" --data coco --name coco-beit2 --workers 8 --verify 64
mmkd distill --config "configs/$CONFIG.toml" --data coco --cache coco-beit2 --name "mm-d2v2-$CONFIG" --workers 8 \
    --set student.image_weights="$D2V2_IMAGE" --set student.text_weights="$D2V2_TEXT"
mmkd evaluate --bench coco-retrieval --model "mm-d2v2-$CONFIG" --name "mm-d2v2-$CONFIG-coco"
mmkd evaluate --bench flickr30k-retrieval --model "mm-d2v2-$CONFIG" --data flickr30k --name "mm-d2v2-$CONFIG-flickr30k"
