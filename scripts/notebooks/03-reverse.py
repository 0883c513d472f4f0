# %% [markdown]
# # 3. The reverse process
#
# 反向过程：后验均值、三种预测量之间的换算、DDPM 与 DDIM，以及一步为什么不够。
#
# Goes with chapter 3 of the course (`make course`, then `?chapter=reverse`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

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
# 已知 x_0 时，后退一步的分布是高斯分布，均值与方差由贝叶斯公式得出。
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
# ε、x_0 与 v 是同一预测的三种写法：已知 x_t，任何一个都决定另外两个。
#
# Write $a=\sqrt{\bar\alpha_t}$, $b=\sqrt{1-\bar\alpha_t}$, so $a^2+b^2=1$ and $x_t=a\,x_0+b\,\epsilon$. With $v=a\,\epsilon-b\,x_0$ this is a
# rotation of $(x_0,\epsilon)$ by an angle whose cosine is $a$, so it is undone by rotating back: $x_0=a\,x_t-b\,v$, $\epsilon=b\,x_t+a\,v$.
# For $\epsilon$: $x_0=(x_t-b\,\epsilon)/a$, where an error of $\epsilon$ is multiplied by $b/a$, large when the noise is strong.
#
# **Exercise 2.** Convert between the three.


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
# 训练只用到每个 t 的边缘分布，因此可以换一个边缘分布相同、但噪声更少的过程：σ = 0 就是 DDIM。
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
# 一步得到的是均值，多步才能到达某一种意见。
#
# One pixel that half of the experts mark ($x_0=1$) and half do not ($x_0=-1$) has the exact denoiser
# $\mathbb E[x_0\mid x_t]=\tanh\bigl(x_t\sqrt{\bar\alpha_t}/(1-\bar\alpha_t)\bigr)$.
#
# **Exercise 4.** Sample with it: start from the given noise, take DDIM steps along `times`, and return $x_0$ after the last. After the
# last of `times` comes the clean pixel, $\bar\alpha=1$.


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
