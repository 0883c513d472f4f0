# %% [markdown]
# # 9. Training
#
# Goes with chapter 9 of the course (`make course`, then `?chapter=training`). Every exercise is a function to write; the cell below it
# checks the answer. The notebook needs the project itself: `pip install -e .` in its root folder.

# %% [markdown] lang="zh"
# # 9. 训练
#
# 从变分下界到噪声损失；各种预测量的损失只差一个由信噪比决定的权重。
#
# 对应课程第 9 章（运行 `make course`，再打开 `?chapter=training&lang=zh`）。每道练习是一个待补全的函数，紧接着的单元用来检查答案。
# 笔记本需要本项目：在项目根目录运行 `pip install -e .`。代码中的注释与提示为英文。

# %%
import torch
from torch import nn
from torch.nn import functional as F

from medsegdiff import Diffusion, DiffusionConfig, NoiseSchedule, V2Config, build
from medsegdiff.losses import Objective, soft_dice_loss

schedule = NoiseSchedule("linear")
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## From the ELBO to the noise loss
#
# $-\log p_\theta(x_0)\le\mathbb E_q\bigl[-\log p_\theta(x_0\mid x_1)\bigr]+\sum_t\mathbb E_q\,
# KL\bigl(q(x_s\mid x_t,x_0)\,\Vert\,p_\theta(x_s\mid x_t)\bigr)+KL\bigl(q(x_T\mid x_0)\Vert p(x_T)\bigr)$,
# with $s=t-1$ in the sum. Choose for $p_\theta$ the same Gaussian with the prediction $\hat x_0$ in the place of $x_0$. Both have the variance
# $\tilde\beta=\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\beta$, so only the means count:
#
# $$KL=\frac{\lVert\mu(x_t,x_0)-\mu(x_t,\hat x_0)\rVert^2}{2\tilde\beta}
# =\frac1{2\tilde\beta}\,\frac{\bar\alpha_s\beta^2}{(1-\bar\alpha_t)^2}\lVert x_0-\hat x_0\rVert^2 .$$
#
# Insert $\tilde\beta$ and $\beta=1-\bar\alpha_t/\bar\alpha_s$: the factor is $\frac12\frac{\bar\alpha_s-\bar\alpha_t}{(1-\bar\alpha_s)(1-\bar\alpha_t)}$, and with
# $\mathrm{SNR}=\bar\alpha/(1-\bar\alpha)$ this is exactly
#
# $$KL=\tfrac12\,(\mathrm{SNR}_s-\mathrm{SNR}_t)\,\lVert x_0-\hat x_0\rVert^2 .$$
#
# Ho et al. drop the factor and take the error of $\epsilon$: the "simple" loss, a *re-weighted* bound.
#
# **Exercise 1.** Write the KL divergence of two Gaussians with diagonal covariance, and the weight of the squared error of $x_0$.

# %% [markdown] lang="zh"
# ## 从变分下界到噪声损失
#
# $-\log p_\theta(x_0)\le\mathbb E_q\bigl[-\log p_\theta(x_0\mid x_1)\bigr]+\sum_t\mathbb E_q\,
# KL\bigl(q(x_s\mid x_t,x_0)\,\Vert\,p_\theta(x_s\mid x_t)\bigr)+KL\bigl(q(x_T\mid x_0)\Vert p(x_T)\bigr)$，
# 求和中 $s=t-1$。令 $p_\theta$ 为同样的高斯分布，只是用预测 $\hat x_0$ 代替 $x_0$。两者的方差都是
# $\tilde\beta=\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\beta$，因此只剩均值之差：
#
# $$KL=\frac{\lVert\mu(x_t,x_0)-\mu(x_t,\hat x_0)\rVert^2}{2\tilde\beta}
# =\frac1{2\tilde\beta}\,\frac{\bar\alpha_s\beta^2}{(1-\bar\alpha_t)^2}\lVert x_0-\hat x_0\rVert^2 .$$
#
# 代入 $\tilde\beta$ 与 $\beta=1-\bar\alpha_t/\bar\alpha_s$，系数为 $\frac12\frac{\bar\alpha_s-\bar\alpha_t}{(1-\bar\alpha_s)(1-\bar\alpha_t)}$；
# 记 $\mathrm{SNR}=\bar\alpha/(1-\bar\alpha)$，恰好得到
#
# $$KL=\tfrac12\,(\mathrm{SNR}_s-\mathrm{SNR}_t)\,\lVert x_0-\hat x_0\rVert^2 .$$
#
# Ho 等人去掉这个系数，改用 $\epsilon$ 的误差，这就是“简单”损失：*重新加权*的变分下界。
#
# **练习 1.** 写出两个对角协方差高斯分布的 KL 散度，以及 $x_0$ 平方误差的权重。


# %% tags=["exercise"]
def kl(mean_1, variance_1, mean_2, variance_2):
    """Return KL( N(mean_1, variance_1) || N(mean_2, variance_2) ) per entry, in nats."""
    ### BEGIN SOLUTION
    ratio = variance_1 / variance_2
    return 0.5 * (ratio - 1 - ratio.log() + (mean_1 - mean_2) ** 2 / variance_2)
    ### END SOLUTION
    ### MISTAKE (mean_1 - mean_2) ** 2 / variance_2 => (mean_1 - mean_2) ** 2 / variance_1
    ### MISTAKE - ratio.log() => + ratio.log()


def bound_weight(a_t, a_s):
    """Return the factor of |x_0 - prediction|^2 in the bound; a_t and a_s are alpha_bar at t and s < t."""
    ### BEGIN SOLUTION
    return 0.5 * (a_s / (1 - a_s) - a_t / (1 - a_t))
    ### END SOLUTION
    ### MISTAKE 0.5 * (a_s / (1 - a_s) - a_t / (1 - a_t)) => 0.5 * a_t / (1 - a_t)


# %% tags=["check"]
m_1, m_2 = torch.randn(2, 50, generator=generator, dtype=torch.float64)
v_1, v_2 = torch.rand(2, 50, generator=generator, dtype=torch.float64) + 0.1
normal = torch.distributions.Normal
known = torch.distributions.kl_divergence(normal(m_1, v_1.sqrt()), normal(m_2, v_2.sqrt()))
assert torch.allclose(kl(m_1, v_1, m_2, v_2), known), "differs from torch.distributions.kl_divergence"
x_t, x_0, other = torch.randn(3, 1, 1, 4, 4, generator=generator, dtype=torch.float64)
for t in (999, 500, 1):
    a_t, a_s = float(schedule.alpha_bar_at(t)), float(schedule.alpha_bar_at(t - 1))
    means = [schedule.posterior_mean(x_t, mask, t, t - 1) for mask in (x_0, other)]
    variance = torch.tensor(schedule.posterior_variance(t, t - 1)[0], dtype=torch.float64)
    found, known = bound_weight(a_t, a_s) * (x_0 - other) ** 2, kl(means[0], variance, means[1], variance)
    assert torch.allclose(found, known, rtol=1e-6), f"t = {t}: the weight should give {known.flatten()[0]:.3g}"
print("right: the KL of the posteriors is the squared error of x_0, weighted by the loss of SNR")

# %% [markdown]
# ## Signal-to-noise weighting
#
# Given $x_t$, two predictions of $x_0$ that differ by $\delta$ differ in $\epsilon=(x_t-\sqrt{\bar\alpha}x_0)/\sqrt{1-\bar\alpha}$ by
# $-\sqrt{\mathrm{SNR}}\,\delta$, and in $v=(\sqrt{\bar\alpha}x_t-x_0)/\sqrt{1-\bar\alpha}$ by $-\delta/\sqrt{1-\bar\alpha}$. So
#
# $$\lVert\Delta\epsilon\rVert^2=\mathrm{SNR}\,\lVert\delta\rVert^2,\qquad\lVert\Delta v\rVert^2=(1+\mathrm{SNR})\,\lVert\delta\rVert^2 .$$
#
# The error of $\epsilon$ gives almost no weight to the noisy steps, at which the shape of a mask is decided; those of $v$ and $x_0$ do.
#
# **Exercise 2.** Write the weight that the squared error of $x_0$ has in each loss.

# %% [markdown] lang="zh"
# ## 信噪比加权
#
# 给定 $x_t$，若 $x_0$ 的两个预测相差 $\delta$，则 $\epsilon=(x_t-\sqrt{\bar\alpha}x_0)/\sqrt{1-\bar\alpha}$ 相差 $-\sqrt{\mathrm{SNR}}\,\delta$，
# $v=(\sqrt{\bar\alpha}x_t-x_0)/\sqrt{1-\bar\alpha}$ 相差 $-\delta/\sqrt{1-\bar\alpha}$。因此
#
# $$\lVert\Delta\epsilon\rVert^2=\mathrm{SNR}\,\lVert\delta\rVert^2,\qquad\lVert\Delta v\rVert^2=(1+\mathrm{SNR})\,\lVert\delta\rVert^2 .$$
#
# 掩膜的形状是在噪声强的那些步决定的，$\epsilon$ 的误差几乎不给它们权重，$v$ 与 $x_0$ 的误差则给。
#
# **练习 2.** 写出在每种损失中，$x_0$ 的平方误差所乘的权重。


# %% tags=["exercise"]
def weight_of_x_0(predicted, alpha_bar):
    """Return the weight for predicted = "epsilon", "v" or "x_0"."""
    ### BEGIN SOLUTION
    snr = alpha_bar / (1 - alpha_bar)
    return {"epsilon": snr, "v": 1 + snr, "x_0": torch.ones_like(snr)}[predicted]
    ### END SOLUTION
    ### MISTAKE "v": 1 + snr => "v": 1 + snr.sqrt()
    ### MISTAKE "epsilon": snr => "epsilon": 1 / snr


# %% tags=["check"]
for t in (0, 300, 700, 999):
    a = schedule.alpha_bar_at(t)
    error = (x_0 - other).square()
    eps = (schedule.eps_from_x_0(x_t, t, x_0) - schedule.eps_from_x_0(x_t, t, other)).square()
    v = (schedule.v_from_x_0(x_t, t, x_0) - schedule.v_from_x_0(x_t, t, other)).square()
    for predicted, measured in (("epsilon", eps), ("v", v), ("x_0", error)):
        assert torch.allclose(weight_of_x_0(predicted, a) * error, measured, rtol=1e-5), f"{predicted} at t = {t}"
ratio = float(weight_of_x_0("epsilon", schedule.alpha_bar_at(999)) / weight_of_x_0("epsilon", schedule.alpha_bar_at(0)))
print(f"right; with epsilon the noisiest step weighs {ratio:.1e} of the cleanest")

# %% [markdown]
# ## The loss of V2
#
# $\mathcal L_t=\mathcal L_{noise,t}+\mathbb 1[t\bmod\alpha=0]\,(\mathcal L_{dice}+\beta\mathcal L_{ce})$. In a batch every sample has its own
# $t$, so the indicator is per sample. Soft Dice of probabilities $p$ and a mask $y$ is
# $1-\frac{2\sum py+10^{-5}}{\sum p+\sum y+10^{-5}}$; the small number makes two empty masks agree.
#
# **Exercise 3.** Write soft Dice and the loss.

# %% [markdown] lang="zh"
# ## V2 的损失
#
# $\mathcal L_t=\mathcal L_{noise,t}+\mathbb 1[t\bmod\alpha=0]\,(\mathcal L_{dice}+\beta\mathcal L_{ce})$：噪声损失，加上 $t$ 为 $\alpha$ 的倍数时对锚点的监督。
# 一个批次中每个样本有各自的 $t$，所以指示函数逐样本判断。概率 $p$ 与掩膜 $y$ 的软 Dice 损失是
# $1-\frac{2\sum py+10^{-5}}{\sum p+\sum y+10^{-5}}$，其中的小常数使两张空掩膜视为一致。
#
# **练习 3.** 写出软 Dice 损失与 V2 的损失。


# %% tags=["exercise"]
def soft_dice(logits, labels):
    """Return 1 - soft Dice of each sample, (b,); logits (b, 1, h, w), labels (b, h, w) in {0, 1}."""
    ### BEGIN SOLUTION
    p, y = logits.sigmoid()[:, 0], (labels > 0).float()
    return 1 - (2 * (p * y).sum((1, 2)) + 1e-5) / ((p + y).sum((1, 2)) + 1e-5)
    ### END SOLUTION
    ### MISTAKE (2 * (p * y).sum((1, 2)) + 1e-5) => 2 * (p * y).sum((1, 2))
    ### MISTAKE logits.sigmoid()[:, 0] => (logits > 0).float()[:, 0]


def v2_loss(noise, dice, ce, t, alpha, beta):
    """Return the mean loss of a batch; noise, dice, ce (b,) losses of each sample, t (b,) integers."""
    ### BEGIN SOLUTION
    due = (t % alpha == 0).float()
    return (noise + due * (dice + beta * ce)).mean()
    ### END SOLUTION
    ### MISTAKE (noise + due * (dice + beta * ce)).mean() => noise.mean() + (dice + beta * ce).mean() * (t % alpha == 0).any()
    ### MISTAKE due * (dice + beta * ce) => due * (beta * dice + ce)


# %% tags=["check"]
logits, labels = 2 * torch.randn(4, 1, 8, 8, generator=generator), torch.randint(0, 2, (4, 8, 8), generator=generator)
labels[0], logits[0] = 0, -60
assert torch.allclose(soft_dice(logits, labels), soft_dice_loss(logits, labels), atol=1e-6), (
    "differs from soft_dice_loss"
)
widths = (8, 16)
config = V2Config(
    image_size=16, stem=2, widths=widths, condition_widths=widths, ss_blocks=1, token_width=8, heads=1, nbp_blocks=1
)
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    model = build(config)
diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.2))
image, labels = torch.randn(4, 3, 16, 16, generator=generator), torch.randint(0, 2, (4, 16, 16), generator=generator)
t, eps = torch.tensor([0, 5, 7, 999]), torch.randn(4, 1, 16, 16, generator=generator)
with torch.no_grad():
    known = Objective(model, diffusion, alpha=5, beta=10.0)(image, labels, t, eps)
    condition = model.encode(image)
    output = model(diffusion.schedule.noised(diffusion.from_labels(labels), t, eps), t, condition).output


def cross_entropy(logits):
    return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction="none").mean((1, 2))


(anchor,) = condition.anchor_logits
found = v2_loss(cross_entropy(output), soft_dice_loss(anchor, labels), cross_entropy(anchor), t, 5, 10.0)
assert torch.allclose(found, known.total, rtol=1e-4), (
    f"{float(found):.4f}, but medsegdiff.losses has {float(known.total):.4f}"
)
print("right: the same as medsegdiff.losses.Objective")

# %% [markdown]
# ## Train a denoiser of one pixel
#
# A pixel that a share of 0.3 of the experts marks: $x_0=1$ with probability 0.3, else $-1$. The best denoiser is known,
# $\mathbb E[x_0\mid x_t]=\tanh\bigl(x_t\sqrt{\bar\alpha_t}/(1-\bar\alpha_t)+\tfrac12\log\tfrac{0.3}{0.7}\bigr)$.
#
# **Exercise 4.** Write the loss of one training step: draw $x_0$, $t$ and $\epsilon$, make $x_t$, and return the mean squared error of the
# predicted $x_0$. The network takes the columns $x_t$ and $t/1000$.

# %% [markdown] lang="zh"
# ## 训练一个像素的去噪器
#
# 设一个像素有 0.3 的专家标注：$x_0=1$ 的概率为 0.3，否则为 $-1$。它的最优去噪器是已知的，
# $\mathbb E[x_0\mid x_t]=\tanh\bigl(x_t\sqrt{\bar\alpha_t}/(1-\bar\alpha_t)+\tfrac12\log\tfrac{0.3}{0.7}\bigr)$；训练学到的正是这个后验均值。
#
# **练习 4.** 写出一个训练步的损失：抽取 $x_0$、$t$ 与 $\epsilon$，得到 $x_t$，返回所预测的 $x_0$ 的均方误差。网络的输入是 $x_t$ 与 $t/1000$ 两列。


# %% tags=["exercise"]
def training_loss(network, batch, generator):
    """Return the mean squared error of x_0 over a batch of `batch` random pixels, times and noises."""
    ### BEGIN SOLUTION
    x_0 = 2.0 * (torch.rand(batch, generator=generator) < 0.3) - 1
    t = torch.randint(1000, (batch,), generator=generator)
    eps = torch.randn(batch, generator=generator)
    a = schedule.alpha_bar_at(t).float()
    x_t = a.sqrt() * x_0 + (1 - a).sqrt() * eps
    return (network(torch.stack([x_t, t / 1000], 1))[:, 0] - x_0).square().mean()
    ### END SOLUTION
    ### MISTAKE generator=generator) < 0.3 => generator=generator) < 0.5
    ### MISTAKE [x_t, t / 1000] => [x_0, t / 1000]
    ### MISTAKE - x_0).square() => - eps).square()


# %% tags=["check"]
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
optimizer, draws = torch.optim.Adam(network.parameters(), lr=1e-2), torch.Generator().manual_seed(0)
for i in range(600):
    for group in optimizer.param_groups:
        group["lr"] = 1e-2 * (1 - i / 600)
    loss = training_loss(network, 512, draws)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
x = torch.linspace(-2, 2, 21)
for t in (300, 600, 950):
    a = float(schedule.alpha_bar_at(t))
    exact = torch.tanh(x * a**0.5 / (1 - a) + 0.5 * torch.tensor(0.3 / 0.7).log())
    with torch.no_grad():
        learned = network(torch.stack([x, torch.full_like(x, t / 1000)], 1))[:, 0]
    seen = (x.abs() - a**0.5).abs() < 2 * (1 - a) ** 0.5  # where training had x_t at this t
    worst = float((learned - exact)[seen].abs().max())
    assert worst < 0.25, f"t = {t}: the network is off by {worst:.2f} from the posterior mean"
print(f"right: the network learned the posterior mean; at t = 950 and x_t = 0 it answers {float(learned[10]):.2f}")
