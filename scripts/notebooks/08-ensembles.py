# %% [markdown]
# # 8. Ensembles
#
# 集成：STAPLE 的 E 步与 M 步、成员间的分歧，以及成员数与 GED² 下限的关系。
#
# Goes with chapter 8 of the course (`make course`, then `?chapter=ensembles`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %%
import numpy as np

from medsegdiff import fuse
from medsegdiff.data.synthetic import draw
from medsegdiff.multi_reader import energy_distance

drawn = draw("skin-lesion", 7, 64, raters=5)
raters = np.stack([(mask > 0).astype(np.uint8) for mask in drawn.raters])
raters = np.concatenate([raters, np.roll(raters[:1], (16, 16), (1, 2))])  # the last one is a poor rater
votes = np.stack([1 - raters, raters], 1).astype(np.float32)  # as probabilities (m, 2, h, w)

# %% [markdown]
# ## STAPLE
#
# E 步：已知标注者的质量，用贝叶斯公式估计真值；M 步：已知真值的概率，重新估计质量。
#
# Rater $j$ marks a foreground pixel with probability $p_j$ (sensitivity) and leaves a background pixel with probability $q_j$ (specificity).
# With the prior share of foreground $\gamma$ and the labels $D_{ij}$ of pixel $i$, Bayes gives the E step
#
# $$W_i=\frac{\gamma\,a_i}{\gamma\,a_i+(1-\gamma)\,b_i},\quad a_i=\prod_jp_j^{D_{ij}}(1-p_j)^{1-D_{ij}},\quad
# b_i=\prod_jq_j^{1-D_{ij}}(1-q_j)^{D_{ij}} .$$
#
# The expected log-likelihood of $p_j$ is $\sum_iW_i\bigl[D_{ij}\log p_j+(1-D_{ij})\log(1-p_j)\bigr]$. Its derivative
# $\sum_iW_iD_{ij}/p_j-\sum_iW_i(1-D_{ij})/(1-p_j)$ vanishes at $p_j=\sum_iW_iD_{ij}/\sum_iW_i$, and likewise for $q_j$: the M step.
# $\gamma$ is fixed to the mean share of foreground over all raters and pixels; $p$ and $q$ start at 0.99999.
#
# **Exercise 1.** Write both steps and repeat them.


# %% tags=["exercise"]
def staple(raters, iterations=50):
    """Return W (h, w), p (m,) and q (m,) after this many iterations; raters (m, h, w) in {0, 1}."""
    ### BEGIN SOLUTION
    labels = raters.reshape(len(raters), -1) > 0
    prior = labels.mean()
    p = q = np.full(len(labels), 0.99999)
    for _ in range(iterations):
        a = np.where(labels, p[:, None], 1 - p[:, None]).prod(0)
        b = np.where(labels, 1 - q[:, None], q[:, None]).prod(0)
        w = prior * a / (prior * a + (1 - prior) * b)
        p = (w * labels).sum(1) / w.sum()
        q = ((1 - w) * ~labels).sum(1) / (1 - w).sum()
    return w.reshape(raters.shape[1:]), p, q
    ### END SOLUTION
    ### MISTAKE np.where(labels, 1 - q[:, None], q[:, None]).prod(0) => np.where(labels, q[:, None], 1 - q[:, None]).prod(0)
    ### MISTAKE / w.sum() => / labels.sum()
    ### MISTAKE prior = labels.mean() => prior = 0.5


# %% tags=["check"]
w, p, q = staple(raters)
known = fuse(votes, "staple")  # by SimpleITK
assert (w > 0.5).astype(int).tolist() == known.labels.tolist(), "the mask differs from SimpleITK's STAPLE"
assert np.allclose(p, [one.sensitivity for one in known.quality], atol=1e-3), f"sensitivities {p.round(3)}"
assert np.allclose(q, [one.specificity for one in known.quality], atol=1e-3), f"specificities {q.round(3)}"
assert p.argmin() == len(raters) - 1, "the poor rater should have the lowest sensitivity"
print("right; sensitivities:", p.round(2), "specificities:", q.round(2))

# %% [markdown]
# ## Disagreement
#
# 分歧图是各成员前景概率的标准差；分歧不等于误差。
#
# The map of disagreement is $\sqrt{\tfrac12\sum_c\mathrm{Var}_j\,p_{jc}}$ over the classes $c$. With one foreground class the two variances
# are equal, so it is the standard deviation of the foreground probability: at most $\tfrac12$, where half of the members mark a pixel.
#
# **Exercise 2.** Write it, and the share of the wrong pixels on which all members agree.


# %% tags=["exercise"]
def disagreement(probabilities):
    """Return the map (h, w) of probabilities (m, classes, h, w)."""
    ### BEGIN SOLUTION
    return np.sqrt(probabilities.var(0).sum(0) / 2)
    ### END SOLUTION
    ### MISTAKE .sum(0) / 2 => .sum(0)
    ### MISTAKE np.sqrt(probabilities.var(0).sum(0) / 2) => probabilities.std(0).sum(0)


def wrong_in_agreement(raters, truth):
    """Return the share of the pixels at which the majority (more than half) is wrong that all raters label alike."""
    ### BEGIN SOLUTION
    share = raters.mean(0)
    wrong = (share > 0.5) != (truth > 0)
    return (wrong & ((share == 0) | (share == 1))).sum() / wrong.sum()
    ### END SOLUTION
    ### MISTAKE / wrong.sum() => / wrong.size
    ### MISTAKE ((share == 0) | (share == 1)) => (share == 1)


# %% tags=["check"]
soft = np.random.default_rng(0).dirichlet(np.ones(3), (4, 8, 8)).transpose(0, 3, 1, 2).astype(np.float32)
assert np.allclose(disagreement(soft), fuse(soft, "mean").disagreement, atol=1e-6), "differs from medsegdiff.fuse"
assert np.isclose(disagreement(votes).max(), 0.5, atol=1e-6), "half of six raters: 0.5"
truth = np.array([[1, 1, 1, 0, 0]])
three = np.array([[[1, 0, 1, 0, 1]], [[1, 0, 0, 0, 1]], [[1, 0, 0, 0, 1]]])  # wrong at 1, 2 and 4; alike at 1 and 4
assert np.isclose(wrong_in_agreement(three, truth), 2 / 3), f"found {wrong_in_agreement(three, truth)}, not 2/3"
print("right")

# %% [markdown]
# ## How close can m members come to n readers?
#
# 即使成员就是从读片者中随机抽取的，GED² 也不会为 0：它的期望为 D/m。
#
# Draw $m$ members at random, with replacement, from the readers themselves. Let $D$ be the mean distance over all pairs of readers, a reader
# with itself included. Then $\mathbb E[d(S,Y)]=D$ and the mean over pairs of members is $\bigl(1-\tfrac1m\bigr)D$, because a member agrees
# with itself. So $\mathbb E\,D^2_{GED}=2D-(1-\tfrac1m)D-D=D/m$: no finite ensemble reaches 0, and more members lower the floor.
#
# **Exercise 3.** Write the floor.


# %% tags=["exercise"]
def floor(readers, m):
    """Return the expected squared GED of m members drawn from the readers (n, h, w) with replacement."""

    ### BEGIN SOLUTION
    def distance(a, b):
        union = (a | b).sum()
        return 1 - (a & b).sum() / union if union else 0.0

    return np.mean([distance(a > 0, b > 0) for a in readers for b in readers]) / m
    ### END SOLUTION
    ### MISTAKE / m => / (m - 1)
    ### MISTAKE np.mean([distance(a > 0, b > 0) for a in readers for b in readers]) => sum(distance(a > 0, b > 0) for a in readers for b in readers) / len(readers) / (len(readers) - 1)


# %% tags=["check"]
rng = np.random.default_rng(0)
readers = draw("lung-nodule", 3, 64, raters=4).raters
readers = np.stack([(mask > 0).astype(np.uint8) for mask in readers])
for m in (2, 16):
    drawn = [energy_distance(readers[rng.integers(0, len(readers), m)], readers) for _ in range(600)]
    measured, error = np.mean(drawn), np.std(drawn) / len(drawn) ** 0.5
    assert abs(floor(readers, m) - measured) < 4 * error, (
        f"m = {m}: measured {measured:.3f}, found {floor(readers, m):.3f}"
    )
print(f"right; with 16 members the floor is {floor(readers, 16):.3f}, with 2 it is {floor(readers, 2):.3f}")

# %% [markdown]
# ## What the released code calls STAPLE
#
# 公开代码中的 “STAPLE” 是均值的平方；对它取阈值 ½ 相当于对均值取阈值 0.71。
#
# The released code multiplies the mean of the members by itself (F16).
#
# **Exercise 4.** How many of $m$ binary members must mark a pixel for $(\text{mean})^2>\tfrac12$?


# %% tags=["exercise"]
def members_needed(m):
    """Return the smallest number of m members that must mark a pixel so that the squared mean exceeds one half."""
    ### BEGIN SOLUTION
    return int(np.floor(m * 0.5**0.5)) + 1
    ### END SOLUTION
    ### MISTAKE 0.5**0.5 => 0.5


# %% tags=["check"]
for m in (1, 2, 5, 25):
    known = next(k for k in range(m + 1) if (k / m) ** 2 > 0.5)
    assert members_needed(m) == known, f"{known} of {m}, not {members_needed(m)}"
print(f"right: {members_needed(25)} of 25 members, where a majority needs 13")
