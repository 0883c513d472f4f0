"""The shared encoder against the published network, and the folding of batch normalisations against torch's own."""

import torch
from torch.nn import functional as F

from medsegdiff.domain import load_encoder
from medsegdiff.nn.efficientnet import EfficientNetLite0, fold_published


def test_the_shipped_encoder_gives_the_published_networks_features() -> None:
    # By timm 1.0.31's tf_efficientnet_lite0 with the published weights, in float32: the mean of the first four channels
    # of each map, and two values of its second row.
    means = (
        (0.7111, -1.3121, 2.2017, -3.5024),
        (4.5776, 14.5639, -2.6331, 3.3101),
        (-2.8336, -4.8678, -1.9062, -15.463),
        (2.4876, 3.2982, 6.7166, 2.9818),
        (0.7628, -4.0637, 2.5532, -6.8202),
    )
    cells = ((-6.5982, -12.8072), (4.8232, 17.8424), (-2.7917, -26.4385), (3.2253, 5.6454), (0.9972, -7.859))
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = 127.5 + 127.5 * torch.stack([torch.sin(x / 5), torch.cos(y / 7), torch.sin((x + y) / 9)])
    with torch.inference_mode():
        maps = load_encoder()(image[None])
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    for found, mean, cell in zip(maps, means, cells, strict=True):
        # float16 weights: values up to 43 move by at most 0.13, means by 0.025
        torch.testing.assert_close(found.mean((2, 3))[0, :4], torch.tensor(mean), atol=0.04, rtol=0)
        torch.testing.assert_close(found[0, [0, 3], 1, 0], torch.tensor(cell), atol=0.2, rtol=0)


def test_a_folded_batch_normalisation_is_the_batch_normalisation() -> None:
    torch.manual_seed(0)
    net, published = EfficientNetLite0(), {}

    def place(conv: str, bn: str, weight: torch.Tensor) -> None:
        published[f"{conv}.weight"] = torch.randn_like(weight)
        for name in ("weight", "bias", "running_mean", "running_var"):
            published[f"{bn}.{name}"] = torch.rand(len(weight)) + 0.1

    place("_conv_stem", "_bn0", net.stem.weight)
    blocks = [block for stage in net.stages for block in stage]
    for i, block in enumerate(blocks):
        if i:
            place(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", block.expand.weight)
        place(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", block.depthwise.weight)
        place(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", block.project.weight)
    net.load_state_dict(fold_published(published))  # strict: every name, and no other

    x = torch.randn(1, 16, 9, 9)
    block = blocks[1]
    for conv, theirs, bn in ((block.expand, "_expand_conv", "_bn0"), (block.project, "_project_conv", "_bn2")):
        x = x if conv is block.expand else torch.randn(1, 96, 9, 9)
        state = {n.rpartition(".")[2]: t for n, t in published.items() if n.startswith(f"_blocks.1.{bn}.")}
        expected = F.conv2d(x, published[f"_blocks.1.{theirs}.weight"])
        expected = F.batch_norm(
            expected, state["running_mean"], state["running_var"], state["weight"], state["bias"], eps=1e-3
        )
        torch.testing.assert_close(conv(x), expected, atol=1e-4, rtol=1e-4)
