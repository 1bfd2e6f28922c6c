"""What Winoground, ARO and SugarCrepe have in common: items of a few pairs, each scored, judged and shown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches import pair_page
from mmkd_cli.benches.denoising import (
    DenoisingScorer,
    Drawn,
    Draws,
    Form,
    gaps,
    means,
    resampled_means,
    standard_error,
    timesteps,
)
from mmkd_cli.benches.embedding import probe
from mmkd_cli.benches.outcomes import Outcome, Outcomes, intervals, values, verdicts
from mmkd_cli.benches.pair_items import PairItems
from mmkd_cli.benches.pair_scores import Scores as PairScores
from mmkd_cli.benches.pair_scores import embeddable, model_scores
from mmkd_cli.core import console
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.reports.blocks import Block, Paragraph
from mmkd_cli.reports.quoted import quoted_rows

_DRAWN_AGAIN = 200
"""Resamples of the draws: only the spread of a few metrics is read off them."""
_TAILS = (0.025, 0.975)


class PairBenchConfig(Config):
    """Keys of the compositional benches."""

    name: str = key("", "the bench")
    annotations: str | None = key(None, "the bench's own files: a folder, or the file", source="[U]", identity=False)
    images: str | None = key(None, "its pictures, where they lie elsewhere", source="[U]", identity=False)
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(12, "items of each sort on the page: wrong and right", source="[U]", identity=False, ge=0)
    scorer: Literal["cosine", "diffusion"] = key(
        "cosine", "cosine: of a model's embeddings; diffusion: how well --model diffusers:FOLDER denoises the picture "
        "under the caption", source="[P] the benches'",
    )  # fmt: skip
    form: Form = key(
        "diffusion-itm", "of scorer=diffusion: diffusion-itm, length of the error less that under the empty caption; "
        "diffusion-classifier, its mean square", source="[U] pictures' errors are comparable only with the former",
    )  # fmt: skip
    draws: int = key(
        10, "time steps and noises of scorer=diffusion, shared by all pairs",
        source="[C] DiffusionITM: 10; Diffusion Classifier's Winoground takes 200, the paper 1000", ge=1, le=1000,
    )  # fmt: skip
    draw_seed: int = key(42, "of the noises", source="[C] Diffusion Classifier", ge=0)


class PairBench:
    """A bench is this with its files, its rules and its sizes (`core.contracts.Bench`)."""

    Config: ClassVar[type] = PairBenchConfig
    default_split: ClassVar[str] = "test"
    needs_data: ClassVar[bool] = False
    official: ClassVar[Mapping[str, int]] = {}
    """Part -> items that the published set has, where that is known."""
    sources: ClassVar[frozenset[str]] = frozenset()
    """Sources of prepared data that show pictures of this bench."""
    get: ClassVar[str] = ""
    """What to put where, for an error."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.left_out: dict[str, str] = {}
        """Part -> why it is not scored."""

    # ---------------------------------------------------------------------------------------- a bench says these
    def files(self) -> dict[str, str]:
        raise NotImplementedError

    def read(self, *, with_pictures: bool) -> PairItems:
        """Items of the files that were named."""
        raise NotImplementedError

    def ready(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.floating]]:
        """Scores of ready embeddings, by part."""
        raise NotImplementedError

    def unnamed(self, scores: PairScores) -> PairItems:
        """Items of ready embeddings without annotations."""
        raise NotImplementedError

    def judge(self, items: PairItems, scores: PairScores) -> dict[str, Outcome]:
        """By the bench's own rules. Items are counted through all parts, in their order."""
        raise NotImplementedError

    def by(self, items: PairItems, outcomes: Outcomes) -> dict[str, dict[str, float]]:
        raise NotImplementedError

    def page(self, items: PairItems, outcomes: Outcomes) -> list[Block]:
        """What stands on the page before the items."""
        return []

    def rivals(self, pairs: int) -> tuple[tuple[int, int], ...]:
        """Of an item's pairs those that must score higher, and than which: the first above the others."""
        return tuple((0, other) for other in range(1, pairs))

    # ---------------------------------------------------------------------------------------- and has these
    @property
    def denoises(self) -> bool:
        """Whether a diffusion model is asked for."""
        return bool(self.config.scorer == "diffusion")

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        items = self._items(with_pictures=True)
        if self.denoises:
            return self._estimate_denoising(given, items)
        own = embeddable(given, items)
        return probe(own, np.arange(len(own.data.images)), np.arange(len(items.texts)))

    def run(self, given: BenchInput) -> Scores:
        items, scores, drawn = self._scored(given)
        outcomes = self.judge(items, scores)
        found = Scores(
            metrics=values(outcomes),
            counts={"items": sum(map(len, items.parts.values())), "skipped": 0,
                    **{name: len(part) for name, part in items.parts.items() if name}},
            by=self.by(items, outcomes),
        )  # fmt: skip
        if drawn is not None:
            found.counts["draws"] = next(iter(drawn.values())).shape[2]
            found.by |= self._by_draws(items, drawn)
        if given.metrics_only:
            return found
        found.intervals = intervals(outcomes, self.config.bootstrap, self.config.seed)
        found.items = self._lines(items, scores, drawn, outcomes)
        left_out: list[Block] = [Paragraph(f"Left out: {name}: {why}.") for name, why in self.left_out.items()]
        shown = pair_page.blocks(items, scores, outcomes, self.config.shown, self.config.seed)
        found.page = [*left_out, *self.page(items, outcomes), *shown]
        found.official = self._is_official(items)
        if found.official:
            found.quoted = quoted_rows(self.config.name)
        return found

    def _is_official(self, items: PairItems) -> bool:
        """Whether these are the published items, by their number; where not, a warning says so."""
        for name, part in items.parts.items():
            if self.official.get(name, len(part)) != len(part):
                console.warn(
                    f"{name or self.config.name} has {self.official[name]:,} items, scored are {len(part):,}: not what "
                    "papers report"
                )
                return False
        return True

    def _items(self, *, with_pictures: bool) -> PairItems:
        if self.config.annotations is None:
            raise UserError(f"{self.config.name} needs its own files: {self.get}")
        items = self.read(with_pictures=with_pictures)
        for name, why in self.left_out.items():
            console.warn(f"{name} is left out: {why}")
        return items

    def _scored(self, given: BenchInput) -> tuple[PairItems, PairScores, Drawn | None]:
        """Items, the scores of their pairs, and of a diffusion model the scores by each draw."""
        if given.embeddings is not None:
            if self.denoises:
                raise UserError("--embeddings takes the place of --scorer diffusion: leave one of them out")
            return *self._ready(given.embeddings), None
        if self.denoises:
            items = self._items(with_pictures=True)
            drawn = self._denoising(given, self.config.draws).scores(items)
            return items, means(drawn), drawn
        if given.model is None:
            raise UserError("there is nothing to score: give --model, or --embeddings")
        items = self._items(with_pictures=True)
        return items, model_scores(given, items), None

    def _ready(self, arrays: Mapping[str, NDArray[np.generic]]) -> tuple[PairItems, PairScores]:
        scores = self.ready(arrays)
        if self.config.annotations is None:
            return self.unnamed(scores), scores
        items = self._items(with_pictures=self.config.images is not None)
        for name in {**items.parts, **scores}:
            if name not in scores:
                console.warn(f"{name} is left out: the embeddings have no {name}.image and {name}.text")
            elif name in items.parts and scores[name].shape != items.parts[name].pairs.shape[:2]:
                n, k = items.parts[name].pairs.shape[:2]
                raise UserError(
                    f"embeddings hold {list(scores[name].shape)} items and pairs for {name or self.config.name}, the "
                    f"annotations {[n, k]}: give one row an item, in the file's order"
                )
        kept = {name: part for name, part in items.parts.items() if name in scores}
        if not kept:
            raise UserError(f"the embeddings have none of {', '.join(items.parts)}, which the annotations hold")
        return PairItems(kept, items.texts, items.pictures), scores

    def _lines(
        self, items: PairItems, scores: PairScores, drawn: Drawn | None, outcomes: Outcomes
    ) -> Iterator[dict[str, Any]]:
        """A line an item: its id, picture, scores in the order of its pairs, and what is right of it.

        Of a diffusion model also the scores' standard errors, and the gaps that decide, [value, standard error] each.
        """
        said = iter(verdicts(outcomes, sum(map(len, items.parts.values()))))
        for name, part in items.parts.items():
            if drawn is not None:
                errors = standard_error(drawn[name])
                decide = np.stack(gaps(drawn[name], self.rivals(part.pairs.shape[1])), axis=2)
            for number, verdict in zip(range(len(part)), said, strict=False):
                of_draws = {} if drawn is None else {"errors": errors[number].tolist(), "gaps": decide[number].tolist()}
                yield {
                    "id": f"{name}/{part.ids[number]}" if name else part.ids[number],
                    "image": part.images[number],
                    "scores": scores[name][number].tolist(),
                    **of_draws,
                    **verdict,
                    **(part.notes[number] if part.notes else {}),
                }

    # ---------------------------------------------------------------------------------------- by a diffusion model
    def _denoising(self, given: BenchInput, draws: int) -> DenoisingScorer:
        config = self.config
        if given.denoiser is None:
            raise UserError("--scorer diffusion asks a diffusion model: give --model diffusers:FOLDER")
        drawn = Draws.of(config.form, draws, given.denoiser, config.draw_seed)
        return DenoisingScorer(
            given.denoiser, config.form, drawn, seed=config.draw_seed, batch_size=given.batch_size
        )  # fmt: skip

    def _estimate_denoising(self, given: BenchInput, items: PairItems) -> tuple[int, float]:
        """Pairs, and the seconds of all from those of a few items by one draw."""
        assert given.denoiser is not None
        scorer = self._denoising(given, 1)
        pairs = next(iter(items.parts.values())).pairs
        some = pairs[: max(given.batch_size // pairs.shape[1], 1)]
        began = time.perf_counter()
        scorer.block(items, some)
        every = sum(part.pairs.shape[0] * part.pairs.shape[1] for part in items.parts.values())
        seconds = (time.perf_counter() - began) / (some.shape[0] * some.shape[1] * len(scorer.draws.timesteps))
        return every, seconds * every * len(timesteps(self.config.form, self.config.draws, given.denoiser.timesteps))

    def _by_draws(self, items: PairItems, drawn: Drawn) -> dict[str, dict[str, float]]:
        """What other draws might have said: the metrics' 95 % interval over draws, and items decided by chance."""
        again = [values(self.judge(items, scores)) for scores in resampled_means(drawn, _DRAWN_AGAIN, self.config.seed)]
        low, high = ({name: float(np.quantile([one[name] for one in again], q)) for name in again[0]} for q in _TAILS)
        near = []
        for name, part in items.parts.items():
            value, error = gaps(drawn[name], self.rivals(part.pairs.shape[1]))
            near.append((np.abs(value) < 1.96 * error).any(axis=1))
        undecided = {"undecided_items": 100 * float(np.concatenate(near).mean())}
        return {"draws, low": low, "draws, high": high, "draws": undecided}
