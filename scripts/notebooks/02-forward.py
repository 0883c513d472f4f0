# %% [markdown]
# # 2. The forward process
#
# Goes with chapter 2 of the course (`make course`, then `?chapter=forward`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 2. 前向过程
#
# 怎样一步写出 $x_t$，以及掩膜为什么需要较小的信号幅度。
#
# 对应课程第 2 章（运行 `make course`，再打开 `?chapter=forward&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import math

import numpy as np
import torch

from medsegdiff import Diffusion, DiffusionConfig, NoiseSchedule
from medsegdiff.data.synthetic import draw

drawn = draw("skin-lesion", 3, 64, raters=0)

# %% [markdown]
# ## From one step to all steps
#
# One step is $q(x_t\mid x_{t-1})=\mathcal N(\sqrt{1-\beta_t}\,x_{t-1},\beta_t I)$. Put one step into the next:
#
# $$x_t=\sqrt{\alpha_t}\bigl(\sqrt{\alpha_{t-1}}\,x_{t-2}+\sqrt{\beta_{t-1}}\,\epsilon_1\bigr)+\sqrt{\beta_t}\,\epsilon_2,
# \qquad \alpha_t=1-\beta_t .$$
#
# The two noises are independent, so their variances add: $\alpha_t\beta_{t-1}+\beta_t=\alpha_t(1-\alpha_{t-1})+1-\alpha_t
# =1-\alpha_t\alpha_{t-1}$. By induction, with $\bar\alpha_t=\prod_{s\le t}\alpha_s$,
#
# $$q(x_t\mid x_0)=\mathcal N\bigl(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)\,I\bigr).$$
#
# **Exercise 1.** Write $\bar\alpha_t$ of the linear schedule: $\beta$ rises evenly from $10^{-4}$ to $0.02$ over 1000 steps. For
# another number of steps $T$, both ends are multiplied by $1000/T$.

# %% [markdown] lang="zh"
# ## 从一步到任意多步
#
# 一步加噪是 $q(x_t\mid x_{t-1})=\mathcal N(\sqrt{1-\beta_t}\,x_{t-1},\beta_t I)$。把前一步代入后一步：
#
# $$x_t=\sqrt{\alpha_t}\bigl(\sqrt{\alpha_{t-1}}\,x_{t-2}+\sqrt{\beta_{t-1}}\,\epsilon_1\bigr)+\sqrt{\beta_t}\,\epsilon_2,
# \qquad \alpha_t=1-\beta_t .$$
#
# 两份噪声相互独立，方差相加：$\alpha_t\beta_{t-1}+\beta_t=\alpha_t(1-\alpha_{t-1})+1-\alpha_t=1-\alpha_t\alpha_{t-1}$。依此归纳，记 $\bar\alpha_t=\prod_{s\le t}\alpha_s$，则
#
# $$q(x_t\mid x_0)=\mathcal N\bigl(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)\,I\bigr).$$
#
# **练习 1.** 写出线性调度的 $\bar\alpha_t$：$\beta$ 在 1000 步内从 $10^{-4}$ 均匀增至 $0.02$；步数为其他 $T$ 时，两端都乘以 $1000/T$。


# %% tags=["exercise"]
def linear_alpha_bar(timesteps):
    """Return alpha_bar_t of the linear schedule for t = 0 ... timesteps - 1, float64."""
    ### BEGIN SOLUTION
    beta = torch.linspace(1e-4, 0.02, timesteps, dtype=torch.float64) * (1000 / timesteps)
    return torch.cumprod(1 - beta, 0)
    ### END SOLUTION
    ### MISTAKE * (1000 / timesteps) => * 1
    ### MISTAKE torch.cumprod(1 - beta, 0) => 1 - torch.cumsum(beta, 0)


# %% tags=["check"]
for timesteps in (1000, 100, 250):
    found, known = linear_alpha_bar(timesteps), NoiseSchedule("linear", timesteps).alpha_bar
    assert found.shape == known.shape and torch.allclose(found, known, rtol=1e-9), (
        f"T = {timesteps}: {found[-1]}, {known[-1]}"
    )
print(f"right; signal left at the end of 1000 steps: {float(found[-1]) ** 0.5:.4f}")

# %% [markdown]
# **Exercise 2.** Write `q_sample`: $x_t$ from a clean mask and a given noise, for a batch in which every mask has its own $t$.

# %% [markdown] lang="zh"
# **练习 2.** 写出 `q_sample`：由干净的掩膜和给定的噪声得到 $x_t$。输入是一个批次，其中每张掩膜有各自的 $t$。


# %% tags=["exercise"]
def q_sample(x_0, t, eps, alpha_bar):
    """Return x_t.

    x_0, eps (b, k, h, w); t (b,) integers; alpha_bar (T,).
    """
    ### BEGIN SOLUTION
    a = alpha_bar[t].reshape(-1, 1, 1, 1).to(x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps
    ### END SOLUTION
    ### MISTAKE a.sqrt() * x_0 => a * x_0
    ### MISTAKE (1 - a).sqrt() * eps => (1 - a) * eps
    ### MISTAKE alpha_bar[t].reshape(-1, 1, 1, 1) => alpha_bar[t].mean()


# %% tags=["check"]
schedule, generator = NoiseSchedule("linear"), torch.Generator().manual_seed(0)
x_0, eps = (torch.randn(4, 1, 8, 8, generator=generator) for _ in range(2))
t = torch.tensor([0, 250, 500, 999])
found, known = q_sample(x_0, t, eps, schedule.alpha_bar), schedule.noised(x_0, t, eps)
assert found.shape == known.shape, f"x_t has shape {tuple(found.shape)}, not {tuple(known.shape)}"
assert torch.allclose(found, known, atol=1e-6), "x_t differs from medsegdiff.NoiseSchedule.noised"
print("right: the same as medsegdiff.NoiseSchedule.noised")

# %% [markdown]
# ## How much noise hides a mask?
#
# With values $\pm\mathrm{scale}$ the signal has power $\mathrm{scale}^2\bar\alpha_t$ and the noise $1-\bar\alpha_t$, so
# $\mathrm{SNR}_t=\mathrm{scale}^2\,\bar\alpha_t/(1-\bar\alpha_t)$. Averaging $n\times n$ pixels of a flat area keeps the signal and
# divides the power of the noise by $n^2$. Multiplying the mask by $c$ is the same as multiplying the noise by $1/c$: only the ratio counts,
# so a smaller scale moves the whole schedule towards noise without another derivation.
#
# **Exercise 3.** Write the SNR in decibels, and the first $t$ at which even the average of $n\times n$ pixels has an SNR below 0 dB.

# %% [markdown] lang="zh"
# ## 多强的噪声才能淹没掩膜
#
# 掩膜取值 $\pm\mathrm{scale}$ 时，信号功率为 $\mathrm{scale}^2\bar\alpha_t$，噪声功率为 $1-\bar\alpha_t$，因此 $\mathrm{SNR}_t=\mathrm{scale}^2\,\bar\alpha_t/(1-\bar\alpha_t)$。
# 在平坦区域对 $n\times n$ 个像素取平均，信号不变，噪声功率降为 $1/n^2$。把掩膜乘以 $c$ 与把噪声乘以 $1/c$ 是一回事，起作用的只有二者之比：
# 减小幅度就使整个调度移向噪声一侧，无需重新推导。
#
# **练习 3.** 写出以分贝表示的信噪比，以及对 $n\times n$ 个像素取平均后信噪比首次低于 0 dB 的 $t$。


# %% tags=["exercise"]
def decibels(alpha_bar, scale):
    """Return 10 log10 of the signal-to-noise ratio per pixel."""
    ### BEGIN SOLUTION
    return 10 * torch.log10(scale**2 * alpha_bar / (1 - alpha_bar))
    ### END SOLUTION
    ### MISTAKE scale**2 * => scale *
    ### MISTAKE 10 * torch.log10 => 20 * torch.log10


def first_lost(alpha_bar, scale, n):
    """Return the first t at which the mean of n x n pixels has an SNR below 0 dB, or None."""
    ### BEGIN SOLUTION
    below = torch.nonzero(decibels(alpha_bar, scale) + 20 * math.log10(n) < 0)
    return int(below[0]) if len(below) else None
    ### END SOLUTION
    ### MISTAKE 20 * math.log10(n) => 10 * math.log10(n)


# %% tags=["check"]
mask = torch.from_numpy(2.0 * (drawn.labels > 0) - 1)
noise = torch.randn(2000, 9, 9, generator=generator, dtype=torch.float64)
for scale, t in ((1.0, 300), (0.2, 100)):  # measured on a flat patch of 9 x 9 pixels
    a = float(schedule.alpha_bar_at(t))
    patch = scale * a**0.5 + (1 - a) ** 0.5 * noise
    measured = 10 * math.log10(float(patch.mean() ** 2 / patch.var()))
    assert abs(float(decibels(torch.tensor(a), scale)) - measured) < 0.3, f"measured {measured:.1f} dB per pixel"
    averaged = 10 * math.log10(float(patch.mean() ** 2 / patch.mean((1, 2)).var()))
    assert abs(averaged - measured - 20 * math.log10(9)) < 0.5
lost = {scale: first_lost(schedule.alpha_bar, scale, 9) for scale in (1.0, 0.5, 0.2)}
for scale, t in lost.items():
    above = [scale**2 * 81 * float(a) >= 1 - float(a) for a in schedule.alpha_bar]
    assert t == above.index(False), f"scale {scale}: {t}, not {above.index(False)}; 9 x 9 pixels divide the power by 81"
assert first_lost(schedule.alpha_bar[:10], 1.0, 9) is None
print("right; a 9 x 9 average loses the mask from t =", lost)

# %% [markdown]
# **Exercise 4.** The floor of Dice. Take the sign of pure noise as a mask: what Dice does it have with a mask that covers the share $a$
# of the image, in expectation? (Half of the pixels are marked, and half of the mask is hit.)

# %% [markdown] lang="zh"
# **练习 4.** Dice 的下限。把纯噪声的符号当作掩膜，它与一张占图像比例为 $a$ 的掩膜的 Dice，期望是多少？（有一半像素被标注，掩膜也有一半被命中。）


# %% tags=["exercise"]
def dice_of_noise(a):
    """Return the Dice of the sign of pure noise with a mask that covers the share a of the image."""
    ### BEGIN SOLUTION
    return 2 * (a / 2) / (1 / 2 + a)
    ### END SOLUTION
    ### MISTAKE 2 * (a / 2) / (1 / 2 + a) => a
    ### MISTAKE 2 * (a / 2) / (1 / 2 + a) => 0.5


# %% tags=["check"]
truth = drawn.labels > 0
rng = np.random.default_rng(0)
marked = rng.standard_normal((200, *truth.shape)) > 0
measured = np.mean([2 * (m & truth).sum() / (m.sum() + truth.sum()) for m in marked])
assert abs(dice_of_noise(truth.mean()) - measured) < 0.01, (
    f"measured {measured:.3f}, found {dice_of_noise(truth.mean()):.3f}"
)
half = Diffusion(DiffusionConfig(scale=0.2)).from_labels(torch.from_numpy(drawn.labels)[None])
assert set(half.unique().tolist()) == {np.float32(-0.2), np.float32(0.2)}  # the package's masks are -scale and scale
print(f"right; for this lesion {measured:.2f}")
