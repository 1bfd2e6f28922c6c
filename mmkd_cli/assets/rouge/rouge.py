"""ROUGE as an `evaluate` module that needs no hub: `evaluate.load("PATH/TO/mmkd_cli/assets/rouge")`."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from mmkd_cli.metrics.rouge import NAMES, rouge


class Rouge(evaluate.Metric):
    """compute(predictions=[str], references=[str], use_stemmer=True) -> {rouge1, rouge2, rougeL, rougeLsum}: 0 to 1.

    The mean F1 over the pairs, or with use_aggregator=False the list of it. rougeLsum takes lines for sentences.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="ROUGE-1, -2, -L and -Lsum, F1, as PyPI's rouge-score counts them",
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
            inputs_description=self.__doc__ or "",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        use_stemmer: bool = True,
        use_aggregator: bool = True,
    ) -> dict[str, float] | dict[str, list[float]]:
        pairs = [rouge(*pair, stemmed=use_stemmer) for pair in zip(predictions, references, strict=True)]
        scores = {name: [pair[name] for pair in pairs] for name in NAMES}
        if not use_aggregator:
            return scores
        return {name: sum(values) / len(values) for name, values in scores.items()}
