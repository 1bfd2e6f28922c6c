"""Whether a score is zero-shot: judged from manifests, never from names that a user chose.

Yes where the model saw nothing of the set and, on a bench of matching, was trained without a contrastive loss, which is
that bench's own objective (the MM-D2V2 notes do not call retrieval zero-shot with one). Where no manifest tells, the
value is None.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mmkd_cli.core.artifacts import Artifact

NAMED_SETS = (
    "coco", "flickr30k", "flickr8k", "scenes", "vqav2", "okvqa", "nocaps", "xsum", "cnn-dailymail", "yelp",
)  # fmt: skip
"""Sources that stand for one set, whatever files they are read from."""
CONTRASTIVE = ("itcl_weight",)
"""Keys of methods that weigh a contrastive loss, beside those whose name says so."""
RELATED = frozenset({"flickr8k", "flickr30k"})
"""Flickr30k extends Flickr8k: the photos of one are among the other's."""


def zero_shot(
    runs: Sequence[Artifact], trained_on: Sequence[Artifact | None], data: Artifact | None,
    shows: Collection[str] | None = None, *, matching: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """{"value": bool or None, "reason"}. runs: the model's and those that it began from; trained_on: their data, None
    for what is no longer there (`lineage.trained_on`).

    shows: of a bench's own, published files the sources of prepared data whose pictures they show. matching: whether
    the bench asks for what a contrastive loss trains, the matching of pictures and texts (classification does not).
    """
    if not runs:
        return {"value": None, "reason": "no manifest says what the model was trained on"}
    if data is None and shows is None:
        return {"value": None, "reason": "no manifest says what the scored items are"}
    for seen in trained_on:
        why = "" if seen is None else _same_set(seen, data) if data else _shown_by(seen, shows or ())
        if seen is not None and why:
            return {"value": False, "reason": f"trained on {seen.label} (its training split), {why}"}
    terms = [term for run in runs for term in contrastive_terms(run.plan["config"])] if matching else []
    if terms:
        return {"value": False, "reason": f"not trained on this set, but with a contrastive loss ({', '.join(terms)})"}
    if None in trained_on or not trained_on:
        return {"value": None, "reason": "some of the data that the model was trained on is no longer in the root"}
    names = ", ".join(seen.label for seen in trained_on if seen is not None)
    without = ", with no contrastive loss" if matching else ""
    return {"value": True, "reason": f"trained on {names} only{without}"}


def contrastive_terms(config: Mapping[str, Any]) -> list[str]:
    """Keys of the method that weigh a contrastive loss above 0, or that choose one; a task that has no other."""
    if (task := config.get("task") or {}).get("name") == "retrieval":
        return [f"task.name={task['name']}"]
    method = config.get("method") or {}
    weighed = {name: value for name, value in method.items() if "contrastive" in name or name in CONTRASTIVE}
    found = [f"method.{name}={value}" for name, value in weighed.items()
             if isinstance(value, (int, float)) and value > 0]  # fmt: skip
    chosen = method.get("target_loss")
    return [*found, *([f"method.target_loss={chosen}"] if chosen == "contrastive-target" else [])]


def _shown_by(seen: Artifact, shows: Collection[str]) -> str:
    """Why a bench's own files may show pictures of a data artifact, or an empty string."""
    source = seen.content.get("source")
    return f"made from {source}, pictures of which the bench shows" if source in shows else ""


def _same_set(seen: Artifact, data: Artifact) -> str:
    """Why two data artifacts hold the same set, or an empty string."""
    if seen.fingerprint == data.fingerprint:
        return "the very data that is scored"
    if seen.plan["identity"].get("files") == data.plan["identity"].get("files"):
        return "which was prepared from the same files"
    sets = {seen.content.get("source"), data.content.get("source")}
    if len(sets) == 1 and sets <= set(NAMED_SETS):
        return f"which is the same set, {sets.pop()}"
    return "and Flickr30k extends Flickr8k" if sets == RELATED else ""
