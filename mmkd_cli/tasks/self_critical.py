"""Self-critical training of captions: CIDEr-D of what the model samples, against what it writes greedily (CLIP-ViL).

REINFORCE with a baseline (Rennie et al. 2017, arXiv 1612.00563). Rewards are scored on numbers of words with the end's,
document frequencies are those of the training references (papers: CLIP-ViL Direct, caption). B pictures, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.core.contracts import Batch, Feed, Outputs, Trainable
from mmkd_cli.data.signals import GRID, GRID_MASK
from mmkd_cli.losses.infilling import written_per_row
from mmkd_cli.metrics.cider import CiderD
from mmkd_cli.students.sight import groups_of, seen
from mmkd_cli.training.validation import evaluating


class SelfCritical(Trainable):
    """`core.contracts.Trainable` of a grid captioner. references: of each picture of `feeds` and of `validation`."""

    def __init__(
        self, model: Any, config: Any, feeds: Sequence[Feed], validation: Sequence[Feed],
        references: Sequence[Sequence[str]], held_out: Sequence[Sequence[str]],
    ) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        self._rewards = CiderD(references)
        self._held_out = CiderD(held_out) if held_out else self._rewards

    def prepare(self, batch: Batch) -> Batch:
        """In training sampled, sampled_mask int64 [B, S, T] and advantage float32 [B, S]; always reward float32 [B]:
        CIDEr-D of the greedy captions, of samples where the mean is the baseline."""
        item, training = batch["item"].cpu().numpy(), self.model.training
        scorer = self._rewards if training else self._held_out
        reward = torch.zeros(0)
        if not training or self.config.baseline == "greedy":
            with evaluating(self.model) if training else torch.no_grad():
                written = self._write(batch, do_sample=False, num_beams=1)
            reward = scored(scorer, written, item)
        if not training:
            return {**batch, "reward": reward.to(batch["item"].device)}
        many = self.config.samples
        sampled = self._write(batch, do_sample=True, num_beams=1, top_k=0, num_return_sequences=many)
        rewards = scored(scorer, sampled, item.repeat(many)).view(-1, many)
        if self.config.baseline == "greedy":
            baseline = reward[:, None]
        else:
            baseline = (rewards.sum(1, keepdim=True) - rewards) / (many - 1)
            reward = rewards.mean(1)
        device = batch["item"].device
        return {
            **batch, "sampled": sampled.view(len(item), many, -1), "reward": reward.to(device),
            "sampled_mask": up_to_end(sampled).view(len(item), many, -1), "advantage": (rewards - baseline).to(device),
        }  # fmt: skip

    def _write(self, batch: Batch, **options: Any) -> Tensor:
        """int64 [B * samples, T], without the start."""
        cells = seen(self.model, batch)
        written: Tensor = self.model.generate_ids(
            cells[GRID], cells[GRID_MASK], max_new_tokens=self.config.longest, **options
        )
        return written[:, 1:]

    def forward(self, batch: Batch) -> Outputs:
        """self_critical: of a row's samples - sum of advantage times log p of each word; in validation - reward.
        cider: 100 times the mean reward, as CIDEr is written."""
        report = {"cider": 100 * batch["reward"]}
        if "sampled" not in batch:
            return Outputs({"self_critical": -batch["reward"]}, report=report)
        batch, many = seen(self.model, batch), batch["sampled"].shape[1]
        words, mask = batch["sampled"].flatten(0, 1), batch["sampled_mask"].flatten(0, 1)
        said = self.model.write_from(self.model.memory(batch[GRID], batch[GRID_MASK]), batch[GRID_MASK], words, mask)
        loss = written_per_row(said, words, mask) * batch["advantage"].flatten()
        return Outputs({"self_critical": loss.view(-1, many).sum(1)}, report=report)

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """The sampled words."""
        return {"self_critical": int(batch["sampled_mask"].sum())} if "sampled" in batch else {}

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The model's, and its tower's."""
        return groups_of(self.model, peak_lr, weight_decay)

    def save(self, folder: Path) -> None:
        """The student writes its own files."""
        self.model.save(folder)


def up_to_end(ids: Tensor) -> Tensor:
    """int64 [N, T]: 1 for words and for the first 0, which ends them."""
    return ((ids == 0).cumsum(1) - (ids == 0).long() == 0).long()


def scored(scorer: CiderD, ids: Tensor, item: np.ndarray) -> Tensor:
    """float32 [N]: CIDEr-D, 0 to 10, of texts [N, T] against the references of their items [N]."""
    texts = [as_words(row, up) for row, up in zip(ids.tolist(), up_to_end(ids).sum(1).tolist(), strict=True)]
    return torch.from_numpy(scorer.score(texts, item)).float()


def as_words(ids: Sequence[int], length: int) -> str:
    """Numbers of a text's words and of its end as the scorer reads them."""
    return " ".join(map(str, ids[:length]))
