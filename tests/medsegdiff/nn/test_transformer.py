"""The SS-Former against V2's figure, computed with explicit Fourier matrices in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from medsegdiff.nn.transformer import SpectrumSpaceModule, SSFormer

WIDTH, HEADS, TIME, N = 8, 2, 6, 5
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 through two transforms


def module(band: str, generator: torch.Generator) -> SpectrumSpaceModule:
    """A module in which no weight keeps a special value."""
    made = SpectrumSpaceModule(WIDTH, HEADS, TIME, band=band, nbp_blocks=2, nbp_width=4).requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def streams(generator: torch.Generator, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    """Query tokens, key tokens and an embedded time."""
    query, key = torch.randn(2, 3, n, WIDTH, generator=generator)
    return query, key, torch.randn(1, TIME, generator=generator)


def by_hand(made: SpectrumSpaceModule, query: Tensor, key: Tensor, time: Tensor) -> np.ndarray:
    """M = (F q W_q)(F r W_k)^T;  M' = S M or sin M;  q' = q + Re F^-1(M') (r W_v);  q'' = q' + MLP(q')."""
    n, d = query.shape[1], WIDTH // HEADS
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n)  # symmetric and unitary
    q, r = made.norm_query(query).numpy(), made.norm_key(key).numpy()
    v = made.value(made.norm_key(key)).numpy()
    w_q, w_k = ((w.weight[0] + 1j * w.weight[1]).numpy() for w in (made.query, made.key))
    gathered = np.zeros_like(v)
    for head in range(HEADS):
        part = slice(head * d, (head + 1) * d)
        for b in range(len(q)):
            affinity = (fourier @ q[b] @ w_q)[:, part] @ (fourier @ r[b] @ w_k)[:, part].T / (np.sqrt(d) * n)
            if made.band is not None:
                affinity = made.band(n, time)[0, 0].numpy() * affinity
            elif made.modulate is not None:
                a = made.sine_scale * n
                affinity = (np.sin(a * affinity.real) + 1j * np.sin(a * affinity.imag)) / a if a else np.sin(affinity)
            gathered[b, :, part] = (fourier.conj() @ affinity @ fourier.conj()).real @ v[b][:, part]
    x = query + torch.from_numpy(gathered)
    y = made.norm_mlp(x)
    if made.modulate is not None:
        scale, shift = made.modulate(nn.functional.silu(time))[0].chunk(2)
        y = y * (1 + scale) + shift
    return x + made.mlp(y)


@pytest.mark.parametrize("band", ["none", "nbp", "sine"])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_a_module_is_the_papers_formula(generator, band, n):
    made = module(band, generator)
    query, key, time = streams(generator, n)
    assert_close(made(query, key, time), by_hand(made, query, key, time), **CLOSE)


def test_with_real_weights_and_all_frequencies_let_through_it_is_attention_in_plain_space(generator):
    # F is symmetric: (F q W_q)(F r W_k)^T = F (q W_q)(r W_k)^T F, and F^-1 on both sides undoes it. No softmax.
    made = module("nbp", generator)
    made.query.weight[1] = made.key.weight[1] = 0
    made.band.blocks[-1].conv_2.weight.zero_()
    made.band.blocks[-1].conv_2.bias.fill_(40)  # sigmoid(40) is 1 in float32
    query, key, time = streams(generator)
    q, k = made.norm_query(query) @ made.query.weight[0], made.norm_key(key) @ made.key.weight[0]
    v = made.value(made.norm_key(key))
    q, k, v = (x.unflatten(2, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    x = query + (q @ k.mT @ v / (2 * N)).transpose(1, 2).flatten(2)  # sqrt(d) = 2 in each head, mean over N tokens
    assert_close(made(query, key, time), x + made.mlp(made.norm_mlp(x)), **CLOSE)


def test_the_output_does_not_scale_with_the_number_of_tokens(generator):
    made = module("none", generator)
    query, key, time = streams(generator)
    once, twice = made(query, key, time), made(query.repeat(1, 2, 1), key.repeat(1, 2, 1), time)
    assert_close(twice, once.repeat(1, 2, 1), **CLOSE)


@pytest.mark.parametrize("band", ["nbp", "sine"])
def test_bypassing_the_band_equals_a_module_without_it(generator, band):
    made = module(band, generator)
    plain = module("none", generator)
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if not k.startswith(("band.", "modulate."))})
    query, key, time = streams(generator)
    assert torch.equal(made(query, key, time, band=False), plain(query, key, time))
    assert not torch.allclose(made(query, key, time), plain(query, key, time), rtol=1e-2)


@pytest.mark.parametrize("band", ["nbp", "sine"])
def test_the_band_moves_with_time(generator, band):
    made = module(band, generator)
    query, key, time = streams(generator)
    assert not torch.allclose(made(query, key, time), made(query, key, time + 1), rtol=1e-2)
    apart = torch.cat([time, time + 1, time])  # one for each sample
    assert_close(made(query, key, apart)[1], made(query, key, time + 1)[1], **CLOSE)


def test_rows_of_the_affinity_are_frequencies_of_the_query_and_columns_of_the_key(generator):
    made = module("nbp", generator)
    query, key, time = streams(generator)
    flat = query[:, :1].expand_as(query)  # nothing but the zero frequency, which is shown in the middle
    rows, _ = made.explain(flat, key, time, "here")
    columns, _ = made.explain(query, flat, time, "here")
    outside = torch.arange(N) != N // 2
    assert rows.affinity[:, outside].max().item() < 1e-5 < rows.affinity[:, N // 2].min().item()
    assert columns.affinity[:, :, outside].max().item() < 1e-5 < columns.affinity[:, :, N // 2].min().item()


def test_the_traced_surface_is_the_one_used(generator):
    made = module("nbp", generator)
    query, key, time = streams(generator)
    _, (told,) = made.explain(query, key, time, "here")
    assert torch.equal(torch.fft.ifftshift(told.surface, dim=(-2, -1)), made.band(N, time)[:, 0])
    assert module("sine", generator).explain(query, key, time, "here")[1] == ()


def former(blocks: int = 2, patch: int = 1, band: str = "nbp") -> SSFormer:
    return SSFormer(
        4, 3, blocks=blocks, patch=patch, width=WIDTH, heads=HEADS, time=TIME, band=band, nbp_blocks=1, nbp_width=4
    ).requires_grad_(False)


@pytest.mark.parametrize("patch", [1, 2])
def test_unpatching_inverts_patching(generator, patch):
    made = former(patch=patch)
    for part in (*made.modules_1, *made.modules_2):  # silence all that a module adds to its query
        for layer in (part.value, part.mlp[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
    e, c = torch.randn(2, 4, 4, 6, generator=generator), torch.randn(1, 3, 4, 6, generator=generator)
    told, affinities, bands = made(e, c, torch.randn(1, TIME, generator=generator))
    assert_close(told, made.project(made.embed_noise(e)), **CLOSE)
    assert (affinities, bands) == ((), ())


def test_every_block_has_two_symmetric_cross_attentions(generator):
    made = former()
    e, c = torch.randn(2, 4, 2, 3, generator=generator), torch.randn(1, 3, 2, 3, generator=generator)
    time = torch.randn(1, TIME, generator=generator)
    answer, affinities, bands = made(e, c, time, trace=True)
    noise, tokens = (embed(x).flatten(2).mT for embed, x in ((made.embed_noise, e), (made.embed_semantics, c)))
    for first, second in zip(made.modules_1, made.modules_2, strict=True):
        tokens = second(first(noise, tokens, time), noise, time)
    assert_close(answer, made.project(tokens.mT.unflatten(2, (2, 3))), **CLOSE)
    assert [trace.stage for trace in affinities] == [trace.stage for trace in bands]
    assert [trace.affinity.shape for trace in affinities] == [(2, 6, 6)] * 4


def test_a_scaled_sine_is_a_sine_and_not_the_identity(generator):
    made = SpectrumSpaceModule(
        WIDTH, HEADS, TIME, band="sine", nbp_blocks=1, nbp_width=4, sine_scale=1.0
    ).requires_grad_(False)
    query, key, time = streams(generator)
    assert_close(made(query, key, time), by_hand(made, query, key, time).float(), rtol=1e-4, atol=1e-5)
    affinity = made.affinity(query, key)
    bare, scaled = torch.sin(affinity), made.filtered(affinity, time, True)
    assert (bare - affinity).norm() < 0.1 * affinity.norm()  # of order 1 / n, where the sine is the identity
    assert (scaled - affinity).norm() > 0.1 * affinity.norm()
    made.sine_scale = 1e-3
    assert_close(made.filtered(affinity, time, True), affinity, rtol=1e-4, atol=1e-6)  # a small scale is the identity


def test_with_a_flat_surface_the_transforms_cancel_and_it_is_linear_attention(generator):
    made = SpectrumSpaceModule(WIDTH, HEADS, TIME, band="nbp", nbp_blocks=2, nbp_width=4, nbp_octaves=3)
    made.requires_grad_(False)
    query, key, time = streams(generator)
    level = made.band(N, time).mean()
    q, r = made.norm_query(query), made.norm_key(key)
    w_q, w_k = (torch.complex(w.weight[0], w.weight[1]) for w in (made.query, made.key))
    heads = [part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (q.cfloat() @ w_q, r.cfloat() @ w_k)]
    weights = level * (heads[0] @ heads[1].transpose(-2, -1)).real / ((WIDTH / HEADS) ** 0.5 * N)
    assert_close(
        made(query, key, time, band="flat"), made.gathered(query, r, weights, time, True), rtol=1e-4, atol=1e-5
    )
    assert (made(query, key, time) - made(query, key, time, band="flat")).abs().max() > 1e-3  # a band does matter
