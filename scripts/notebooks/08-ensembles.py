# %% [markdown]
# # 8. Ensembles
#
# Goes with chapter 8 of the course (`make course`, then `?chapter=ensembles`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 8. 集成
#
# STAPLE 的 E 步与 M 步、成员之间的分歧，以及成员数与 GED² 下限的关系。
#
# 对应课程第 8 章（运行 `make course`，再打开 `?chapter=ensembles&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

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

# %% [markdown] lang="zh"
# ## STAPLE
#
# 标注者 $j$ 以概率 $p_j$（灵敏度）标出前景像素，以概率 $q_j$（特异度）不标背景像素。设前景的先验比例为 $\gamma$，像素 $i$ 的标注为 $D_{ij}$，由贝叶斯公式得到 E 步：
#
# $$W_i=\frac{\gamma\,a_i}{\gamma\,a_i+(1-\gamma)\,b_i},\quad a_i=\prod_jp_j^{D_{ij}}(1-p_j)^{1-D_{ij}},\quad
# b_i=\prod_jq_j^{1-D_{ij}}(1-q_j)^{D_{ij}} .$$
#
# $p_j$ 的期望对数似然是 $\sum_iW_i\bigl[D_{ij}\log p_j+(1-D_{ij})\log(1-p_j)\bigr]$，其导数 $\sum_iW_iD_{ij}/p_j-\sum_iW_i(1-D_{ij})/(1-p_j)$
# 在 $p_j=\sum_iW_iD_{ij}/\sum_iW_i$ 处为零；$q_j$ 同理。这就是 M 步。$\gamma$ 固定为所有标注者、所有像素中前景的平均比例；$p$ 与 $q$ 的初值为 0.99999。
#
# **练习 1.** 写出这两步并反复迭代。


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
# The map of disagreement is $\sqrt{\tfrac12\sum_c\mathrm{Var}_j\,p_{jc}}$ over the classes $c$. With one foreground class the two variances
# are equal, so it is the standard deviation of the foreground probability: at most $\tfrac12$, where half of the members mark a pixel.
#
# **Exercise 2.** Write it, and the share of the wrong pixels on which all members agree.

# %% [markdown] lang="zh"
# ## 分歧
#
# 分歧图是 $\sqrt{\tfrac12\sum_c\mathrm{Var}_j\,p_{jc}}$，对各类别 $c$ 求和。只有一个前景类别时，两个方差相等，它就是前景概率的标准差：
# 最大为 $\tfrac12$，出现在恰有一半成员标注的像素。分歧不等于误差：成员可以一致地犯错。
#
# **练习 2.** 写出分歧图，以及在错误的像素中，所有成员意见一致的比例。


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
# Draw $m$ members at random, with replacement, from the readers themselves. Let $D$ be the mean distance over all pairs of readers, a reader
# with itself included. Then $\mathbb E[d(S,Y)]=D$ and the mean over pairs of members is $\bigl(1-\tfrac1m\bigr)D$, because a member agrees
# with itself. So $\mathbb E\,D^2_{GED}=2D-(1-\tfrac1m)D-D=D/m$: no finite ensemble reaches 0, and more members lower the floor.
#
# **Exercise 3.** Write the floor.

# %% [markdown] lang="zh"
# ## m 个成员能多接近 n 位阅片者
#
# 从阅片者中有放回地随机抽取 $m$ 个作为成员。设 $D$ 为阅片者所有配对（包括与自身）的平均距离，则 $\mathbb E[d(S,Y)]=D$；
# 成员与自身的距离为零，因此成员配对的平均距离是 $\bigl(1-\tfrac1m\bigr)D$。于是 $\mathbb E\,D^2_{GED}=2D-(1-\tfrac1m)D-D=D/m$：
# 成员数有限时，期望不会为 0；成员越多，下限越低。
#
# **练习 3.** 写出这个下限。


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
# The released code multiplies the mean of the members by itself (F16).
#
# **Exercise 4.** How many of $m$ binary members must mark a pixel for $(\text{mean})^2>\tfrac12$?

# %% [markdown] lang="zh"
# ## 公开代码中的 “STAPLE”
#
# 公开代码把成员的均值与自身相乘（F16）。对它取阈值 ½，相当于对均值取阈值 0.71。
#
# **练习 4.** $m$ 个二值成员中，至少要有多少个标出一个像素，才有 $(\text{均值})^2>\tfrac12$？


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
