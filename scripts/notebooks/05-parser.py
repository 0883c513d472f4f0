# %% [markdown]
# # 5. FF-Parser
#
# Goes with chapter 5 of the course (`make course`, then `?chapter=parser`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 5. 特征频率解析器 FF-Parser
#
# 对每个通道、每个频率乘以一个可学习的复数。
#
# 对应课程第 5 章（运行 `make course`，再打开 `?chapter=parser&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import torch

from medsegdiff.nn.spectral import FFParser, mirror

generator = torch.Generator().manual_seed(0)
m = torch.randn(2, 3, 8, 10, generator=generator)  # feature maps (b, c, h, w)

# %% [markdown]
# ## The filter
#
# $M=\mathcal F(m)$, $M'=A\otimes M$, $m'=\mathcal F^{-1}(M')$, with a complex $A$ per channel and frequency. A real map of height $h$ and
# width $w$ has a Hermitian spectrum, so half of it, $h\times(\lfloor w/2\rfloor+1)$, says everything: `torch.fft.rfft2`. The package keeps
# the real and the imaginary part of $A$ as one real tensor $(2,c,h,\lfloor w/2\rfloor+1)$, because optimisers and files prefer real numbers.
#
# **Exercise 1.** Write the FF-Parser.

# %% [markdown] lang="zh"
# ## 滤波器
#
# $M=\mathcal F(m)$，$M'=A\otimes M$，$m'=\mathcal F^{-1}(M')$，其中每个通道、每个频率有一个复数 $A$。高 $h$、宽 $w$ 的实数图，频谱满足共轭对称，
# 因此保留一半，即 $h\times(\lfloor w/2\rfloor+1)$，就包含全部信息：`torch.fft.rfft2`。本项目把 $A$ 的实部与虚部存成一个实张量 $(2,c,h,\lfloor w/2\rfloor+1)$，
# 因为优化器与权重文件更适合处理实数。
#
# **练习 1.** 写出 FF-Parser。


# %% tags=["exercise"]
def ff_parser(m, gain):
    """Filter a map; m (b, c, h, w) real, gain (2, c, h, w // 2 + 1): the real and imaginary part of A."""
    ### BEGIN SOLUTION
    a = torch.complex(gain[0], gain[1])
    return torch.fft.irfft2(a * torch.fft.rfft2(m), s=m.shape[-2:])
    ### END SOLUTION
    ### MISTAKE torch.complex(gain[0], gain[1]) => torch.polar(gain[0], gain[1])
    ### MISTAKE , s=m.shape[-2:] => ,
    ### MISTAKE a * torch.fft.rfft2(m) => a.abs() * torch.fft.rfft2(m)


# %% tags=["check"]
for width in (10, 9):  # even and odd
    layer, inside = FFParser(3, (8, width)), m[..., :width].contiguous()
    with torch.no_grad():
        found = ff_parser(inside, layer.gain)
        assert found.shape == inside.shape, (
            f"width {width}: shape {tuple(found.shape)}; irfft2 cannot guess an odd width"
        )
        assert torch.allclose(found, inside, atol=1e-6), "A starts as the identity"
        layer.gain.add_(torch.randn(layer.gain.shape, generator=generator))
        found = ff_parser(inside, layer.gain)
        assert torch.allclose(found, layer(inside), atol=1e-4), "differs from medsegdiff.nn.spectral.FFParser"
print("right")

# %% [markdown]
# ## Half a spectrum is enough
#
# For real $m$, $M(-u,-v)=\overline{M(u,v)}$. In the order of the FFT the index $-u$ is $(h-u)\bmod h$. The missing columns
# $v=\lfloor w/2\rfloor+1,\dots,w-1$ are the conjugates of the columns $w-v$, with row 0 in place and the other rows reversed. It also
# follows that a full complex $A$ acts on a real map, whose result is taken real, through its Hermitian part only: the paper's full
# spectrum and the one-sided one can express the same filters (F6).
#
# **Exercise 2.** Complete a one-sided spectrum.

# %% [markdown] lang="zh"
# ## 半个频谱就够了
#
# 对实数图 $m$，$M(-u,-v)=\overline{M(u,v)}$。按 FFT 的排列，下标 $-u$ 即 $(h-u)\bmod h$。缺少的各列 $v=\lfloor w/2\rfloor+1,\dots,w-1$ 是第 $w-v$ 列的共轭，
# 其中第 0 行不动，其余各行倒序。由此还可知：覆盖双边频谱的复数 $A$ 作用于实数图并取实部时，起作用的只有它的共轭对称部分，
# 所以论文的双边频谱与这里的单边频谱能表示同样的滤波器（F6）。
#
# **练习 2.** 由单边频谱补全双边频谱。


# %% tags=["exercise"]
def two_sided(half, width):
    """Return the spectrum (h, width) of a real map, given its one-sided spectrum (h, width // 2 + 1)."""
    ### BEGIN SOLUTION
    h = half.shape[0]
    whole = torch.zeros(h, width, dtype=half.dtype)
    for u in range(h):
        for v in range(width):
            whole[u, v] = half[u, v] if v <= width // 2 else half[(h - u) % h, width - v].conj()
    return whole
    ### END SOLUTION
    ### MISTAKE .conj() => * 1
    ### MISTAKE half[(h - u) % h, width - v] => half[u, width - v]


# %% tags=["check"]
for h, w in ((8, 10), (8, 9), (5, 6), (5, 7)):
    one = torch.randn(h, w, generator=generator)
    found = two_sided(torch.fft.rfft2(one), w)
    assert torch.allclose(found, torch.fft.fft2(one), atol=1e-4), f"wrong at {h} x {w}"
    assert torch.allclose(found, mirror(torch.fft.rfft2(one), w), atol=1e-4)
print("right: the same as torch.fft.fft2 and medsegdiff.nn.spectral.mirror")

# %% [markdown]
# ## Every filter is a convolution
#
# With $k=\mathcal F^{-1}(A)$ the convolution theorem says $m'(y,x)=\sum_{p,q}k(p,q)\,m\bigl((y-p)\bmod h,(x-q)\bmod w\bigr)$: a depthwise
# circular convolution whose kernel is as large as the map. A filter that is smooth over frequency has a small kernel, and a sharp
# cut in frequency a long one that rings.
#
# **Exercise 3.** Write the kernel of a filter, and the circular convolution with it (`torch.roll` helps).

# %% [markdown] lang="zh"
# ## 每个滤波器都是卷积
#
# 令 $k=\mathcal F^{-1}(A)$，由卷积定理，$m'(y,x)=\sum_{p,q}k(p,q)\,m\bigl((y-p)\bmod h,(x-q)\bmod w\bigr)$：这是逐通道的循环卷积，核与特征图一样大。
# 随频率平滑变化的滤波器，核很小；在频率上陡峭截断的滤波器，核很长，并产生振铃。
#
# **练习 3.** 写出滤波器的核，以及用它做的循环卷积（可借助 `torch.roll`）。


# %% tags=["exercise"]
def kernel_of(gain, size):
    """Return the kernel (c, h, w) of A; gain (2, c, h, w // 2 + 1)."""
    ### BEGIN SOLUTION
    return torch.fft.irfft2(torch.complex(gain[0], gain[1]), s=size)
    ### END SOLUTION
    ### MISTAKE torch.complex(gain[0], gain[1]) => torch.complex(gain[0], -gain[1])


def circular_convolution(m, kernel):
    """Convolve each channel of m (b, c, h, w) with its kernel (c, h, w), wrapping around."""
    ### BEGIN SOLUTION
    h, w = kernel.shape[-2:]
    shifts = [(p, q) for p in range(h) for q in range(w)]
    return sum(kernel[:, p, q, None, None] * m.roll((p, q), (-2, -1)) for p, q in shifts)
    ### END SOLUTION
    ### MISTAKE m.roll((p, q), (-2, -1)) => m.roll((-p, -q), (-2, -1))


# %% tags=["check"]
layer = FFParser(3, (8, 10))
with torch.no_grad():
    layer.gain.copy_(torch.randn(layer.gain.shape, generator=generator))
    found = circular_convolution(m, kernel_of(layer.gain, (8, 10)))
    assert torch.allclose(found, layer(m), atol=1e-4), "the convolution differs from the filter"
    sharp = torch.zeros(2, 1, 32, 17)
    sharp[0, :, [0, 1, 2, 3, -1, -2, -3], :4] = 1  # a low-pass filter with a sharp edge
    ringing = kernel_of(sharp, (32, 32))[0]
assert ringing.min() < -0.1 * ringing.max(), "a sharp cut in frequency rings: its kernel has negative lobes"
print("right")

# %% [markdown]
# ## Energy
#
# For the unitary transform (`norm="ortho"`) $\sum|m|^2=\sum|\mathcal F m|^2$. From a one-sided spectrum, the columns that stand for two
# must be counted twice: all but $v=0$ and, for even $w$, $v=w/2$.
#
# **Exercise 4.** Compute the energy of a real map from its one-sided unitary spectrum.

# %% [markdown] lang="zh"
# ## 能量
#
# 帕塞瓦尔定理说的是变换：酉变换（`norm="ortho"`）满足 $\sum|m|^2=\sum|\mathcal F m|^2$，滤波器则不保持能量。
# 由单边频谱计算时，一列代表两列的要计两次：除 $v=0$ 以及（$w$ 为偶数时）$v=w/2$ 之外的所有列。
#
# **练习 4.** 由单边的酉频谱计算实数图的能量。


# %% tags=["exercise"]
def energy(half, width):
    """Return sum |m|^2 of a real map (h, width), given rfft2(m, norm="ortho")."""
    ### BEGIN SOLUTION
    weight = torch.full((half.shape[-1],), 2.0)
    weight[0] = 1
    if width % 2 == 0:
        weight[-1] = 1
    return (weight * half.abs().square()).sum()
    ### END SOLUTION
    ### MISTAKE torch.full((half.shape[-1],), 2.0) => torch.full((half.shape[-1],), 1.0)
    ### MISTAKE width % 2 == 0 => width


# %% tags=["check"]
for w in (10, 9):
    one = torch.randn(8, w, generator=generator)
    found, known = energy(torch.fft.rfft2(one, norm="ortho"), w), one.square().sum()
    assert torch.isclose(found, known, rtol=1e-4), f"width {w}: {found:.3f}, but the map has {known:.3f}"
print("right")
