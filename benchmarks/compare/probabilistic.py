"""Published segmentation networks, other than diffusion models, that model a distribution of masks.

Both extend a U-Net and are trained on the mask of one randomly drawn reader per image and iteration.

References:
    Probabilistic U-Net (Kohl et al., 2018), https://arxiv.org/abs/1806.05034
    Stochastic Segmentation Networks (Monteiro et al., 2020), https://arxiv.org/abs/2006.06015
"""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.distributions import Independent, LowRankMultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from benchmarks.compare.base import Baseline, class_probability, one_reader, pixel_cross_entropy

__all__ = ["ProbabilisticUNet", "StochasticSegmentation"]

_LATENT = 6
_RANK, _MONTE_CARLO = 10, 20
_MEAN_ALONE = 0.2  # of the budget
_LEAST_VARIANCE = 1e-5


class _LatentEncoder(nn.Module):
    """Map an image to an axis-aligned normal distribution over the latent vector."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            layers += [nn.AvgPool2d(2)] if i else []
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
            layers += [nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 2 * _LATENT)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Independent:
        mean, log_sigma = self.head(self.layers(x).mean((2, 3))).chunk(2, 1)
        return Independent(Normal(mean, log_sigma.exp()), 1)


class ProbabilisticUNet(Baseline):
    """U-Net whose last feature maps are combined with a latent vector z of six dimensions.

    Minimises the negative evidence lower bound, per pixel,

        E_{z ~ q(z | image, mask)} [ CE(mask, f(image, z)) ] + beta KL( q(z | image, mask) || p(z | image) ),

    with cross-entropy summed over pixels and one sample of z from q. At test time z is sampled from the prior p.

    Arguments:
        features: network from the image to `width` feature maps of the same size.
        width: number of feature maps.
        classes: foreground classes.
        encoder: channels of the prior and posterior networks, which halve the resolution between them.
        beta: weight of the KL divergence; 1 is the bound itself.
    """

    title = "Probabilistic U-Net"

    def __init__(
        self, features: nn.Module, width: int, classes: int, *, encoder: tuple[int, ...], beta: float = 1.0
    ) -> None:
        super().__init__()
        self.channels, self.beta = 1 if classes == 1 else classes + 1, beta
        self.features = features
        self.prior = _LatentEncoder(3, encoder)
        self.posterior = _LatentEncoder(3 + self.channels, encoder)
        self.combine = nn.Sequential(
            nn.Conv2d(width + _LATENT, 2 * width, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, self.channels, 1),
        )

    def _logits(self, features: Float[Tensor, "_ c h w"], z: Float[Tensor, "b z"]) -> Float[Tensor, "b k h w"]:
        sides = features.shape[-2:]
        features = features.expand(len(z), -1, -1, -1)
        return self.combine(torch.cat([features, z[:, :, None, None].expand(-1, -1, *sides)], 1))

    def _one_hot(self, labels: Integer[Tensor, "b h w"]) -> Float[Tensor, "b k h w"]:
        if self.channels == 1:
            return (labels[:, None] > 0).float()
        return F.one_hot(labels.long(), self.channels).movedim(-1, 1).float()

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        mask = one_reader(labels)
        prior, posterior = self.prior(image), self.posterior(torch.cat([image, self._one_hot(mask) - 0.5], 1))
        z: Tensor = posterior.rsample()
        fit = pixel_cross_entropy(self._logits(self.features(image), z), mask).mean()
        return fit + self.beta * kl_divergence(posterior, prior).mean() / mask[0].numel()

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            z = self.prior(image).sample((members,))[:, 0]
        return class_probability(self._logits(self.features(image), z))


class StochasticSegmentation(Baseline):
    """U-Net that predicts a normal distribution over the logits of all pixels, with covariance P P^T + D of low rank.

    Minimises, per pixel, -log 1/M sum_m p(mask | logits_m) over M = 20 samples of the logits; rank 10. At test time every mask is
    a sample of the logits. The first fifth of the budget trains the mean alone, by cross-entropy, and P starts at zero:
    with a random P from the start, the samples marked far more than the readers did, on every image.

    Arguments:
        features: network from the image to `width` feature maps of the same size.
        width: number of feature maps.
        classes: foreground classes.
    """

    title = "Stochastic Segmentation Network"

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.channels = 1 if classes == 1 else classes + 1
        self.features = features
        self.mean = nn.Conv2d(width, self.channels, 1)
        self.log_variance = nn.Conv2d(width, self.channels, 1)
        self.factor = nn.Conv2d(width, self.channels * _RANK, 1)
        for parameter in self.factor.parameters():
            nn.init.zeros_(parameter)

    def _draw(self, image: Tensor, count: int) -> Float[Tensor, "m b k h w"]:
        features = self.features(image)
        mean = self.mean(features)
        # Double precision: with large factors and small variances the capacitance matrix is singular in single precision.
        factor = self.factor(features).double().unflatten(1, (_RANK, -1)).flatten(2).transpose(1, 2)
        variance = self.log_variance(features).double().exp().flatten(1) + _LEAST_VARIANCE
        logits = LowRankMultivariateNormal(mean.double().flatten(1), factor, variance, validate_args=False)
        return logits.rsample((count,)).float().unflatten(2, mean.shape[1:])

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        mask = one_reader(labels)
        if share < _MEAN_ALONE:
            return pixel_cross_entropy(self.mean(self.features(image)), mask).mean()
        logits = self._draw(image, _MONTE_CARLO)
        entropy = pixel_cross_entropy(logits.flatten(0, 1), mask.repeat(_MONTE_CARLO, 1, 1))
        likelihood = -entropy.flatten(1).sum(1).unflatten(0, (_MONTE_CARLO, -1))
        return -(likelihood.logsumexp(0) - math.log(_MONTE_CARLO)).mean() / mask[0].numel()

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return class_probability(self._draw(image, members)[:, 0])
