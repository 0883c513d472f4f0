# %% [markdown]
# # 1. Why generate a mask?
#
# Goes with chapter 1 of the course (`make course`, then `?chapter=raters`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 1. 为什么要生成掩膜
#
# 使平方误差最小的答案是平均图；采样得到的则是专家真正会画的掩膜。
#
# 对应课程第 1 章（运行 `make course`，再打开 `?chapter=raters&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import numpy as np
import torch

from medsegdiff import NoiseSchedule
from medsegdiff.data.synthetic import draw
from medsegdiff.multi_reader import energy_distance

experts = draw("skin-lesion", 3, 64, raters=4).raters  # four label images (64, 64) of one synthetic lesion
masks = np.stack([expert > 0 for expert in experts]).astype(float)

# %% [markdown]
# ## What the squared error asks for
#
# Let a network answer $f$ for an image whose mask is random: $x_0 = m_i$ with probability $s_i$. Add and subtract the mean
# $\mu = \mathbb E[x_0\mid I] = \sum_i s_i m_i$:
#
# $$\mathbb E\lVert f - x_0\rVert^2 = \lVert f-\mu\rVert^2 + 2\,(f-\mu)^\top\underbrace{\mathbb E[\mu - x_0]}_{0}
# + \mathbb E\lVert \mu - x_0\rVert^2 .$$
#
# The last term does not depend on $f$, so the best answer is $f=\mu$. For the cross-entropy of one pixel that is marked with
# probability $s$, $-s\log f-(1-s)\log(1-f)$, the derivative $-s/f+(1-s)/(1-f)$ vanishes at $f=s$: the same answer. A better network or
# more data does not change this; only another question does, namely for a *sample* of $p(x_0\mid I)$.
#
# **Exercise 1.** Write the answer with the smallest expected squared error.

# %% [markdown] lang="zh"
# ## 平方误差的最小解
#
# 网络对一张图像只给出一个答案 $f$，而它的掩膜是随机的：以概率 $s_i$ 取 $x_0 = m_i$。加上再减去均值 $\mu = \mathbb E[x_0\mid I] = \sum_i s_i m_i$：
#
# $$\mathbb E\lVert f - x_0\rVert^2 = \lVert f-\mu\rVert^2 + 2\,(f-\mu)^\top\underbrace{\mathbb E[\mu - x_0]}_{0}
# + \mathbb E\lVert \mu - x_0\rVert^2 .$$
#
# 最后一项与 $f$ 无关，因此最优解是 $f=\mu$。交叉熵也一样：对一个以概率 $s$ 被标注的像素，$-s\log f-(1-s)\log(1-f)$ 的导数 $-s/f+(1-s)/(1-f)$ 在 $f=s$ 处为零。
# 换更好的网络、用更多的数据都改变不了这一点；要得到别的结果，只能换一个目标：从 $p(x_0\mid I)$ 中*采样*。
#
# **练习 1.** 写出期望平方误差最小的答案。


# %% tags=["exercise"]
def best_answer(masks, shares):
    """Return the minimiser of the expected squared error.

    masks (n, h, w) in {0, 1}; shares (n,), the probability of each; returns (h, w).
    """
    ### BEGIN SOLUTION
    return np.tensordot(shares, masks, 1)
    ### END SOLUTION
    ### MISTAKE np.tensordot(shares, masks, 1) => masks.mean(0)
    ### MISTAKE np.tensordot(shares, masks, 1) => (np.tensordot(shares, masks, 1) > 0.5).astype(float)


# %% tags=["check"]
def expected_error(answer, shares):
    return float(sum(s * ((answer - m) ** 2).sum() for s, m in zip(shares, masks, strict=True)))


rng = np.random.default_rng(0)
for shares in ([0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1], [0.0, 1.0, 0.0, 0.0]):
    best = best_answer(masks, np.array(shares))
    assert best.shape == masks.shape[1:], f"the answer has shape {best.shape}, not {masks.shape[1:]}"
    blends = [(best + mask) / 2 for mask in masks]
    for other in (*masks, *blends, best > 0.5, best + 0.01 * rng.standard_normal(best.shape)):
        assert expected_error(best, shares) <= expected_error(other, shares) + 1e-9, (
            "another answer has a smaller error"
        )
print("right: no expert drew it, and no other answer has a smaller expected error")

# %% [markdown]
# ## When does a sample make up its mind?
#
# For two masks $m_1,m_2$ with probabilities $s$ and $1-s$ and $q(x_t\mid x_0)=\mathcal N(\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I)$,
# Bayes gives
#
# $$p(m_i\mid x_t)\ \propto\ s_i\,\exp\Bigl(-\frac{\lVert x_t-\sqrt{\bar\alpha_t}\,m_i\rVert^2}{2(1-\bar\alpha_t)}\Bigr).$$
#
# At $t=T-1$ both distances are nearly equal and the posterior is the prior: the prediction is the average of the masks. As the noise
# falls, one of the two exponents wins.
#
# **Exercise 2.** Write this posterior. Work with logarithms: a mask of 64 × 64 pixels makes the exponents overflow.

# %% [markdown] lang="zh"
# ## 样本何时倒向一位专家
#
# 设两张掩膜 $m_1,m_2$ 的概率为 $s$ 与 $1-s$，且 $q(x_t\mid x_0)=\mathcal N(\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I)$。由贝叶斯公式，
#
# $$p(m_i\mid x_t)\ \propto\ s_i\,\exp\Bigl(-\frac{\lVert x_t-\sqrt{\bar\alpha_t}\,m_i\rVert^2}{2(1-\bar\alpha_t)}\Bigr).$$
#
# 在 $t=T-1$ 时两个距离几乎相等，后验等于先验，预测就是两张掩膜的平均。随着噪声减小，其中一个指数项占据优势。
#
# **练习 2.** 写出这个后验概率。请用对数计算：64 × 64 像素的掩膜会使指数溢出。


# %% tags=["exercise"]
def belief(x_t, masks, shares, alpha_bar):
    """Return the posterior probability of each mask.

    x_t (h, w); masks (n, h, w) in {-1, 1}; shares (n,); alpha_bar a number in (0, 1); returns (n,), summing to one.
    """
    ### BEGIN SOLUTION
    distance = (x_t - alpha_bar**0.5 * masks).square().sum((1, 2))
    return (shares.log() - distance / (2 * (1 - alpha_bar))).softmax(0)
    ### END SOLUTION
    ### MISTAKE alpha_bar**0.5 * masks => masks
    ### MISTAKE shares.log() - distance / (2 * (1 - alpha_bar)) => -distance / (2 * (1 - alpha_bar))
    ### MISTAKE 2 * (1 - alpha_bar) => 1 - alpha_bar


# %% tags=["check"]
schedule, generator = NoiseSchedule("linear"), torch.Generator().manual_seed(0)
pair, shares = (torch.tensor(v, dtype=torch.float64) for v in ([[[1.0]], [[-1.0]]], [0.3, 0.7]))
for t in (10, 300, 700, 999):
    a = float(schedule.alpha_bar_at(t))
    for x in (-2.0, 0.0, 0.5, 1.3):  # one pixel: the logit is linear in x
        known = float(torch.sigmoid(2 * x * a**0.5 / (1 - a) + (shares[0] / shares[1]).log()))
        found = belief(torch.full((1, 1), x, dtype=torch.float64), pair, shares, a)
        assert abs(float(found[0]) - known) < 1e-9, f"t = {t}, x = {x}: {float(found[0])}, not {known}"
large = torch.from_numpy(2 * masks[:2] - 1)
noise = torch.randn(large[0].shape, generator=generator, dtype=torch.float64)
beliefs = []
for t in (999, 600, 300, 0):
    a = float(schedule.alpha_bar_at(t))
    beliefs.append(float(belief(a**0.5 * large[0] + (1 - a) ** 0.5 * noise, large, torch.tensor([0.5, 0.5]), a)[0]))
assert abs(beliefs[0] - 0.5) < 0.2 and beliefs[-1] > 0.999, f"from the prior to certainty, but found {beliefs}"
print("right; probability of the mask under the noise at t = 999, 600, 300, 0:", np.round(beliefs, 3))

# %% [markdown]
# ## Comparing two sets of masks
#
# Members $S$ and experts $Y$ are two *sets*: no member belongs to one expert. With $d(A,B)=1-\mathrm{IoU}(A,B)$,
#
# $$D^2_{GED}=2\,\mathbb E[d(S,Y)]-\mathbb E[d(S,S')]-\mathbb E[d(Y,Y')].$$
#
# Every expectation is a mean over **all** pairs, a mask with itself included. Two empty masks agree: their IoU is 1.
#
# **Exercise 3.** Write GED² of two sets of masks.

# %% [markdown] lang="zh"
# ## 比较两组掩膜
#
# 成员 $S$ 与专家 $Y$ 是两个*集合*，成员与专家并不一一对应。取 $d(A,B)=1-\mathrm{IoU}(A,B)$，广义能量距离为
#
# $$D^2_{GED}=2\,\mathbb E[d(S,Y)]-\mathbb E[d(S,S')]-\mathbb E[d(Y,Y')].$$
#
# 每个期望都是对**所有**配对取平均，掩膜与自身的配对也算在内。两张空掩膜视为一致，IoU 为 1。
#
# **练习 3.** 写出两组掩膜的 GED²。


# %% tags=["exercise"]
def ged_squared(members, readers):
    """Return the squared generalised energy distance of two sets of masks, (m, h, w) and (n, h, w), in {0, 1}."""

    ### BEGIN SOLUTION
    def distance(a, b):
        union = (a | b).sum()
        return 1 - (a & b).sum() / union if union else 0.0

    def mean(one, other):
        return np.mean([distance(a > 0, b > 0) for a in one for b in other])

    return 2 * mean(members, readers) - mean(members, members) - mean(readers, readers)
    ### END SOLUTION
    ### MISTAKE if union else 0.0 => if union else 1.0
    ### MISTAKE - mean(readers, readers) => - 0
    ### MISTAKE (a & b).sum() / union => 2 * (a & b).sum() / (a.sum() + b.sum())


# %% tags=["check"]
empty = np.zeros_like(masks[:1])
for members, readers in (
    (masks, masks),
    (masks[:1], masks),
    (masks[[0, 0, 1]], masks[2:]),
    (np.concatenate([masks[:2], empty]), np.concatenate([masks, empty])),
):
    found, known = ged_squared(members, readers), energy_distance(members.astype(int), readers.astype(int))
    assert abs(found - known) < 1e-9, f"GED² is {found}, but medsegdiff.multi_reader.energy_distance gives {known}"
average = best_answer(masks, np.full(4, 0.25)) > 0.5
print(
    f"right; the experts against themselves 0, against the thresholded average {ged_squared(average[None], masks):.3f}"
)
