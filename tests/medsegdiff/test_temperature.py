"""Temperature: fits with known answers."""

import pytest
import torch

from medsegdiff.config import DiffusionConfig
from medsegdiff.schedule import Diffusion
from medsegdiff.temperature import TemperatureFitter

DIFFUSION = DiffusionConfig(parametrization="x_0", scale=0.2)


@pytest.mark.parametrize(("classes", "factor"), [(1, 2.0), (1, 0.5), (3, 1.5)])
def test_the_temperature_of_logits_that_were_multiplied_is_their_factor(classes, factor):
    generator, diffusion = torch.Generator().manual_seed(1), Diffusion(DIFFUSION, classes)
    fitter = TemperatureFitter(diffusion)
    for _ in range(4):
        logits = 2 * torch.randn(1, diffusion.channels, 64, 64, generator=generator)
        truth = diffusion.probability_of_logits(logits)[0].flatten(1).T.multinomial(1, generator=generator)
        fitter.add(diffusion.x_0_of_logits(factor * logits), truth.reshape(1, 64, 64).byte().numpy())
    fit = fitter.fit()
    assert fit.temperature == pytest.approx(factor, rel=0.1)  # the grid has steps of 9 %
    assert fit.nll[1] < fit.nll[0]
    assert fit.ece[1] < fit.ece[0] / 4
    assert fit.images == 4


def test_no_images_give_no_temperature():
    with pytest.raises(ValueError, match="there are no images"):
        TemperatureFitter(Diffusion(DIFFUSION)).fit()
