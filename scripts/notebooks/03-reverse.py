# %% [markdown]
# # 3. The reverse process
#
# Goes with chapter 3 of the course (`make course`, then `?chapter=reverse`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 3. 反向过程
#
# 后验均值、三种预测量之间的换算、从 DDPM 到 DDIM，以及一步为什么不够。
#
# 对应课程第 3 章（运行 `make course`，再打开 `?chapter=reverse&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import torch

from medsegdiff import NoiseSchedule
from medsegdiff.sampling import MemberNoise, spaced
from medsegdiff.sampling.ddim import DDIM

schedule = NoiseSchedule("linear")
generator = torch.Generator().manual_seed(0)
x_0, eps = (torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))

# %% [markdown]
# ## The posterior of one step back
#
# For $s<t$ let $\alpha=\bar\alpha_t/\bar\alpha_s$ and $\beta=1-\alpha$, so that $x_t=\sqrt\alpha\,x_s+\sqrt\beta\,\epsilon$. Bayes:
#
# $$q(x_s\mid x_t,x_0)\propto q(x_t\mid x_s)\,q(x_s\mid x_0)\propto
# \exp\Bigl(-\frac{(x_t-\sqrt\alpha\,x_s)^2}{2\beta}-\frac{(x_s-\sqrt{\bar\alpha_s}\,x_0)^2}{2(1-\bar\alpha_s)}\Bigr).$$
#
# The exponent is a quadratic in $x_s$. Its precision is $\frac{\alpha}{\beta}+\frac1{1-\bar\alpha_s}=\frac{1-\bar\alpha_t}{\beta(1-\bar\alpha_s)}$
# (use $\alpha(1-\bar\alpha_s)+\beta=1-\bar\alpha_t$), so the variance is $\tilde\beta=\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\beta$. The mean is
# the variance times the linear coefficient $\frac{\sqrt\alpha}{\beta}x_t+\frac{\sqrt{\bar\alpha_s}}{1-\bar\alpha_s}x_0$:
#
# $$\mu(x_t,x_0)=\frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\,x_0+\frac{\sqrt\alpha\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\,x_t .$$
#
# It holds for any $s<t$, so steps may be left out: that is respacing.
#
# **Exercise 1.** Write this mean.

# %% [markdown] lang="zh"
# ## 后退一步的后验分布
#
# 对 $s<t$，令 $\alpha=\bar\alpha_t/\bar\alpha_s$，$\beta=1-\alpha$，于是 $x_t=\sqrt\alpha\,x_s+\sqrt\beta\,\epsilon$。由贝叶斯公式，
#
# $$q(x_s\mid x_t,x_0)\propto q(x_t\mid x_s)\,q(x_s\mid x_0)\propto
# \exp\Bigl(-\frac{(x_t-\sqrt\alpha\,x_s)^2}{2\beta}-\frac{(x_s-\sqrt{\bar\alpha_s}\,x_0)^2}{2(1-\bar\alpha_s)}\Bigr).$$
#
# 指数是 $x_s$ 的二次函数，所以这是高斯分布。它的精度为 $\frac{\alpha}{\beta}+\frac1{1-\bar\alpha_s}=\frac{1-\bar\alpha_t}{\beta(1-\bar\alpha_s)}$
# （用到 $\alpha(1-\bar\alpha_s)+\beta=1-\bar\alpha_t$），因此方差为 $\tilde\beta=\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\beta$。
# 均值等于方差乘以一次项系数 $\frac{\sqrt\alpha}{\beta}x_t+\frac{\sqrt{\bar\alpha_s}}{1-\bar\alpha_s}x_0$：
#
# $$\mu(x_t,x_0)=\frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\,x_0+\frac{\sqrt\alpha\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\,x_t .$$
#
# 上式对任何 $s<t$ 都成立，因此可以跳过一些步：这就是重新选取时间步（respacing）。
#
# **练习 1.** 写出这个均值。


# %% tags=["exercise"]
def posterior_mean(x_t, x_0, a_t, a_s):
    """Return the mean of q(x_s | x_t, x_0); a_t and a_s are alpha_bar at t and s."""
    ### BEGIN SOLUTION
    alpha = a_t / a_s
    return (a_s**0.5 * (1 - alpha) * x_0 + alpha**0.5 * (1 - a_s) * x_t) / (1 - a_t)
    ### END SOLUTION
    ### MISTAKE alpha = a_t / a_s => alpha = a_t
    ### MISTAKE alpha**0.5 * (1 - a_s) * x_t => (1 - a_s) * x_t
    ### MISTAKE a_s**0.5 * (1 - alpha) => a_t**0.5 * (1 - alpha)


# %% tags=["check"]
for t, s in ((999, 998), (999, 499), (500, 0), (7, 3)):
    x_t = schedule.noised(x_0, t, eps)
    found = posterior_mean(x_t, x_0, float(schedule.alpha_bar_at(t)), float(schedule.alpha_bar_at(s)))
    assert torch.allclose(found, schedule.posterior_mean(x_t, x_0, t, s), atol=1e-9), f"wrong from t = {t} to s = {s}"
print("right: the same as medsegdiff.NoiseSchedule.posterior_mean, also with steps left out")

# %% [markdown]
# ## Three names of one prediction
#
# Write $a=\sqrt{\bar\alpha_t}$, $b=\sqrt{1-\bar\alpha_t}$, so $a^2+b^2=1$ and $x_t=a\,x_0+b\,\epsilon$. With $v=a\,\epsilon-b\,x_0$ this is a
# rotation of $(x_0,\epsilon)$ by an angle whose cosine is $a$, so it is undone by rotating back: $x_0=a\,x_t-b\,v$, $\epsilon=b\,x_t+a\,v$.
# For $\epsilon$: $x_0=(x_t-b\,\epsilon)/a$, where an error of $\epsilon$ is multiplied by $b/a$, large when the noise is strong.
#
# **Exercise 2.** Convert between the three.

# %% [markdown] lang="zh"
# ## 同一预测的三种写法
#
# 记 $a=\sqrt{\bar\alpha_t}$，$b=\sqrt{1-\bar\alpha_t}$，则 $a^2+b^2=1$，$x_t=a\,x_0+b\,\epsilon$。再令 $v=a\,\epsilon-b\,x_0$，
# 这就是把 $(x_0,\epsilon)$ 旋转一个余弦为 $a$ 的角；转回去即得 $x_0=a\,x_t-b\,v$，$\epsilon=b\,x_t+a\,v$。
# 若已知 $\epsilon$，则 $x_0=(x_t-b\,\epsilon)/a$：$\epsilon$ 的误差被放大 $b/a$ 倍，噪声强时这个倍数很大。
#
# **练习 2.** 写出三者之间的换算。


# %% tags=["exercise"]
def x_0_from_eps(x_t, eps, a_t):
    """Return x_0, given the noise; a_t is alpha_bar at t."""
    ### BEGIN SOLUTION
    return (x_t - (1 - a_t) ** 0.5 * eps) / a_t**0.5
    ### END SOLUTION
    ### MISTAKE / a_t**0.5 => / a_t


def v_from_x_0(x_t, x_0, a_t):
    """Return v, given x_0."""
    ### BEGIN SOLUTION
    return (a_t**0.5 * x_t - x_0) / (1 - a_t) ** 0.5
    ### END SOLUTION
    ### MISTAKE (a_t**0.5 * x_t - x_0) => (x_0 - a_t**0.5 * x_t)


def eps_from_v(x_t, v, a_t):
    """Return the noise, given v."""
    ### BEGIN SOLUTION
    return (1 - a_t) ** 0.5 * x_t + a_t**0.5 * v
    ### END SOLUTION
    ### MISTAKE (1 - a_t) ** 0.5 * x_t => a_t**0.5 * x_t


# %% tags=["check"]
for t in (0, 400, 999):
    a_t, x_t = float(schedule.alpha_bar_at(t)), schedule.noised(x_0, t, eps)
    v = schedule.v_from_x_0(x_t, t, x_0)
    assert torch.allclose(x_0_from_eps(x_t, eps, a_t), x_0, atol=1e-7), f"x_0 from eps at t = {t}"
    assert torch.allclose(v_from_x_0(x_t, x_0, a_t), v, atol=1e-7), f"v from x_0 at t = {t}"
    assert torch.allclose(eps_from_v(x_t, v, a_t), eps, atol=1e-7), f"eps from v at t = {t}"
print("right")

# %% [markdown]
# ## From DDPM to DDIM
#
# Training uses the marginals $q(x_t\mid x_0)$ only. Any process with the same marginals may therefore use the same network. Take
#
# $$x_s=\sqrt{\bar\alpha_s}\,x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\epsilon+\sigma z,\qquad
# \epsilon=\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}} .$$
#
# If $x_t\sim q(x_t\mid x_0)$, then $\epsilon$ is standard normal, and the two noises have the variance $1-\bar\alpha_s-\sigma^2+\sigma^2
# =1-\bar\alpha_s$: $x_s\sim q(x_s\mid x_0)$ for every $\sigma$. With $\sigma^2=\tilde\beta$ it is the posterior above, hence DDPM; with
# $\sigma=0$ nothing random is left after $x_T$, hence DDIM.
#
# **Exercise 3.** Write this step. The network predicts $x_0$; compute $\epsilon$ from it.

# %% [markdown] lang="zh"
# ## 从 DDPM 到 DDIM
#
# 训练只用到边缘分布 $q(x_t\mid x_0)$，因此边缘分布相同的任何过程都可以使用同一个网络。取
#
# $$x_s=\sqrt{\bar\alpha_s}\,x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\epsilon+\sigma z,\qquad
# \epsilon=\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}} .$$
#
# 若 $x_t\sim q(x_t\mid x_0)$，则 $\epsilon$ 服从标准正态分布，两份噪声的方差之和为 $1-\bar\alpha_s-\sigma^2+\sigma^2=1-\bar\alpha_s$：
# 对任何 $\sigma$ 都有 $x_s\sim q(x_s\mid x_0)$。取 $\sigma^2=\tilde\beta$ 就是上面的后验分布，即 DDPM；取 $\sigma=0$，则 $x_T$ 之后不再有随机性，即 DDIM。
#
# **练习 3.** 写出这一步。网络预测的是 $x_0$，请由它计算 $\epsilon$。


# %% tags=["exercise"]
def ddim_step(x_t, x_0, a_t, a_s, sigma, z):
    """Return x_s (DDIM eq. 12); a_t and a_s are alpha_bar at t and s, z is standard normal noise."""
    ### BEGIN SOLUTION
    eps = (x_t - a_t**0.5 * x_0) / (1 - a_t) ** 0.5
    return a_s**0.5 * x_0 + (1 - a_s - sigma**2) ** 0.5 * eps + sigma * z
    ### END SOLUTION
    ### MISTAKE (1 - a_s - sigma**2) ** 0.5 * eps => (1 - a_s) ** 0.5 * eps
    ### MISTAKE / (1 - a_t) ** 0.5 => / (1 - a_s) ** 0.5
    ### MISTAKE a_s**0.5 * x_0 + => a_t**0.5 * x_0 +


# %% tags=["check"]
z = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
for t, s in ((999, 749), (500, 499), (200, 20)):
    a_t, a_s, x_t = float(schedule.alpha_bar_at(t)), float(schedule.alpha_bar_at(s)), schedule.noised(x_0, t, eps)
    known = DDIM(schedule, [t, s]).step(x_t, x_0, None, t, s, MemberNoise(0, len(x_t)))
    assert torch.allclose(ddim_step(x_t, x_0, a_t, a_s, 0.0, z), known, atol=1e-7), f"not DDIM from {t} to {s}"
    sigma = schedule.posterior_variance(t, s)[0] ** 0.5
    known = schedule.posterior_mean(x_t, x_0, t, s) + sigma * z
    assert torch.allclose(ddim_step(x_t, x_0, a_t, a_s, sigma, z), known, atol=1e-7), f"not DDPM from {t} to {s}"
print("right: DDIM for sigma = 0, DDPM for the posterior variance")

# %% [markdown]
# ## Why one step is not enough
#
# One pixel that half of the experts mark ($x_0=1$) and half do not ($x_0=-1$) has the exact denoiser
# $\mathbb E[x_0\mid x_t]=\tanh\bigl(x_t\sqrt{\bar\alpha_t}/(1-\bar\alpha_t)\bigr)$.
#
# **Exercise 4.** Sample with it: start from the given noise, take DDIM steps along `times`, and return $x_0$ after the last. After the
# last of `times` comes the clean pixel, $\bar\alpha=1$.

# %% [markdown] lang="zh"
# ## 一步为什么不够
#
# 设有一个像素，一半专家标注（$x_0=1$），一半不标注（$x_0=-1$）。它的最优去噪器有解析解：
# $\mathbb E[x_0\mid x_t]=\tanh\bigl(x_t\sqrt{\bar\alpha_t}/(1-\bar\alpha_t)\bigr)$。一步得到的是均值，走多步才会到达其中一种意见。
#
# **练习 4.** 用它采样：从给定的噪声出发，沿 `times` 走 DDIM 步，返回最后一步之后的 $x_0$。`times` 的最后一个时间步之后是干净的像素，$\bar\alpha=1$。


# %% tags=["exercise"]
def sampled(noise, times):
    """Return the samples of the pixel that DDIM reaches from this noise along these timesteps, descending."""
    ### BEGIN SOLUTION
    x = noise
    for t, s in zip(times, [*times[1:], -1], strict=True):
        a_t, a_s = float(schedule.alpha_bar_at(t)), float(schedule.alpha_bar_at(s))
        x = ddim_step(x, torch.tanh(x * a_t**0.5 / (1 - a_t)), a_t, a_s, 0.0, torch.zeros_like(x))
    return x
    ### END SOLUTION
    ### MISTAKE [*times[1:], -1] => [*times[1:], times[-1]]
    ### MISTAKE torch.tanh(x * a_t**0.5 / (1 - a_t)) => torch.sign(x)


# %% tags=["check"]
noise = torch.randn(2000, generator=generator, dtype=torch.float64)
ends = {steps: sampled(noise, spaced(schedule.timesteps, steps)) for steps in (1, 2, 10, 50)}
near = {steps: float(((x.abs() - 1).abs() < 0.1).double().mean()) for steps, x in ends.items()}
assert ends[1].abs().max() < 0.1, "one step must give the mean, 0"
assert near[50] > 0.95 and near[2] < near[10] <= near[50], f"share that reaches 1 or -1: {near}"
assert abs(float((ends[50] > 0).double().mean()) - 0.5) < 0.05, "half of the samples should reach each opinion"
assert torch.equal(ends[50].sign(), noise.sign()), "DDIM is deterministic and keeps the order of the samples"
print("right; share that reaches an opinion, by number of steps:", near)
