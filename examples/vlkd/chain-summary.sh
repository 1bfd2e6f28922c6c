#!/bin/sh
# The user's summary of VLKD at full size: GPT-2 teaches the text encoder of CLIP-RN50x4 on BookCorpus, beside CLIP's own
# loss on COCO's pairs; then CLIP's vectors, by two maps trained on captions, are what GPT-2, frozen, goes on from. The
# same maps are trained for the CLIP as it was: what the teaching changed is the difference. GPT-2's own texts are not
# written again here: nothing of it is trained.
# Run it again after any interruption: what is done is not done again.
#
#   TEXTS  sentences of BookCorpus that are read, default 0: all. A token takes about 260 bytes in the cache, so that
#          the whole, about a billion words, takes some 300 GB.
set -eu
cd "$(dirname "$0")"
ROOT="${MMKD_ROOT:-mmkd-work}"
: "${COCO:?folder with train2014/, val2014/ and dataset_coco.json (the Karpathy split)}"
: "${VQAV2:?folder with the official questions and annotations of VQA v2}"
: "${BOOKS:?BookCorpus: a text file of a sentence a line, a folder of them, datasets or a hub id}"
: "${GPT2:=openai-community/gpt2}" # a folder, or a hub id
: "${CLIP_WEIGHTS:=openai}"        # a tag, or a file of them
arch=RN50x4-quickgelu

mmkd prepare-data --source coco --images "$COCO" --annotations "$COCO/dataset_coco.json" \
    --train-splits train,restval --image-size 288 --name coco --workers 8
mmkd prepare-data --source vqav2 --images "$COCO" --questions "$VQAV2" --annotations "$VQAV2" --image-size 288 \
    --name vqav2 --workers 8
mmkd prepare-data --source text --annotations "$BOOKS" --set "source.limit=${TEXTS:-0}" --name books --workers 8
mmkd cache-teacher --teacher gpt2 --weights "$GPT2" --set teacher.temperature=2 --topk 64 --verify 200 --data books \
    --name books-gpt2

mmkd distill --method plm-kl --preset plm-kl/summary --student "open_clip:$arch:$CLIP_WEIGHTS" --data books:books-gpt2 \
    --data coco --name plm-kl --workers 8

for clip in before taught; do
    case "$clip" in
        before) model="open_clip:$arch:$CLIP_WEIGHTS"; from="$model" ;;
        taught) model=plm-kl; from="open_clip:local-dir:$ROOT/runs/plm-kl/model" ;;
    esac
    mmkd evaluate --bench coco-retrieval --model "$model" --data coco --split test --name "$clip-retrieval"
    for data in coco vqav2; do
        mmkd cache-teacher --teacher "$from" --signals image_embedding --data "$data" --name "$data-$clip" --workers 8
    done
    mmkd distill --method prefix --student "hf:$GPT2" --data coco --cache "coco-$clip" --name "$clip-talking" --workers 8

    mmkd generate --task caption --model "$clip-talking" --data coco --cache "coco-$clip" --split val --beams 5 \
        --set generation.max_new_tokens=20 --name "$clip-written"
    mmkd evaluate --bench coco-caption --predictions "$clip-written" --split val --name "$clip-captions"
    mmkd generate --task vqa --model "$clip-talking" --data vqav2 --cache "vqav2-$clip" --split val --beams 5 \
        --set generation.max_new_tokens=20 --name "$clip-said"
    case "$clip" in before) set -- ;; *) set -- --against before-answers ;; esac
    mmkd evaluate --bench vqav2 --predictions "$clip-said" --split val --name "$clip-answers" "$@"
done
