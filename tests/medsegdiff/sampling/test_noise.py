"""Random streams per ensemble member."""

import torch

from medsegdiff.sampling import MemberNoise

SHAPE = (2, 8, 8)
LIKE = torch.empty(0)


def test_a_members_noise_does_not_depend_on_the_number_of_members():
    five, fifty, alone = MemberNoise(7, 5), MemberNoise(7, 50), MemberNoise(7, 1, first=3)
    for _ in range(3):  # the streams stay together draw after draw
        few, many, one = (noise.draw(SHAPE, LIKE) for noise in (five, fifty, alone))
        assert torch.equal(few, many[:5])
        assert torch.equal(one[0], many[3])


def test_members_draws_and_seeds_all_differ():
    first, second = MemberNoise(0, 3), MemberNoise(1, 3)
    drawn = torch.cat([first.draw(SHAPE, LIKE), first.draw(SHAPE, LIKE), second.draw(SHAPE, LIKE)]).flatten(1)
    distance = torch.cdist(drawn, drawn) + 100 * torch.eye(len(drawn))
    assert distance.min() > 8  # independent vectors of 128 normals lie about 16 apart


def test_a_seed_beyond_32_bits_does_not_fall_onto_a_neighbour():
    # Written side by side as 32-bit words, (5 + 2^32, member 0) and (5, member 1) would be the same entropy.
    assert not torch.equal(MemberNoise(5 + 2**32, 1).draw(SHAPE, LIKE), MemberNoise(5, 1, first=1).draw(SHAPE, LIKE))


def test_float64_sees_the_noise_float32_sees():
    single, double = (MemberNoise(0, 2).draw(SHAPE, LIKE.to(dtype)) for dtype in (torch.float32, torch.float64))
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)


def test_the_first_number_of_every_member_is_normal():
    first = MemberNoise(0, 2000).draw((1, 1, 1), LIKE).flatten()
    assert abs(first.mean()) < 0.07  # three standard errors, here and below
    assert abs(first.std() - 1) < 0.05
    assert abs(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]) < 0.07
