# %% [markdown]
# # 6. The anchor condition
#
# Goes with chapter 6 of the course (`make course`, then `?chapter=anchor`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 6. 锚点条件
#
# 用可学习的高斯核平滑条件网络的特征，再把它作为门控作用于扩散特征。
#
# 对应课程第 6 章（运行 `make course`，再打开 `?chapter=anchor&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import torch
from torch.nn import functional as F

from medsegdiff.nn.anchor import GaussianSpatialAttention

generator = torch.Generator().manual_seed(0)
module = GaussianSpatialAttention(channels=3, window=5)
with torch.no_grad():
    module.mean.copy_(0.5 * torch.randn(3, 2, generator=generator))
    module.log_sigma.copy_(0.4 * torch.randn(3, 2, generator=generator))
anchor = torch.randn(1, 3, 8, 9, generator=generator)  # last feature of the condition network, (1, c, h, w)
feature = torch.randn(4, 6, 8, 9, generator=generator)  # first feature of the diffusion network, four members

# %% [markdown]
# ## A kernel that stays a Gaussian
#
# $$k(u,v)\propto\exp\Bigl(-\frac{(u-\mu_x)^2}{2\sigma_x^2}-\frac{(v-\mu_y)^2}{2\sigma_y^2}\Bigr),\qquad\sum_{u,v}k(u,v)=1,$$
#
# on a window of odd side, with $u$ (columns) and $v$ (rows) counted from its middle. Mean and $\log\sigma$ are parameters, the kernel is
# computed from them in every forward pass: a free kernel that only *starts* as a Gaussian would not remain one.
#
# **Exercise 1.** Write the kernels.

# %% [markdown] lang="zh"
# ## 始终保持高斯形状的核
#
# $$k(u,v)\propto\exp\Bigl(-\frac{(u-\mu_x)^2}{2\sigma_x^2}-\frac{(v-\mu_y)^2}{2\sigma_y^2}\Bigr),\qquad\sum_{u,v}k(u,v)=1,$$
#
# 定义在边长为奇数的窗口上，$u$（列）与 $v$（行）从窗口中心算起。均值与 $\log\sigma$ 是参数，每次前向都由它们重新计算核：
# 如果核是自由参数，只是*初始化*为高斯，训练之后就不再是高斯了。
#
# **练习 1.** 写出这些核。


# %% tags=["exercise"]
def gaussian_kernels(mean, log_sigma, window):
    """Return (c, 1, window, window), rows first; mean and log_sigma (c, 2): x, then y, in cells."""
    ### BEGIN SOLUTION
    offset = torch.arange(window) - window // 2
    exponent = (offset - mean[:, :, None]).square() / (2 * (2 * log_sigma).exp()[:, :, None])
    k = torch.exp(-exponent[:, 1, :, None] - exponent[:, 0, None, :])
    return (k / k.sum((1, 2), keepdim=True))[:, None]
    ### END SOLUTION
    ### MISTAKE -exponent[:, 1, :, None] - exponent[:, 0, None, :] => -exponent[:, 0, :, None] - exponent[:, 1, None, :]
    ### MISTAKE k / k.sum((1, 2), keepdim=True) => k / k.sum()
    ### MISTAKE (2 * (2 * log_sigma).exp()[:, :, None]) => (2 * log_sigma.exp()[:, :, None])


# %% tags=["check"]
with torch.no_grad():
    for window in (3, 5, 7):
        module.window = window
        found, known = gaussian_kernels(module.mean, module.log_sigma, window), module.kernel()
        assert found.shape == known.shape, f"shape {tuple(found.shape)}, not {tuple(known.shape)}"
        assert torch.allclose(found.sum((1, 2, 3)), torch.ones(3), atol=1e-6), "every kernel sums to one"
        assert torch.allclose(found, known, atol=1e-6), "differs from medsegdiff.nn.anchor (x is the column, y the row)"
    module.window = 5
print("right")

# %% [markdown]
# ## From anchor to gate
#
# $$f_{anc}=\max(f_c^{-1}*k_{Gauss},\ f_c^{-1}),\qquad f_d'^{\,0}=\mathrm{Sigmoid}(f_{anc}*k_{1\times1})\cdot f_d^{\,0}+f_d^{\,0}.$$
#
# Smoothing with weights that sum to one gives at most the maximum of the neighbourhood, so it lowers peaks; the maximum with the raw map
# keeps them and adds a soft margin. The sigmoid is in $(0,1)$ and the residual adds one, so the factor of every diffusion feature is in
# $(1,2)$: the anchor can stress a place, but cannot silence one. This is how it steadies the process without deciding its result.
#
# **Exercise 2.** Write both equations. Smooth each channel with its own kernel and pad by replication; one gate for all channels of $f_d^0$.

# %% [markdown] lang="zh"
# ## 从锚点到门控
#
# $$f_{anc}=\max(f_c^{-1}*k_{Gauss},\ f_c^{-1}),\qquad f_d'^{\,0}=\mathrm{Sigmoid}(f_{anc}*k_{1\times1})\cdot f_d^{\,0}+f_d^{\,0}.$$
#
# 权重之和为一的平滑，结果不超过邻域的最大值，因此会削低峰值；与原图取最大值则保留峰值，并加上一圈柔和的边缘。Sigmoid 的值在 $(0,1)$ 内，残差再加上一，
# 所以扩散特征的每个值都乘以 $(1,2)$ 内的系数：锚点可以突出某个位置，却不能使它归零。它因此使扩散过程更稳定，而不决定结果。
#
# **练习 2.** 写出这两个公式。各通道用各自的核平滑，边界用复制填充；$f_d^0$ 的所有通道共用一张门控图。


# %% tags=["exercise"]
def gate(anchor, kernels, weight, bias):
    """Return the gate (1, 1, h, w); anchor (1, c, h, w), kernels (c, 1, w, w), weight (1, c, 1, 1) and bias (1,) of k_1x1."""
    ### BEGIN SOLUTION
    padded = F.pad(anchor, (kernels.shape[-1] // 2,) * 4, mode="replicate")
    smoothed = F.conv2d(padded, kernels, groups=anchor.shape[1])
    return torch.sigmoid(F.conv2d(torch.maximum(smoothed, anchor), weight, bias))
    ### END SOLUTION
    ### MISTAKE mode="replicate" => mode="constant"
    ### MISTAKE torch.maximum(smoothed, anchor) => smoothed
    ### MISTAKE torch.sigmoid(F.conv2d => torch.tanh(F.conv2d


def gated(anchor, feature, kernels, weight, bias):
    """Return f_d'^0 (b, d, h, w) for the features of all members."""
    ### BEGIN SOLUTION
    return (1 + gate(anchor, kernels, weight, bias)) * feature
    ### END SOLUTION
    ### MISTAKE (1 + gate(anchor, kernels, weight, bias)) * feature => gate(anchor, kernels, weight, bias) * feature


# %% tags=["check"]
with torch.no_grad():
    given = (module.kernel(), module.reduce.weight, module.reduce.bias)
    found = gate(anchor, *given)
    assert found.shape == (1, 1, 8, 9), f"the gate has shape {tuple(found.shape)}; it is one map"
    assert torch.allclose(found, module.gate(anchor), atol=1e-5), (
        "differs from medsegdiff.nn.anchor.GaussianSpatialAttention"
    )
    found = gated(anchor, feature, *given)
    assert torch.allclose(found, module(anchor, feature), atol=1e-5)
    ratio = found / feature
    assert ratio.min() > 1 and ratio.max() < 2, "every feature is multiplied by 1 to 2"
print(f"right; the gate multiplies by {ratio.min():.2f} to {ratio.max():.2f}")

# %% [markdown]
# ## Reading a trained kernel
#
# A kernel is a distribution over offsets, so its centre and width are a mean and a standard deviation. A window of $5\times5$ cells cuts off
# a wide Gaussian: with $\sigma=4$ it is nearly flat, and its measured width approaches $\sqrt2$, that of five equal weights.
#
# **Exercise 3.** Measure centre and width of a kernel, per axis.

# %% [markdown] lang="zh"
# ## 读懂训练好的核
#
# 核是偏移量上的一个分布，它的中心与宽度就是均值与标准差。$5\times5$ 的窗口会截断较宽的高斯：$\sigma=4$ 时核几乎是平的，
# 测得的宽度接近 $\sqrt2$，即五个相等权重的宽度。
#
# **练习 3.** 沿每个轴测量核的中心与宽度。


# %% tags=["exercise"]
def moments(kernel):
    """Return mean and standard deviation in cells, each (2,): x, then y; kernel (w, w), rows first, sums to one."""
    ### BEGIN SOLUTION
    offset = torch.arange(len(kernel)) - len(kernel) // 2
    lines = torch.stack([kernel.sum(0), kernel.sum(1)])
    mean = (lines * offset).sum(1)
    return mean, (lines * (offset - mean[:, None]).square()).sum(1).sqrt()
    ### END SOLUTION
    ### MISTAKE [kernel.sum(0), kernel.sum(1)] => [kernel.sum(1), kernel.sum(0)]
    ### MISTAKE (offset - mean[:, None]).square() => offset.square()


# %% tags=["check"]
wide = GaussianSpatialAttention(channels=1, window=15)
with torch.no_grad():
    wide.mean.copy_(torch.tensor([[1.0, -2.0]]))
    wide.log_sigma.copy_(torch.tensor([[0.8, 1.5]]).log())
    mean, sigma = moments(wide.kernel()[0, 0])
    assert torch.allclose(mean, torch.tensor([1.0, -2.0]), atol=0.02), f"centre {mean.tolist()}, not (1, -2)"
    assert torch.allclose(sigma, torch.tensor([0.8, 1.5]), atol=0.02), f"width {sigma.tolist()}, not (0.8, 1.5)"
    narrow = GaussianSpatialAttention(channels=1, window=5)
    _, cut = moments(narrow.kernel(sigma=4.0)[0, 0])
    assert torch.allclose(cut, torch.full((2,), 2**0.5), atol=0.06)
print(f"right; sigma = 4 in a window of five cells measures {cut[0]:.2f}")
