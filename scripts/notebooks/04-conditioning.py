# %% [markdown]
# # 4. Dynamic conditional encoding
#
# Goes with chapter 4 of the course (`make course`, then `?chapter=conditioning`). Every exercise is a function to write; the cell below
# it checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 4. 动态条件编码
#
# 对每个位置的通道做归一化，再用亲和图重新加权图像特征（V1 公式 3）。
#
# 对应课程第 4 章（运行 `make course`，再打开 `?chapter=conditioning&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import torch

from medsegdiff.nn.fusion import ChannelNorm, DynamicEncoding

generator = torch.Generator().manual_seed(0)
image, mask = (3 * torch.randn(2, 16, 5, 7, generator=generator) + 1 for _ in range(2))  # feature maps (b, c, h, w)

# %% [markdown]
# ## Layer normalisation of a feature map
#
# The paper writes $\mathrm{LN}(m)$ and does not define its axes. Here it acts over the **channels of each cell**, as in transformers: with
# mean $\mu$ and (biased) variance $\sigma^2$ over the channels, $\mathrm{LN}(m)=\gamma\,(m-\mu)/\sqrt{\sigma^2+10^{-5}}+\delta$, with one
# $\gamma$ and one $\delta$ per channel.
#
# **Exercise 1.** Write it, without calling a layer of torch.

# %% [markdown] lang="zh"
# ## 特征图的层归一化
#
# 论文写作 $\mathrm{LN}(m)$，没有说明作用在哪些轴上。这里与 Transformer 相同，对**每个位置的各通道**归一化：设通道的均值为 $\mu$，（有偏）方差为 $\sigma^2$，
# 则 $\mathrm{LN}(m)=\gamma\,(m-\mu)/\sqrt{\sigma^2+10^{-5}}+\delta$，每个通道有各自的 $\gamma$ 与 $\delta$。
#
# **练习 1.** 写出层归一化，不调用 torch 现成的层。


# %% tags=["exercise"]
def channel_norm(m, gamma, delta):
    """Normalise the channels of every cell; m (b, c, h, w), gamma and delta (c,)."""
    ### BEGIN SOLUTION
    mean, variance = m.mean(1, keepdim=True), m.var(1, correction=0, keepdim=True)
    return gamma[:, None, None] * (m - mean) / (variance + 1e-5).sqrt() + delta[:, None, None]
    ### END SOLUTION
    ### MISTAKE correction=0 => correction=1
    ### MISTAKE m.mean(1, keepdim=True) => m.mean((1, 2, 3), keepdim=True)
    ### MISTAKE gamma[:, None, None] * (m - mean) => (m - mean)


# %% tags=["check"]
layer = ChannelNorm(16)
with torch.no_grad():
    layer.weight.copy_(torch.rand(16, generator=generator) + 0.5)
    layer.bias.copy_(torch.randn(16, generator=generator))
    found = channel_norm(image, layer.weight, layer.bias)
    assert found.shape == image.shape, f"shape {tuple(found.shape)}, not {tuple(image.shape)}"
    assert torch.allclose(found, layer(image), atol=1e-5), "differs from medsegdiff.nn.fusion.ChannelNorm"
print("right")

# %% [markdown]
# ## The affinity, and what its sign means
#
# Equation 3 is $\mathcal A(m_I,m_x)=\bigl(\mathrm{LN}(m_I)\otimes\mathrm{LN}(m_x)\bigr)\otimes m_I$, all products element-wise. Averaged
# over the $C$ channels of a cell (with $\gamma=1,\delta=0$), the product in brackets is
#
# $$\frac1C\sum_c\frac{(m_{I,c}-\mu_I)(m_{x,c}-\mu_x)}{\sigma_I\,\sigma_x}=\rho,$$
#
# the correlation of the two feature vectors, between $-1$ and $1$. That is what the maps of the chapter show, and why they are signed.
#
# **Exercise 2.** Write equation 3, and the map that is shown: the affinity averaged over the channels.

# %% [markdown] lang="zh"
# ## 亲和图及其符号的含义
#
# 公式 3 是 $\mathcal A(m_I,m_x)=\bigl(\mathrm{LN}(m_I)\otimes\mathrm{LN}(m_x)\bigr)\otimes m_I$，所有乘积都是逐元素的。
# 把括号中的乘积对一个位置的 $C$ 个通道取平均（$\gamma=1,\delta=0$），得到
#
# $$\frac1C\sum_c\frac{(m_{I,c}-\mu_I)(m_{x,c}-\mu_x)}{\sigma_I\,\sigma_x}=\rho,$$
#
# 即两个特征向量的相关系数，取值在 $-1$ 与 $1$ 之间。这一章显示的亲和图就是它，所以带有符号：同向为正，反向为负。
#
# **练习 2.** 写出公式 3，以及所显示的图：对通道取平均的亲和图。


# %% tags=["exercise"]
def dynamic_encoding(image, mask, norm_image, norm_mask):
    """Return A(m_I, m_x); image and mask (b, c, h, w), the norms are functions of a feature map."""
    ### BEGIN SOLUTION
    return norm_image(image) * norm_mask(mask) * image
    ### END SOLUTION
    ### MISTAKE * norm_mask(mask) * image => * norm_mask(mask) * mask
    ### MISTAKE norm_image(image) * norm_mask(mask) * image => image * mask * image


def shown_affinity(image, mask, norm_image, norm_mask):
    """Return the affinity averaged over channels, (b, h, w)."""
    ### BEGIN SOLUTION
    return (norm_image(image) * norm_mask(mask)).mean(1)
    ### END SOLUTION
    ### MISTAKE .mean(1) => .abs().mean(1)


# %% tags=["check"]
module = DynamicEncoding(16)
with torch.no_grad():
    norms = (module.norm_image, module.norm_mask)
    affinity = shown_affinity(image, mask, *norms)
    for b, y, x in ((0, 0, 0), (1, 4, 6), (0, 2, 3)):
        rho = torch.corrcoef(torch.stack([image[b, :, y, x], mask[b, :, y, x]]))[0, 1]
        assert abs(affinity[b, y, x] - rho) < 1e-3, f"affinity {affinity[b, y, x]:.3f}, correlation {rho:.3f}"
    module.norm_mask.weight.mul_(2)
    module.norm_image.bias.add_(0.5)
    found = dynamic_encoding(image, mask, *norms)
    assert torch.allclose(found, module(image, mask), atol=1e-5), "differs from medsegdiff.nn.fusion.DynamicEncoding"
print("right")

# %% [markdown]
# ## How t reaches the image features
#
# The image encoder has no time embedding (F2). Before the first fusion, $m_I$ is the same at every step; after it, $\mathcal A(m_I,m_x)$
# depends on $t$ through $m_x$. So the first stage of the image encoder runs once per image and is shared by all members and steps.
#
# **Exercise 3.** A single image is *broadcast* over all samples. Return the re-weighted image features of many noisy masks from the
# normalised image feature, computed once: no copies of it before they are needed.

# %% [markdown] lang="zh"
# ## t 怎样影响图像特征
#
# 图像编码器没有时间嵌入（F2）。第一次融合之前，$m_I$ 在每一步都相同；融合之后，$\mathcal A(m_I,m_x)$ 经由 $m_x$ 依赖于 $t$。
# 关掉公式 3，就切断了这条唯一的途径。图像编码器的第一级因此每张图像只需运行一次，由所有成员、所有步共用。
#
# **练习 3.** 一张图像要*广播*到所有样本。图像特征只归一化一次，由它得到许多带噪掩膜各自的重新加权的图像特征；不要提前复制。


# %% tags=["exercise"]
def fused_for_all(image, masks, norm_image, norm_mask):
    """Return A(m_I, m_x) of one image (1, c, h, w) and n masks (n, c, h, w), calling norm_image once."""
    ### BEGIN SOLUTION
    return norm_image(image) * image * norm_mask(masks)
    ### END SOLUTION
    ### MISTAKE norm_image(image) * image => norm_image(image.expand_as(masks)) * image
    ### MISTAKE norm_image(image) * image * norm_mask(masks) => norm_image(image) * norm_mask(masks)


# %% tags=["check"]
calls = []


def counted(m):
    calls.append(tuple(m.shape))
    return module.norm_image(m)


with torch.no_grad():
    masks = torch.randn(6, 16, 5, 7, generator=generator)
    found = fused_for_all(image[:1], masks, counted, module.norm_mask)
    known = torch.cat([module(image[:1], one[None]) for one in masks])
assert found.shape == known.shape and torch.allclose(found, known, atol=1e-5)
assert calls == [(1, 16, 5, 7)], f"norm_image was called with {calls}; the image needs it once"
print("right: the image part is computed once for six masks")
