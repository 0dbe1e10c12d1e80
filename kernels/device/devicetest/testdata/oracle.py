"""Writes oracle.json: small cases of the operations and their gradients in float64, computed by PyTorch's
autograd, for the test that the suite's oracle agrees. Run it in this folder: python3 oracle.py
"""

import json
import math

import torch

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)


def draw(*shape):
    return torch.randn(*shape).requires_grad_()


def flat(t):
    return [float(v) for v in t.detach().reshape(-1)]


def norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def norms():
    n, width, eps = 3, 5, 0.01
    x, weight, dy = draw(n, width), draw(width), torch.randn(n, width)
    y = norm(x, weight, eps)
    y.backward(dy)
    return dict(n=n, width=width, eps=eps, x=flat(x), weight=flat(weight), dy=flat(dy), y=flat(y), dx=flat(x.grad), dWeight=flat(weight.grad))


def swiglu():
    n, width = 3, 4
    both, dy = draw(n, 2 * width), torch.randn(n, width)
    y = torch.nn.functional.silu(both[:, :width]) * both[:, width:]
    y.backward(dy)
    return dict(n=n, width=width, gateUp=flat(both), dy=flat(dy), y=flat(y), dGateUp=flat(both.grad))


def rotate():
    n, count, dim, eps, theta = 4, 2, 6, 1e-3, 100.0
    positions = [0, 3, 1, 7]
    x, weight, dy = draw(n, count, dim), draw(dim), torch.randn(n, count, dim)
    angles = torch.arange(8.0)[:, None] * theta ** (-torch.arange(0, dim, 2) / dim)
    cos, sin = (torch.cat([t, t], -1)[positions][:, None] for t in (angles.cos(), angles.sin()))
    normed = norm(x, weight, eps)
    turned = torch.cat([-normed[..., dim // 2 :], normed[..., : dim // 2]], -1)  # rotate_half of Hugging Face
    y = normed * cos + turned * sin
    y.backward(dy)
    return dict(n=n, count=count, dim=dim, eps=eps, positions=positions, cos=flat(angles.cos()), sin=flat(angles.sin()), x=flat(x),
                weight=flat(weight), dy=flat(dy), y=flat(y), dx=flat(x.grad), dWeight=flat(weight.grad))


def attend():
    heads, kv, dim, offsets, scale = 4, 2, 3, [0, 3, 3, 4, 9], 0.7
    n = offsets[-1]
    q, k, v, dout = draw(n, heads, dim), draw(n, kv, dim), draw(n, kv, dim), torch.randn(n, heads, dim)
    rows = []
    for lo, hi in zip(offsets, offsets[1:]):
        ks, vs = (t[lo:hi].repeat_interleave(heads // kv, 1) for t in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q[lo:hi], ks) * scale
        later = torch.triu(torch.ones(hi - lo, hi - lo, dtype=torch.bool), 1)
        rows.append(torch.einsum("hij,jhd->ihd", scores.masked_fill(later, -math.inf).softmax(-1), vs))
    out = torch.cat(rows)
    out.backward(dout)
    return dict(heads=heads, kvHeads=kv, dim=dim, offsets=offsets, scale=scale, q=flat(q), k=flat(k), v=flat(v), dOut=flat(dout), out=flat(out),
                dq=flat(q.grad), dk=flat(k.grad), dv=flat(v.grad))


def score():
    n, hidden, vocabulary, inverse = 3, 4, 7, 1 / 0.6
    x, w = draw(n, hidden), draw(vocabulary, hidden)
    targets, dl, de = [6, 0, 3], torch.randn(n), torch.randn(n)
    logs = (x @ w.t() * inverse).log_softmax(-1)
    entropies = -(logs.exp() * logs).sum(-1)
    chosen = logs[range(n), targets]
    ((chosen * dl).sum() + (entropies * de).sum()).backward()
    return dict(n=n, hidden=hidden, vocabulary=vocabulary, inverse=inverse, x=flat(x), w=flat(w), targets=targets, dLogProbs=flat(dl), dEntropies=flat(de),
                logProbs=flat(chosen), entropies=flat(entropies), dx=flat(x.grad), dHead=flat(w.grad))


def adamw():
    w, steps, rate, decay = draw(5), [torch.randn(5) for _ in range(3)], 0.01, 0.1
    start = flat(w)
    optimizer = torch.optim.AdamW([w], lr=rate, betas=(0.9, 0.95), eps=1e-6, weight_decay=decay)
    after = []
    for g in steps:
        w.grad = g.clone()
        optimizer.step()
        after.append(flat(w))
    return dict(rate=rate, beta1=0.9, beta2=0.95, epsilon=1e-6, decay=decay, start=start, gradients=[flat(g) for g in steps], after=after)


cases = dict(norm=norms(), swiGLU=swiglu(), rotate=rotate(), attend=attend(), score=score(), adamW=adamw())
with open("oracle.json", "w") as out:
    out.write("{" + ",\n ".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()) + "}\n")
