#!/bin/sh
# VLKD at full size: BART-large learns to see from CLIP by COCO's captions, answers and captions with no further training,
# is then fine-tuned, and shows what it kept of language.
# Run it again after any interruption: what is done is not done again. CONFIG names the CLIP (vit-b-16 vit-l-14).
set -eu
cd "$(dirname "$0")"
CONFIG="${CONFIG:-vit-l-14}"
: "${COCO:?folder with train2014/, val2014/ and dataset_coco.json (the Karpathy split)}"
: "${VQAV2:?folder with the official questions and annotations of VQA v2}"
: "${OKVQA:?folder with the official questions and annotations of OK-VQA}"
: "${NOCAPS:?folder with nocaps_val_4500_captions.json and the pictures in val/}"
: "${XSUM:?folder with train.source, train.target and so on, or of datasets}"
: "${CNN_DAILYMAIL:?folder of the release, with test.source, test.target and so on, or of datasets}"
: "${GLUE:?folder with CoLA/, MRPC/, RTE/ and the others}"
: "${BART:=facebook/bart-large}" # a folder, or a hub id
: "${CLIP_WEIGHTS:=openai}"      # a tag, or a file of them

case "$CONFIG" in
    vit-b-16) arch=ViT-B-16-quickgelu ;;
    vit-l-14) arch=ViT-L-14-quickgelu ;;
    *)
        echo "CONFIG=$CONFIG is none of vit-b-16 vit-l-14" >&2
        exit 2 ;;
esac
run="vlkd-$CONFIG"

mmkd prepare-data --source coco --images "$COCO" --annotations "$COCO/dataset_coco.json" \
    --train-splits train,restval --name coco --workers 8
mmkd prepare-data --source vqav2 --images "$COCO" --questions "$VQAV2" --annotations "$VQAV2" --name vqav2 --workers 8
mmkd prepare-data --source okvqa --images "$COCO" --questions "$OKVQA" --annotations "$OKVQA" --name okvqa --workers 8
mmkd prepare-data --source nocaps --images "$NOCAPS" --annotations "$NOCAPS/nocaps_val_4500_captions.json" \
    --name nocaps --workers 8
for data in coco vqav2 okvqa nocaps; do # VQA's pictures alone are asked for: it has no captions
    case "$data" in coco) signals=image_embedding,text_embedding ;; *) signals=image_embedding ;; esac
    mmkd cache-teacher --teacher clip --arch "$arch" --weights "$CLIP_WEIGHTS" --signals "$signals" --data "$data" \
        --name "$data-$CONFIG" --workers 8
done

mmkd distill --method vlkd --preset vlkd/paper --student "hf:$BART" --data coco --cache "coco-$CONFIG" --name "$run" \
    --workers 8

captioned() { # RUN DATA SPLIT BENCH
    mmkd generate --task caption --model "$1" --data "$2" --cache "$2-$CONFIG" --split "$3" --name "$1-$2-written"
    mmkd evaluate --bench "$4" --predictions "$1-$2-written" --split "$3" --name "$1-$2"
}

answered() { # RUN DATA
    mmkd generate --task vqa --model "$1" --data "$2" --cache "$2-$CONFIG" --split val --name "$1-$2-said"
    mmkd evaluate --bench "$2" --predictions "$1-$2-said" --split val --name "$1-$2"
}

# with no further training; COCO's own captions are those that it was taught by
captioned "$run" coco test coco-caption
captioned "$run" nocaps val nocaps
answered "$run" vqav2
answered "$run" okvqa

mmkd finetune --task caption --model "$run" --data coco --cache "coco-$CONFIG" --name "$run-captioner"
captioned "$run-captioner" coco test coco-caption
mmkd finetune --task vqa-generative --model "$run" --data vqav2 --cache "vqav2-$CONFIG" --name "$run-answerer"
answered "$run-answerer" vqav2

# what is left of the language model: BART as it was, and after VLKD, fine-tuned alike
mmkd prepare-data --source xsum --annotations "$XSUM" --name xsum
mmkd prepare-data --source cnn-dailymail --annotations "$CNN_DAILYMAIL" --name cnn-dailymail
for task in cola sst2 mrpc qqp stsb mnli qnli rte; do
    mmkd prepare-data --source glue --set "source.task=$task" --annotations "$GLUE" --name "$task"
done

understood() { # START TASK SPLIT: after VLKD beside the result before, where answers are right or wrong
    scores="$2-$3-scores"
    case "$1:$2" in bart:* | *:stsb) against= ;; *) against="bart-$scores" ;; esac
    mmkd evaluate --bench glue --model "$1-$2" --split "$3" --name "$1-$scores" ${against:+--against "$against"}
}

for start in bart "$run"; do
    case "$start" in bart) model="hf:$BART" ;; *) model="$start" ;; esac
    for data in xsum cnn-dailymail; do
        mmkd finetune --task summarization --model "$model" --data "$data" --name "$start-$data"
        mmkd generate --task text --model "$start-$data" --data "$data" --split test --name "$start-$data-written"
        mmkd evaluate --bench "$data" --predictions "$start-$data-written" --split test --name "$start-$data-scores"
    done
    for task in cola sst2 mrpc qqp stsb mnli qnli rte; do
        mmkd finetune --task text-classification --model "$model" --data "$task" --name "$start-$task"
        understood "$start" "$task" val
        case "$task" in mnli) understood "$start" "$task" val_mismatched ;; esac
    done
done
