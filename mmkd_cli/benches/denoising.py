"""Scores of pictures with captions by how well a diffusion model denoises the one under the other, in two forms.

Diffusion Classifier (Li et al. 2023, arXiv 2303.16203): short side and centre crop, the VAE's mean, the mean squared
error, time steps spread evenly over all. DiffusionITM (Krojer et al. 2023, arXiv 2305.16397): squashed to a square, a
sample of the VAE, the error's length (no square), steps from 10 to 990, and the error under the empty caption
subtracted; that changes no choice among captions of one picture, and makes pictures comparable. All pairs share the
draws of time step and noise: scores of two pairs differ by the pairs alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.benches.own_tables import Pictures
from mmkd_cli.benches.pair_items import PairItems, Pairs
from mmkd_cli.core import console
from mmkd_cli.core.contracts import LatentDenoiser
from mmkd_cli.data.pictures import Transform

Form = Literal["diffusion-itm", "diffusion-classifier"]

Drawn = Mapping[str, NDArray[np.float32]]
"""Part -> score of each pair by each draw [n, k, draws]; the mean over draws is the score."""

MARGIN = 10
"""Time steps that DiffusionITM leaves out at both ends."""


@dataclass(frozen=True)
class Draws:
    """timesteps int64 [d], noise [d, C, h, w]: draw i noises every latent by noise[i] at timesteps[i]."""

    timesteps: Tensor
    noise: Tensor

    @classmethod
    def of(cls, form: Form, number: int, model: LatentDenoiser, seed: int) -> Draws:
        """DiffusionITM's grid may have fewer steps than were asked for: 245 of 250."""
        steps = timesteps(form, number, model.timesteps)
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.tensor(steps), torch.randn((len(steps), *model.latent_shape), generator=generator))


def timesteps(form: Form, number: int, steps: int) -> list[int]:
    """Of `steps` time steps those that a form looks at."""
    if form == "diffusion-classifier":
        return [int((2 * draw + 1) * steps / (2 * number)) for draw in range(number)]
    return list(range(MARGIN, steps - MARGIN, max(steps // number, 1)))


class DenoisingScorer:
    """batch_size: latents of one forward of the UNet."""

    def __init__(self, model: LatentDenoiser, form: Form, draws: Draws, *, seed: int, batch_size: int) -> None:
        self.model, self.form, self.draws, self.seed, self.batch_size = model, form, draws, seed, batch_size
        size = model.picture_size
        resize: Literal["shortest", "squash"] = "shortest" if form == "diffusion-classifier" else "squash"
        self.transform = Transform((size, size), resize, size, "bicubic", (0.5,) * 3, (0.5,) * 3)
        self._empty: dict[int, NDArray[np.float32]] = {}

    def scores(self, items: PairItems) -> Drawn:
        """Of all items; the distinct pictures and captions of a few items are encoded at a time."""
        assert items.pictures is not None
        total = sum(part.pairs.shape[0] * part.pairs.shape[1] for part in items.parts.values())
        out: dict[str, NDArray[np.float32]] = {}
        with console.progress("denoising", total, "pairs") as meter:
            for name, part in items.parts.items():
                n, k = part.pairs.shape[:2]
                at_once = max(self.batch_size // k, 1)
                blocks = []
                for first in range(0, n, at_once):
                    pairs = part.pairs[first : first + at_once]
                    blocks.append(self.block(items, pairs))
                    meter.advance(pairs.shape[0] * k)
                out[name] = np.concatenate(blocks)
        return out

    def block(self, items: PairItems, pairs: Pairs) -> NDArray[np.float32]:
        """pairs [b, k, 2] -> [b, k, draws]. Each distinct pair is denoised once: equal pairs score equal."""
        assert items.pictures is not None
        distinct, place = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        pictures, picture = np.unique(distinct[:, 0], return_inverse=True)
        texts, text = np.unique(distinct[:, 1], return_inverse=True)
        latents = self._latents(items.pictures, pictures)
        states = self.model.text_states([items.texts[row] for row in texts.tolist()])
        errors = self._errors(latents, states, picture, text)
        if self.form == "diffusion-itm":
            errors = errors - self._under_nothing(latents, pictures)[picture]
        scores: NDArray[np.float32] = -errors[place.ravel()]
        return scores.reshape(*pairs.shape[:2], -1)

    def _latents(self, pictures: Pictures, rows: NDArray[np.int64]) -> Tensor:
        """[len(rows), C, h, w]. A sample of the VAE depends on the picture and the seed, not on what is beside it."""
        pixels = torch.stack([self.transform(pictures.picture(row)) for row in rows.tolist()])
        noise = None
        if self.form == "diffusion-itm":
            noise = torch.stack([self._noise_of(pictures.ids[row]) for row in rows.tolist()])
        return self.model.latents(self.transform.normalize(pixels, torch.float32), noise)

    def _noise_of(self, picture: str) -> Tensor:
        digest = hashlib.sha256(f"{self.seed} {picture}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randn(self.model.latent_shape, generator=generator)

    def _under_nothing(self, latents: Tensor, pictures: NDArray[np.int64]) -> NDArray[np.float32]:
        """Errors [len(pictures), draws] under the empty caption, each picture's computed once."""
        new = [place for place, picture in enumerate(pictures.tolist()) if picture not in self._empty]
        if new:
            states = self.model.text_states([""])
            places = np.arange(len(new))
            errors = self._errors(latents[new], states, places, np.zeros_like(places))
            self._empty |= {int(pictures[place]): row for place, row in zip(new, errors, strict=True)}
        return np.stack([self._empty[picture] for picture in pictures.tolist()])

    def _errors(
        self, latents: Tensor, states: Tensor, picture: NDArray[np.int64], text: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """latents [p, C, h, w], states [t, L, D]; the pairs' picture and text [q] -> errors [q, draws]."""
        of_picture, of_text = (torch.from_numpy(places).to(latents.device) for places in (picture, text))
        measure = MEASURES[self.form]
        out = torch.empty(len(picture), len(self.draws.timesteps))
        for draw, (step, noise) in enumerate(zip(self.draws.timesteps, self.draws.noise, strict=True)):
            noise = noise.to(latents.device)
            for first in range(0, len(picture), self.batch_size):
                rows = slice(first, first + self.batch_size)
                clean = latents[of_picture[rows]]
                steps = step.to(latents.device).expand(len(clean))
                noisy = self.model.noised(clean, noise.expand_as(clean), steps)
                found = self.model.noise_in(noisy, steps, states[of_text[rows]])
                out[rows, draw] = measure(found - noise).cpu()
        return out.numpy()


def mean_squared(error: Tensor) -> Tensor:
    """[B, C, h, w] -> [B]: Diffusion Classifier's."""
    return error.square().flatten(1).mean(dim=1)


def length(error: Tensor) -> Tensor:
    """[B, C, h, w] -> [B]: the Euclidean norm over all numbers of a latent, DiffusionITM's."""
    distance: Tensor = torch.linalg.vector_norm(error.flatten(1), dim=1)
    return distance


MEASURES: Mapping[str, Callable[[Tensor], Tensor]] = {"diffusion-classifier": mean_squared, "diffusion-itm": length}


# ------------------------------------------------------------------------------------------------ error bars
def means(drawn: Drawn) -> dict[str, NDArray[np.float64]]:
    """The scores [n, k]."""
    return {name: scores.mean(axis=2, dtype=np.float64) for name, scores in drawn.items()}


def standard_error(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the mean over the last axis; 0 with one draw, which says nothing of its error."""
    draws = samples.shape[-1]
    if draws == 1:
        return np.zeros(samples.shape[:-1])
    deviation: NDArray[np.float64] = samples.std(axis=-1, ddof=1, dtype=np.float64) / draws**0.5
    return deviation


def gaps(
    scores: NDArray[np.float32], rivals: tuple[tuple[int, int], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """scores [n, k, draws], rivals: pairs that must score higher, and than which -> gaps and standard errors [n, r].

    Draws are shared: the error of a difference is that of the differences, draw by draw, and far below the scores' own.
    """
    better, worse = np.array(rivals).T
    difference = scores[:, better] - scores[:, worse]
    return difference.mean(axis=2, dtype=np.float64), standard_error(difference)


def resampled_means(drawn: Drawn, resamples: int, seed: int) -> list[dict[str, NDArray[np.float64]]]:
    """The scores with the draws drawn anew, with replacement, the same for all pairs."""
    draws = next(iter(drawn.values())).shape[2]
    generator = np.random.default_rng(seed)
    out = []
    for _ in range(resamples):
        weights = np.bincount(generator.integers(0, draws, draws), minlength=draws) / draws
        out.append({name: scores @ weights for name, scores in drawn.items()})
    return out
