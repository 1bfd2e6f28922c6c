"""Names of teachers, students, methods, tasks (of `finetune`, of `generate`), benches and sources: one table a kind.

A name maps to a `module:attribute` string, imported when the name is used. Another package adds names by entry points
in the groups `mmkd.teachers`, `mmkd.students`, `mmkd.methods`, `mmkd.finetune_tasks`, `mmkd.tasks`, `mmkd.benches`,
`mmkd.sources`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from mmkd_cli.core.errors import UserError, nearest


class Entry(NamedTuple):
    """Where a name's class lives, and what it is in a few words."""

    target: str
    summary: str


TABLES: dict[str, dict[str, Entry]] = {
    "sources": {
        "coco": Entry("mmkd_cli.data.sources.karpathy:Coco", "COCO captions: Karpathy's or the official JSON"),
        "flickr30k": Entry("mmkd_cli.data.sources.karpathy:Flickr30k", "Flickr30k: Karpathy's JSON"),
        "flickr8k": Entry("mmkd_cli.data.sources.karpathy:Flickr8k", "Flickr8k: Karpathy's JSON"),
        "image-text": Entry(
            "mmkd_cli.data.sources.image_text:ImageText",
            "a table of paths and captions, tar shards, or a datasets folder",
        ),
        "image-folder": Entry("mmkd_cli.data.sources.image_folder:ImageFolder", "class folders of pictures"),
        "cifar10": Entry("mmkd_cli.data.sources.cifar:Cifar10", "CIFAR-10: the authors' python or binary files"),
        "cifar100": Entry("mmkd_cli.data.sources.cifar:Cifar100", "CIFAR-100: the same, fine classes"),
        "text": Entry("mmkd_cli.data.sources.text:Text", "text files, JSONL, or a datasets folder"),
        "vqav2": Entry("mmkd_cli.data.sources.vqa:Vqa", "VQA v2: official files and COCO's pictures, or datasets"),
        "okvqa": Entry("mmkd_cli.data.sources.vqa:OkVqa", "OK-VQA: the same layout"),
        "nocaps": Entry("mmkd_cli.data.sources.nocaps:Nocaps", "nocaps: the official JSON and pictures, or datasets"),
        "xsum": Entry("mmkd_cli.data.sources.summaries:Xsum", "XSum: articles and summaries in one sentence"),
        "cnn-dailymail": Entry("mmkd_cli.data.sources.summaries:CnnDailymail", "CNN/DailyMail: news and highlights"),
        "yelp": Entry(
            "mmkd_cli.data.sources.yelp:Yelp",
            "Yelp: sentences of two styles, with rewritings of the test split; or reviews",
        ),
        "glue": Entry("mmkd_cli.data.sources.glue:Glue", "GLUE's nine tasks: official TSV folders, or datasets"),
        "gqa": Entry("mmkd_cli.data.sources.statements:Gqa", "GQA: balanced questions, the official JSON"),
        "snli-ve": Entry("mmkd_cli.data.sources.statements:SnliVe", "SNLI-VE: hypotheses about photos, JSON lines"),
        "nlvr": Entry("mmkd_cli.data.sources.statements:Nlvr", "NLVR: statements about drawn pictures"),
        "nlvr2": Entry("mmkd_cli.data.sources.statements:Nlvr2", "NLVR2: statements about two photos"),
        "daquar": Entry("mmkd_cli.data.sources.statements:Daquar", "DAQUAR: questions about rooms, photo lists"),
        "r2r": Entry("mmkd_cli.data.sources.navigation:R2r", "Room-to-Room: instructions for walks, houses' graphs"),
        "rxr": Entry("mmkd_cli.data.sources.navigation:Rxr", "Room-across-Room: the same in three languages"),
        "scenes": Entry("mmkd_cli.data.sources.scenes:Scenes", "the built-in generated world"),
    },
    "teachers": {
        "beit2": Entry("mmkd_cli.teachers.beit2:Beit2", "BEiT-2 (timm tags, or the authors' .pth)"),
        "d2v2": Entry("mmkd_cli.teachers.d2v2:D2v2", "data2vec 2.0 (fairseq image and text checkpoints)"),
        "data2vec": Entry("mmkd_cli.teachers.data2vec:Data2Vec", "data2vec (transformers)"),
        "dino": Entry("mmkd_cli.teachers.timm_models:Dino", "DINO ViT-B/16 (timm)"),
        "clip": Entry("mmkd_cli.teachers.clip:Clip", "CLIP (open_clip or transformers): both towers"),
        "clip-grid": Entry(
            "mmkd_cli.teachers.clip_grid:ClipGrid", "CLIP's image tower before pooling: cells (CLIP-ViL)"
        ),
        "resnet50": Entry("mmkd_cli.teachers.timm_models:ResNet50", "supervised ResNet-50: 1,000 logits (timm)"),
        "timm": Entry("mmkd_cli.teachers.timm_models:Timm", "any timm model: pooled feature or CLS"),
        "stable-diffusion": Entry(
            "mmkd_cli.teachers.stable_diffusion:StableDiffusionTeacher",
            "Stable Diffusion 1.x, 2.x (diffusers): text states, latents",
        ),
        "lm": Entry(
            "mmkd_cli.teachers.language_models:LanguageModelTeacher",
            "any causal, masked or encoder-decoder model (transformers): token distributions",
        ),
        "gpt2": Entry("mmkd_cli.teachers.language_models:Gpt2", "GPT-2 (transformers): token distributions"),
        "text-encoder": Entry(
            "mmkd_cli.teachers.text_encoder:TextEncoderTeacher", "any text encoder (transformers): the mean of layers"
        ),
        "bert": Entry("mmkd_cli.teachers.language_models:Bert", "BERT (transformers): token distributions"),
        "bart": Entry("mmkd_cli.teachers.language_models:Bart", "BART (transformers): token distributions"),
        "run": Entry("mmkd_cli.teachers.run:Run", "a trained run: its student's vectors of pictures and texts"),
        "precomputed": Entry("mmkd_cli.teachers.precomputed:Precomputed", "somebody else's embeddings, from a file"),
    },
    "students": {
        "unimodal": Entry(
            "mmkd_cli.students.unimodal:Unimodal", "a text encoder beside the teacher's image tower (C, D)"
        ),
        "clip": Entry("mmkd_cli.students.clip:Clip", "CLIP (open_clip or transformers), tuned in part or whole"),
        "encoder": Entry("mmkd_cli.students.encoder:Encoder", "some blocks of an image or a text model (A, B)"),
        "mm-d2v2": Entry("mmkd_cli.students.mm_d2v2:MmD2v2", "specific and shared blocks for image and text (F to L)"),
        "mm-beit2": Entry("mmkd_cli.students.mm_beit2:MmBeit2", "the same on BEiT-2's blocks, relative positions (J)"),
        "s-smke": Entry(
            "mmkd_cli.students.s_smke:SSmke",
            "data2vec 2.0 and BERT before a shared block or MLP (S-SMKE, SHRe: Q to Y)",
        ),
        "bart": Entry("mmkd_cli.students.bart:Bart", "BART with maps to and from CLIP's joint space (VLKD)"),
        "prefix": Entry(
            "mmkd_cli.students.prefix:Prefix", "a frozen causal language model behind maps from CLIP's joint space"
        ),
        "pythia": Entry(
            "mmkd_cli.students.grid_answerers:PythiaAnswerer", "Pythia: a question's attention over a grid"
        ),
        "mcan": Entry("mmkd_cli.students.grid_answerers:McanAnswerer", "MCAN: words guide attention over a grid"),
        "grid-captioner": Entry(
            "mmkd_cli.students.grid_captioner:GridCaptioner", "6+6 transformer that writes captions from a grid"
        ),
        "vlp": Entry("mmkd_cli.students.vlp:Vlp", "a BERT over words and cells of a grid (CLIP-ViL_p)"),
        "late-fusion": Entry(
            "mmkd_cli.students.late_fusion:LateFusion", "mm-d2v2 or s-smke with a head on both modalities' vectors"
        ),
        "envdrop": Entry("mmkd_cli.students.envdrop:EnvDrop", "an agent that follows instructions through houses"),
        "speaker": Entry("mmkd_cli.students.speaker:Speaker", "what people would say of a walk through a house"),
        "seq2seq": Entry("mmkd_cli.students.seq2seq:Seq2Seq", "any encoder-decoder (transformers), as it is"),
        "classifier": Entry("mmkd_cli.students.classifier:Classifier", "any text model (transformers) with a head"),
        "image-classifier": Entry(
            "mmkd_cli.students.image_classifier:ImageClassifier",
            "image blocks of a run, or a timm model, with a head",
        ),
    },
    "methods": {
        "cls-regression": Entry(
            "mmkd_cli.methods.cls_regression:ClsRegression",
            "regress the teacher's CLS; optional contrastive term (MM-D2V2)",
        ),
        "layer-mean": Entry(
            "mmkd_cli.methods.layer_mean:LayerMean", "learn the mean of a teacher's layers, token by token"
        ),
        "sds": Entry("mmkd_cli.methods.sds:Sds", "tune a CLIP by score distillation from Stable Diffusion (SDS-CLIP)"),
        "plm-kl": Entry(
            "mmkd_cli.methods.plm_kl:PlmKl", "teach CLIP's text encoder a language model's token distributions"
        ),
        "prefix": Entry(
            "mmkd_cli.methods.prefix:Prefix", "map CLIP's vectors to the input of a frozen language model, on captions"
        ),
        "contrastive": Entry("mmkd_cli.methods.sds:Contrastive", "tune a CLIP by its own loss: the control arm of sds"),
        "vlp": Entry("mmkd_cli.methods.vlp:VlpMethod", "vision-and-language pre-training: MLM, ITM, QA (CLIP-ViL_p)"),
        "vlkd": Entry("mmkd_cli.methods.vlkd:Vlkd", "CLIP teaches BART to see: TTDM, ITCL, ICTI (VLKD)"),
    },
    "finetune_tasks": {
        "caption": Entry("mmkd_cli.tasks.caption_tuning:CaptionTuning", "a caption of each picture, written"),
        "vqa-generative": Entry("mmkd_cli.tasks.vqa_generative:VqaGenerative", "answers to questions, written"),
        "vqa": Entry("mmkd_cli.tasks.answering:VqaAnswering", "one of the common answers, from a grid (VQA v2)"),
        "gqa": Entry("mmkd_cli.tasks.answering:Gqa", "the same of GQA's single answers"),
        "snli-ve": Entry("mmkd_cli.tasks.answering:SnliVe", "whether a photo entails a sentence, from a grid"),
        "nlvr": Entry("mmkd_cli.tasks.answering:Nlvr", "whether a statement about a drawn picture is true"),
        "nlvr2": Entry("mmkd_cli.tasks.answering:Nlvr2", "whether a statement about two photos is true"),
        "r2r": Entry("mmkd_cli.tasks.navigation:R2rTuning", "walks that follow instructions: imitation, own walks"),
        "r2r-speaker": Entry("mmkd_cli.tasks.speaking:SpeakerTuning", "instructions, written of walks"),
        "summarization": Entry(
            "mmkd_cli.tasks.summarization:Summarization", "a summary, or any text, written for each text"
        ),
        "image-classification": Entry(
            "mmkd_cli.tasks.image_classification:ImageClassification", "classes of pictures: linear probe, or all"
        ),
        "retrieval": Entry("mmkd_cli.tasks.retrieval:Retrieval", "pictures and captions found by each other (ITC)"),
        "text-classification": Entry(
            "mmkd_cli.tasks.text_classification:TextClassification", "classes or numbers of texts and pairs (GLUE)"
        ),
    },
    "tasks": {
        "caption": Entry("mmkd_cli.tasks.caption:Caption", "a caption of each picture"),
        "vqa": Entry("mmkd_cli.tasks.vqa:Vqa", "an answer to each question about a picture"),
        "nlvr": Entry("mmkd_cli.tasks.statements:Nlvr", "whether a statement about a drawn picture is true"),
        "nlvr2": Entry("mmkd_cli.tasks.statements:Nlvr2", "whether a statement about two photos is true"),
        "r2r": Entry("mmkd_cli.tasks.walks:R2r", "a walk for each instruction (Room-to-Room)"),
        "rxr": Entry("mmkd_cli.tasks.walks:Rxr", "the same, its viewpoints alone (Room-across-Room)"),
        "text": Entry("mmkd_cli.tasks.text:Text", "a summary, another style, a continuation of each text"),
    },
    "benches": {
        "retrieval": Entry("mmkd_cli.benches.retrieval:Retrieval", "image-text retrieval on any prepared pairs"),
        "coco-retrieval": Entry("mmkd_cli.benches.retrieval:CocoRetrieval", "COCO retrieval, Karpathy's splits"),
        "flickr30k-retrieval": Entry(
            "mmkd_cli.benches.retrieval:Flickr30kRetrieval", "Flickr30k retrieval, Karpathy's splits"
        ),
        "flickr8k-retrieval": Entry(
            "mmkd_cli.benches.retrieval:Flickr8kRetrieval", "Flickr8k retrieval, official splits"
        ),
        "alignment": Entry(
            "mmkd_cli.benches.alignment:Alignment", "cosine of positive and negative pairs, layer by layer"
        ),
        "winoground": Entry("mmkd_cli.benches.winoground:Winoground", "two pictures, two captions of the same words"),
        "aro": Entry("mmkd_cli.benches.aro:Aro", "attributes, relations and the order of words (ARO)"),
        "sugarcrepe": Entry("mmkd_cli.benches.sugarcrepe:SugarCrepe", "a caption against a fluent negative one"),
        "coco-caption": Entry(
            "mmkd_cli.benches.captions:Captions", "captions of COCO: BLEU, METEOR, ROUGE-L, CIDEr, SPICE"
        ),
        "nocaps": Entry("mmkd_cli.benches.captions:Nocaps", "captions of objects that COCO does not name, by domain"),
        "flickr8k-caption": Entry("mmkd_cli.benches.captions:Flickr8kCaptions", "captions of Flickr8k"),
        "vqav2": Entry("mmkd_cli.benches.vqa:Vqa", "VQA v2: the official accuracy, by answer and question type"),
        "okvqa": Entry("mmkd_cli.benches.vqa:OkVqa", "OK-VQA: the same accuracy; lemmatised, too, where spaCy is"),
        "gqa": Entry("mmkd_cli.benches.judged:Gqa", "GQA: exact answers of the balanced questions"),
        "snli-ve": Entry("mmkd_cli.benches.judged:SnliVe", "SNLI-VE: does a photo entail a sentence"),
        "nlvr2": Entry("mmkd_cli.benches.judged:Nlvr2", "NLVR2: statements about two photos, and consistency"),
        "nlvr": Entry("mmkd_cli.benches.judged:Nlvr", "NLVR: statements about drawn pictures, and consistency"),
        "daquar": Entry("mmkd_cli.benches.judged:Daquar", "DAQUAR: answers about rooms, exact and by WUPS"),
        "r2r": Entry("mmkd_cli.benches.navigation:R2r", "Room-to-Room: walks through houses, on their graphs"),
        "rxr": Entry("mmkd_cli.benches.navigation:Rxr", "Room-across-Room: the same measures, by language"),
        "xsum": Entry("mmkd_cli.benches.written_texts:Xsum", "summaries in one sentence: ROUGE"),
        "cnn-dailymail": Entry("mmkd_cli.benches.written_texts:CnnDailymail", "summaries of news: ROUGE"),
        "glue": Entry("mmkd_cli.benches.glue:Glue", "GLUE's tasks, and any texts with labels: what a classifier knows"),
        "yelp": Entry(
            "mmkd_cli.benches.written_texts:Yelp",
            "sentences in the other style, written by --task text (task.template): BLEU",
        ),
        "image-classification": Entry(
            "mmkd_cli.benches.image_classification:ImageClassification", "pictures with classes: what a classifier says"
        ),
        "zeroshot-classification": Entry(
            "mmkd_cli.benches.zeroshot_classification:ZeroShotClassification",
            "class folders, CIFAR, ImageNet: class names in templates",
        ),
    },
}
"""Kind -> name -> entry. Adding a name is adding a line."""


def table(kind: str) -> dict[str, Entry]:
    """All names of a kind: ours, then those that installed packages add."""
    if kind not in TABLES:
        raise UserError(f"kind {kind!r} is not known{nearest(kind, TABLES)}")
    added = {
        e.name: Entry(e.value, f"from {e.dist.name if e.dist else 'a package'}")
        for e in entry_points(group=f"mmkd.{kind}")
    }
    return {**added, **TABLES[kind]}


def load(kind: str, name: str) -> Any:
    """The class behind a name; a misspelt name is an error with the nearest one."""
    names = table(kind)
    if name not in names:
        what = "bench" if kind == "benches" else kind[:-1].replace("_", " ")
        raise UserError(f"{what} {name!r} is not known{nearest(name, names)}")
    module, _, attribute = names[name].target.partition(":")
    return getattr(import_module(module), attribute)
