"""Dynamic conditional encoding against V1's eq. 3, written out in numpy."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from medsegdiff.nn.fusion import DynamicEncoding

CHANNELS = 4
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def fusion(generator: torch.Generator) -> DynamicEncoding:
    """A fusion whose two norms have scales and shifts of their own."""
    module = DynamicEncoding(CHANNELS).requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(CHANNELS, generator=generator))
    return module


def layer_norm(x: np.ndarray, scale: torch.Tensor, shift: torch.Tensor) -> np.ndarray:
    """Over the channels of each place."""
    centred = x - x.mean(1, keepdims=True)
    normalised = centred / np.sqrt(centred.var(1, keepdims=True) + 1e-5)
    return normalised * scale.numpy()[:, None, None] + shift.numpy()[:, None, None]


def test_the_product_of_normalised_maps_reweights_the_image(fusion, generator):
    image, mask = 3 + 2 * torch.randn(2, 5, CHANNELS, 3, 2, generator=generator)
    affinity = layer_norm(image.numpy(), fusion.norm_image.weight, fusion.norm_image.bias) * layer_norm(
        mask.numpy(), fusion.norm_mask.weight, fusion.norm_mask.bias
    )
    assert_close(fusion(image, mask), torch.from_numpy(affinity * image.numpy()), **FLOAT32)
    told = fusion.explain(image, mask, "stage 1")
    assert_close(told.affinity, torch.from_numpy(affinity.mean(1)), **FLOAT32)
    assert told.stage == "stage 1"


def test_the_mask_counts_by_its_shape_over_channels_not_by_its_size(fusion, generator):
    image, mask = torch.randn(2, 1, CHANNELS, 3, 2, generator=generator)
    assert_close(fusion(image, mask), fusion(image, 1000 * mask + 7), rtol=1e-3, atol=1e-3)  # the norm's epsilon
    assert not torch.allclose(fusion(image, mask), fusion(2 * image, mask), rtol=0.1)  # the image enters as it is


def test_one_image_serves_every_sample(fusion, generator):
    image = torch.randn(1, CHANNELS, 3, 2, generator=generator)
    masks = torch.randn(5, CHANNELS, 3, 2, generator=generator)
    assert torch.equal(fusion(image, masks), fusion(image.repeat(5, 1, 1, 1), masks))
