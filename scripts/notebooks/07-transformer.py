# %% [markdown]
# # 7. SS-Former and NBP-Filter
#
# Goes with chapter 7 of the course (`make course`, then `?chapter=transformer`). Every exercise is a function to write; the cell below
# it checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 7. SS-Former 与 NBP-Filter
#
# 傅里叶域的亲和矩阵：没有滤波器时，它等价于空域的线性注意力；有了滤波器才有所不同。
#
# 对应课程第 7 章（运行 `make course`，再打开 `?chapter=transformer&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from medsegdiff.nn.spectral import NBPFilter
from medsegdiff.nn.transformer import SpectrumSpaceModule

generator = torch.Generator().manual_seed(0)
n, d = 24, 8  # tokens, width
q, r, v = (torch.randn(n, d, generator=generator) for _ in range(3))  # query stream, key stream, values
w_q, w_k = (torch.randn(d, d, generator=generator, dtype=torch.complex64) for _ in range(2))

# %% [markdown]
# ## The affinity of frequencies
#
# $M=(\mathcal F(q)W_q)(\mathcal F(r)W_k)^\top$, with the unitary transform along the tokens, complex weights, and a transpose without
# conjugate. The package divides by $\sqrt d\,n$, so that the scale depends neither on the width nor on the number of tokens (F23).
#
# **Exercise 1.** Write it.

# %% [markdown] lang="zh"
# ## 频率之间的亲和矩阵
#
# $M=(\mathcal F(q)W_q)(\mathcal F(r)W_k)^\top$：沿词元做酉变换，权重为复数，转置不取共轭，也没有 softmax。$M$ 的行与列是两路词元的频率。
# 本项目再除以 $\sqrt d\,n$，使数值大小既不依赖于宽度，也不依赖于词元数（F23）。
#
# **练习 1.** 写出亲和矩阵。


# %% tags=["exercise"]
def affinity(q, r, w_q, w_k):
    """Return M / (sqrt(d) n), complex (n, n); q and r (n, d) real, w_q and w_k (d, d) complex."""
    ### BEGIN SOLUTION
    n, d = q.shape
    left, right = torch.fft.fft(q, dim=0, norm="ortho") @ w_q, torch.fft.fft(r, dim=0, norm="ortho") @ w_k
    return left @ right.T / (math.sqrt(d) * n)
    ### END SOLUTION
    ### MISTAKE left @ right.T => left @ right.mH
    ### MISTAKE torch.fft.fft(q, dim=0, norm="ortho") => torch.fft.fft(q, dim=1, norm="ortho")
    ### MISTAKE (math.sqrt(d) * n) => math.sqrt(d)


# %% tags=["check"]
module = SpectrumSpaceModule(d, 1, 16, band="nbp", nbp_blocks=1, nbp_width=4)
with torch.no_grad():
    given = [torch.complex(*weight.weight) for weight in (module.query, module.key)]
    found, known = affinity(q, r, *given), module.affinity(q[None], r[None])[0, 0]
    assert found.shape == known.shape, f"shape {tuple(found.shape)}, not {tuple(known.shape)}"
    assert torch.allclose(found, known, atol=1e-5), (
        "differs from medsegdiff.nn.transformer.SpectrumSpaceModule.affinity"
    )
print("right")

# %% [markdown]
# ## Without a filter the transforms cancel
#
# Let $F$ be the matrix of the unitary transform, symmetric, with $F^{-1}=\overline F$. Then $M=Fq\,W_qW_k^\top\,r^\top F^\top$. Transform back
# along both axes: $F^{-1}MF^{-\top}=q\,W_qW_k^\top\,r^\top$. The real part is taken and the values are real, so
#
# $$\mathrm{Re}\,\mathcal F^{-1}[M]\;v=q\;\mathrm{Re}(W_qW_k^\top)\;(r^\top v).$$
#
# Read from the right, this never forms an $n\times n$ matrix: $r^\top v$ is $d\times d$. The cost falls from $O(n^2d)$ to $O(nd^2)$: this
# is linear attention. Only a filter that varies over frequency, $S_t\otimes M$, makes the module more than that (F24).
#
# **Exercise 2.** Write both, without the division of exercise 1: through the Fourier domain, and in space without an $n\times n$ matrix.

# %% [markdown] lang="zh"
# ## 没有滤波器时，变换相互抵消
#
# 设 $F$ 为酉变换的矩阵，它是对称的，且 $F^{-1}=\overline F$。于是 $M=Fq\,W_qW_k^\top\,r^\top F^\top$。沿两个轴变换回去：$F^{-1}MF^{-\top}=q\,W_qW_k^\top\,r^\top$。
# 取实部，而值是实数，因此
#
# $$\mathrm{Re}\,\mathcal F^{-1}[M]\;v=q\;\mathrm{Re}(W_qW_k^\top)\;(r^\top v).$$
#
# 从右往左计算，就不必构造 $n\times n$ 的矩阵：$r^\top v$ 是 $d\times d$ 的。代价从 $O(n^2d)$ 降到 $O(nd^2)$，这就是线性注意力。
# 只有随频率变化的滤波器 $S_t\otimes M$，才使这个模块不止于此（F24）。
#
# **练习 2.** 两种算法都写出来（不做练习 1 中的除法）：经过傅里叶域；以及在空域计算，不构造 $n\times n$ 的矩阵。


# %% tags=["exercise"]
def through_fourier(q, r, v, w_q, w_k, surface):
    """Return Re F^-1(surface * M) v, (n, d); surface (n, n) real."""
    ### BEGIN SOLUTION
    m = (torch.fft.fft(q, dim=0, norm="ortho") @ w_q) @ (torch.fft.fft(r, dim=0, norm="ortho") @ w_k).T
    return torch.fft.ifft2(surface * m, norm="ortho").real @ v
    ### END SOLUTION
    ### MISTAKE torch.fft.ifft2(surface * m, norm="ortho").real => torch.fft.ifft(surface * m, dim=0, norm="ortho").real
    ### MISTAKE surface * m => m


def in_space(q, r, v, w_q, w_k):
    """Return the same for a surface of ones, at a cost linear in the number of tokens."""
    ### BEGIN SOLUTION
    return q @ ((w_q @ w_k.T).real @ (r.T @ v))
    ### END SOLUTION
    ### MISTAKE (w_q @ w_k.T).real => w_q.real @ w_k.real.T
    ### MISTAKE q @ ((w_q @ w_k.T).real @ (r.T @ v)) => ((q @ (w_q @ w_k.T).real) @ r.T) @ v


# %% tags=["check"]
ones = torch.ones(n, n)
whole, linear = through_fourier(q, r, v, w_q, w_k, ones), in_space(q, r, v, w_q, w_k)
assert whole.shape == linear.shape == (n, d), f"shapes {tuple(whole.shape)}, {tuple(linear.shape)}"
assert torch.allclose(whole, linear, rtol=1e-3, atol=1e-2), "without a filter the two must agree"
flat = through_fourier(q, r, v, w_q, w_k, 0.5 * ones)
assert torch.allclose(flat, 0.5 * linear, rtol=1e-3, atol=1e-2), "a filter that is flat over frequency only scales"
band = torch.fft.fftfreq(n).abs() < 0.2
assert not torch.allclose(through_fourier(q, r, v, w_q, w_k, band[:, None] * ones), linear, atol=1), (
    "a band must matter"
)
many = [torch.randn(512, d, generator=generator) for _ in range(3)]
with FlopCounterMode(display=False) as counter:
    in_space(*many, w_q, w_k)
assert counter.get_total_flops() < 8 * 512 * d * d, "the products still form a matrix of 512 x 512 tokens"
print("right; operations for 512 tokens:", counter.get_total_flops(), "instead of about", 4 * 512 * 512 * d)

# %% [markdown]
# ## A sine of complex numbers
#
# arXiv v1 applies $\sin$ to $M$, which is complex. From $\sin z=(e^{iz}-e^{-iz})/2i$ with $z=a+ib$,
#
# $$\sin z=\sin a\,\cosh b+i\,\cos a\,\sinh b,\qquad |\sin z|^2=\sin^2a+\sinh^2b .$$
#
# Along the real axis it folds large values back, along the imaginary axis it grows without bound, and for small $|z|$ it is the identity.
#
# **Exercise 3.** Write the sine of complex numbers from functions of real ones.

# %% [markdown] lang="zh"
# ## 复数的正弦
#
# arXiv v1 对复数 $M$ 取 $\sin$。由 $\sin z=(e^{iz}-e^{-iz})/2i$，$z=a+ib$，
#
# $$\sin z=\sin a\,\cosh b+i\,\cos a\,\sinh b,\qquad |\sin z|^2=\sin^2a+\sinh^2b .$$
#
# 沿实轴，它把较大的值折回；沿虚轴，它无界增长；$|z|$ 较小时，它近似于恒等函数。
#
# **练习 3.** 只用实函数写出复数的正弦。


# %% tags=["exercise"]
def complex_sine(z):
    """Return sin z of a complex tensor, using functions of real numbers only."""
    ### BEGIN SOLUTION
    a, b = z.real, z.imag
    return torch.complex(torch.sin(a) * torch.cosh(b), torch.cos(a) * torch.sinh(b))
    ### END SOLUTION
    ### MISTAKE torch.complex(torch.sin(a) * torch.cosh(b), torch.cos(a) * torch.sinh(b)) => torch.complex(torch.sin(a), torch.sin(b))
    ### MISTAKE torch.cos(a) * torch.sinh(b) => torch.cos(a) * torch.cosh(b)


# %% tags=["check"]
z = 2 * torch.randn(100, generator=generator, dtype=torch.complex64)
assert torch.allclose(complex_sine(z), torch.sin(z), rtol=1e-4, atol=1e-5), "differs from torch.sin"
small = 0.01 * z
assert (complex_sine(small) - small).abs().max() < 1e-4, "small values hardly change"
print("right")

# %% [markdown]
# ## A band over two frequencies
#
# The NBP-Filter is a function of coordinates, so it has no fixed size. In the variant with Fourier features it begins as a band (F19):
#
# $$\mathrm{logit}\,S=4-\frac{(|u|-c_u)^2}{2w_u^2}-\frac{(|v|-c_v)^2}{2w_v^2},$$
#
# with $u,v$ the signed token frequencies in $[-1,1)$, in units of the Nyquist frequency and in the order of the FFT.
#
# **Exercise 4.** Write this surface.

# %% [markdown] lang="zh"
# ## 两个频率上的通带
#
# NBP-Filter 是频率坐标与 t 的函数，没有固定的尺寸，因此适用于任何数量的词元。在使用傅里叶特征的变体中，它的初始形状是一条通带（F19）：
#
# $$\mathrm{logit}\,S=4-\frac{(|u|-c_u)^2}{2w_u^2}-\frac{(|v|-c_v)^2}{2w_v^2},$$
#
# 其中 $u,v$ 是词元的有符号频率，取值在 $[-1,1)$ 内，以奈奎斯特频率为单位，按 FFT 的顺序排列。
#
# **练习 4.** 写出这个曲面。


# %% tags=["exercise"]
def band_surface(n, centre, width):
    """Return S, (n, n); centre and width (2,): of u (rows) and v (columns)."""
    ### BEGIN SOLUTION
    frequency = 2 * torch.fft.fftfreq(n)
    u, v = ((frequency.abs() - centre[i]).square() / (2 * width[i] ** 2) for i in range(2))
    return torch.sigmoid(4 - u[:, None] - v[None])
    ### END SOLUTION
    ### MISTAKE 2 * torch.fft.fftfreq(n) => torch.fft.fftfreq(n)
    ### MISTAKE frequency.abs() - centre[i] => frequency - centre[i]
    ### MISTAKE u[:, None] - v[None] => v[:, None] - u[None]


# %% tags=["check"]
layer = NBPFilter(time=8, width=4, blocks=2, octaves=2)
with torch.no_grad():
    layer.centre.copy_(torch.tensor([0.3, 0.6]))
    layer.log_width.copy_(torch.tensor([0.2, 0.1]).log())
    for count in (16, 49, 64):
        found = band_surface(count, layer.centre, layer.log_width.exp())
        assert torch.allclose(found, layer(count, torch.randn(1, 8))[0, 0], atol=1e-5), f"wrong for {count} tokens"
print("right: one function for any number of tokens")
