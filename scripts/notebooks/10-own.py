# %% [markdown]
# # 10. Your own image
#
# Goes with chapter 10 of the course (`make course`, then `?chapter=own`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 10. 自己的图像
#
# 怎样把图像送入网络，又怎样评判没有标准答案的结果。
#
# 对应课程第 10 章（运行 `make course`，再打开 `?chapter=own&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import math

import numpy as np
import torch

from medsegdiff import Picture, RunSettings, Segmenter
from medsegdiff.data.synthetic import draw
from medsegdiff.metrics import binary_dice, bootstrap_interval, dice, expected_calibration_error
from medsegdiff.resize import to_network

MEMBERS, STEPS = 4, 2  # small, to be quick; the page uses more

segmenter = Segmenter.from_pretrained("skin-lesion-v2")
drawn = draw("skin-lesion", 5)
picture = Picture(drawn.image)  # or Picture.open("your.png")
result = segmenter(picture, RunSettings(members=MEMBERS, steps=STEPS, seed=0))
truth = drawn.labels > 0  # known, because this picture is drawn; your own has none

# %% [markdown]
# ## What the network sees
#
# A picture of any size is squeezed to the network's square and its values are mapped from 0 ... 255 to $[-1,1]$; the mask is resized back as
# a probability, never as labels, so that its border may fall between pixels.
#
# **Exercise 1.** Write the way there, with `torch.nn.functional.interpolate` (bilinear, with antialiasing).

# %% [markdown] lang="zh"
# ## 网络看到的图像
#
# 任意尺寸的图像都被缩放成网络所需的正方形，像素值从 0 … 255 映射到 $[-1,1]$。结果以概率而不是标签的形式缩放回原尺寸，因此边界可以落在像素之间。
#
# **练习 1.** 写出送入网络之前的处理，用 `torch.nn.functional.interpolate`（双线性，抗锯齿）。


# %% tags=["exercise"]
def network_input(pixels, size):
    """Return the input (1, 3, size, size) in [-1, 1]; pixels (h, w, 3) of 0 ... 255."""
    ### BEGIN SOLUTION
    image = torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float()
    image = torch.nn.functional.interpolate(image, size=(size, size), mode="bilinear", antialias=True)
    return image / 127.5 - 1
    ### END SOLUTION
    ### MISTAKE image / 127.5 - 1 => image / 255
    ### MISTAKE antialias=True => antialias=False
    ### MISTAKE .movedim(-1, 0) => .permute(2, 1, 0)


# %% tags=["check"]
size = segmenter.checkpoint.model_config.image_size
grain = np.random.default_rng(0).integers(0, 256, (400, 640, 3), np.uint8)  # larger than the square
for pixels in (drawn.image, drawn.image[:200, :97], grain):
    known, _ = to_network(Picture(np.ascontiguousarray(pixels)), size)
    found = network_input(np.ascontiguousarray(pixels), size)
    assert found.shape == known.shape, f"shape {tuple(found.shape)}, not {tuple(known.shape)}"
    assert torch.allclose(found, known, atol=1e-4), "differs from medsegdiff.resize.to_network"
print("right: the network's input is", tuple(found.shape))

# %% [markdown]
# ## Overlap, where there is a reference
#
# Dice is $2|A\cap B|/(|A|+|B|)$. If the reference has no pixel of a class it says nothing about how well the class is found, and the package
# leaves it out: `nan`, not 0 and not 1. Whether the prediction invents something is counted separately.
#
# **Exercise 2.** Write Dice of one class, `nan` where the reference is empty.

# %% [markdown] lang="zh"
# ## 有参考掩膜时：重叠程度
#
# Dice 是 $2|A\cap B|/(|A|+|B|)$。若参考掩膜中没有某一类的像素，就无从判断这一类找得好不好，本项目不计入：取 `nan`，而不是 0 或 1。
# 预测是否凭空标出了什么，另行统计。
#
# **练习 2.** 写出一个类别的 Dice；参考掩膜为空时返回 `nan`。


# %% tags=["exercise"]
def dice_of(prediction, reference):
    """Return Dice of two boolean masks; nan if the reference is empty."""
    ### BEGIN SOLUTION
    if not reference.any():
        return math.nan
    return 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum())
    ### END SOLUTION
    ### MISTAKE return math.nan => return 1.0
    ### MISTAKE 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum()) => (prediction & reference).sum() / (prediction | reference).sum()


# %% tags=["check"]
none = np.zeros_like(truth)
for a, b in ((result.mask > 0, truth), (none, truth), (truth, truth), (truth, none), (none, none)):
    found, (known,) = dice_of(a, b), dice(a.astype(int), b.astype(int), 1)
    assert np.isclose(found, known, equal_nan=True), f"{found}, but medsegdiff.metrics.dice has {known}"
print(f"right; on this picture {dice_of(result.mask > 0, truth):.3f}, with {MEMBERS} members of {STEPS} steps")

# %% [markdown]
# ## Without a reference: agreement
#
# Your own image has no reference mask. What is left is how much the members agree: the mean Dice over all pairs of different members.
#
# **Exercise 3.** Write it. Two empty masks agree.

# %% [markdown] lang="zh"
# ## 没有参考掩膜时：一致程度
#
# 自己的图像没有参考掩膜，只能看成员之间有多一致：不同成员的所有配对的平均 Dice。一致不等于正确。
#
# **练习 3.** 写出这个平均值。两张空掩膜视为一致。


# %% tags=["exercise"]
def agreement(members):
    """Return the mean Dice over all pairs of different members (m, h, w), boolean; 1 for a pair of empty masks."""
    ### BEGIN SOLUTION
    pairs = [(a, b) for i, a in enumerate(members) for b in members[:i]]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else 1.0 for a, b in pairs]))
    ### END SOLUTION
    ### MISTAKE for b in members[:i] => for b in members
    ### MISTAKE else 1.0 => else 0.0


# %% tags=["check"]
shifted = np.stack([np.roll(truth, k, 1) for k in (0, 20, 60)])
known = np.mean([binary_dice(shifted[i], shifted[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
assert np.isclose(agreement(shifted), known), f"{agreement(shifted):.3f}, not {known:.3f}"
assert agreement(np.stack([none, none])) == 1 and agreement(np.stack([none, truth])) == 0
print("right; three shifted copies agree with", round(agreement(shifted), 3))

# %% [markdown]
# ## Are the probabilities calibrated?
#
# Sort the pixels into equal bins of probability. In bin $i$ with $n_i$ of $n$ pixels, mean probability $p_i$ and observed share $f_i$,
# $\mathrm{ECE}=\sum_i\frac{n_i}n|f_i-p_i|$. Easy background fills the lowest bin, so compare it on the same images only.
#
# **Exercise 4.** Write the ECE of one class with 15 bins; a probability of exactly 1 belongs to the last bin.

# %% [markdown] lang="zh"
# ## 概率是否经过校准
#
# 校准的意思是：在概率为 0.8 的像素中，确有 80 % 属于皮损。把像素按概率分入等宽的区间。设第 $i$ 个区间有 $n$ 个像素中的 $n_i$ 个，平均概率为 $p_i$，
# 实际比例为 $f_i$，则 $\mathrm{ECE}=\sum_i\frac{n_i}n|f_i-p_i|$。容易判断的背景会填满最低的区间，所以只能在同样的图像上比较。
#
# **练习 4.** 写出一个类别、15 个区间的 ECE；概率恰为 1 的像素归入最后一个区间。


# %% tags=["exercise"]
def calibration_error(probability, reference, bins=15):
    """Return the ECE; probability (h, w) in [0, 1], reference (h, w) boolean."""
    ### BEGIN SOLUTION
    place = np.minimum((probability * bins).astype(int), bins - 1).ravel()
    p, y = probability.ravel(), reference.ravel()
    return sum(abs(y[place == i].mean() - p[place == i].mean()) * (place == i).mean() for i in np.unique(place))
    ### END SOLUTION
    ### MISTAKE * (place == i).mean() => / bins
    ### MISTAKE y[place == i].mean() - p[place == i].mean() => y[place == i].mean() - (i + 0.5) / bins


# %% tags=["check"]
probability = np.asarray(result.probability)
found = calibration_error(probability[1].astype(float), truth)
known = expected_calibration_error(probability.astype(float), truth.astype(int))
assert abs(found - known) < 1e-3, f"{found:.4f}, but medsegdiff.metrics has {known:.4f}"
certain = np.where(truth, 1.0, 0.0)
assert calibration_error(certain, truth) == 0, "probabilities of 0 and 1 that are right have no error"
print(f"right; on this picture {found:.4f}")

# %% [markdown]
# ## How sure is a mean of a few images?
#
# Draw as many cases as there are, with replacement, many times; the central 95 % of the means is the bootstrap interval.
#
# **Exercise 5.** Write it.

# %% [markdown] lang="zh"
# ## 几张图像的平均值有多可靠
#
# 几十张图像的平均值并不精确。有放回地抽取同样多的样例，重复许多次；这些平均值中间的 95 % 就是自助法（bootstrap）区间。
#
# **练习 5.** 写出这个区间。


# %% tags=["exercise"]
def interval(scores, resamples=2000, seed=0):
    """Return the lower and upper end of the 95 % percentile bootstrap interval of the mean."""
    ### BEGIN SOLUTION
    drawn = np.random.default_rng(seed).integers(0, len(scores), (resamples, len(scores)))
    low, high = np.quantile(np.asarray(scores)[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)
    ### END SOLUTION
    ### MISTAKE [0.025, 0.975] => [0.05, 0.95]
    ### MISTAKE (resamples, len(scores)) => (resamples, 2 * len(scores))


# %% tags=["check"]
scores = np.random.default_rng(1).beta(8, 2, 40)
known = bootstrap_interval(scores.tolist(), seed=0, resamples=2000)
found = interval(scores)
assert np.allclose(found, known, atol=0.004), f"{found}, but medsegdiff.metrics.bootstrap_interval has {known}"
print(f"right: the mean of 40 images is {scores.mean():.3f}, between {found[0]:.3f} and {found[1]:.3f}")
