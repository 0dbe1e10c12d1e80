#!/usr/bin/env python3
"""Writes torch.safetensors and torch.json: a tiny Qwen3 computed by PyTorch.

Run in this folder with PyTorch and NumPy installed. The forward pass is written from the Qwen3
report's equations with torch operations alone, in float64, so that the expectations carry no rounding
of their own; gradients come from autograd and steps from torch.optim.AdamW with clip_grad_norm_.
torch.json holds the batch, the loss weights, per-token log-probabilities and entropies, the gradient
norms and per-tensor gradients (before the first step), and the weights after three AdamW steps.
"""
import json
import struct

import torch

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)
C = dict(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=6, intermediate_size=20,
         rope_theta=1000.0, rms_norm_eps=1e-6, max_position_embeddings=24, vocab_size=29)
H, D, NH, NKV, F, V = (C[k] for k in ("hidden_size", "head_dim", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"))
TEMPERATURE = 0.8
STEPS = dict(learning_rate=0.01, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, clip_norm=0.5)

shapes = {"model.embed_tokens.weight": (V, H), "model.norm.weight": (H,)}
for l in range(C["num_hidden_layers"]):
    p = f"model.layers.{l}."
    shapes |= {p + "input_layernorm.weight": (H,), p + "post_attention_layernorm.weight": (H,),
               p + "self_attn.q_proj.weight": (NH * D, H), p + "self_attn.k_proj.weight": (NKV * D, H),
               p + "self_attn.v_proj.weight": (NKV * D, H), p + "self_attn.o_proj.weight": (H, NH * D),
               p + "self_attn.q_norm.weight": (D,), p + "self_attn.k_norm.weight": (D,),
               p + "mlp.gate_proj.weight": (F, H), p + "mlp.up_proj.weight": (F, H), p + "mlp.down_proj.weight": (H, F)}


def make(shape):
    w = torch.randn(shape) * 0.3 if len(shape) > 1 else 1 + 0.2 * torch.randn(shape)
    return w.float().double().requires_grad_()  # exactly representable in float32


W = {name: make(shape) for name, shape in shapes.items()}
WEIGHTS_BEFORE = {n: w.detach().float().clone() for n, w in W.items()}


def norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + C["rms_norm_eps"]) * w


def rotate_half(x):
    return torch.cat((-x[..., D // 2:], x[..., : D // 2]), -1)


def forward(tokens):
    t = len(tokens)
    angles = torch.outer(torch.arange(t, dtype=torch.float64), C["rope_theta"] ** (-torch.arange(0, D, 2, dtype=torch.float64) / D))
    cos, sin = torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()
    x = W["model.embed_tokens.weight"][tokens]
    for l in range(C["num_hidden_layers"]):
        w = lambda n: W[f"model.layers.{l}.{n}.weight"]
        h = norm(x, w("input_layernorm"))
        q = norm((h @ w("self_attn.q_proj").T).view(t, NH, D), w("self_attn.q_norm")).transpose(0, 1)
        k = norm((h @ w("self_attn.k_proj").T).view(t, NKV, D), w("self_attn.k_norm")).transpose(0, 1)
        v = (h @ w("self_attn.v_proj").T).view(t, NKV, D).transpose(0, 1)
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        k, v = k.repeat_interleave(NH // NKV, 0), v.repeat_interleave(NH // NKV, 0)
        scores = q @ k.transpose(1, 2) / D ** 0.5
        scores = scores.masked_fill(torch.triu(torch.ones(t, t, dtype=torch.bool), 1), float("-inf"))
        x = x + (scores.softmax(-1) @ v).transpose(0, 1).reshape(t, NH * D) @ w("self_attn.o_proj").T
        h = norm(x, w("post_attention_layernorm"))
        x = x + (torch.nn.functional.silu(h @ w("mlp.gate_proj").T) * (h @ w("mlp.up_proj").T)) @ w("mlp.down_proj").T
    return norm(x, W["model.norm.weight"]) @ W["model.embed_tokens.weight"].T


lengths = [11, 1, 24, 5]
sequences = [torch.randint(0, V, (n,)) for n in lengths]
a = torch.randn(sum(lengths)).float().double()
b = (torch.randn(sum(lengths)) * 0.5).float().double()


def score():
    logp, entropy = [], []
    for tokens in sequences:
        table = (forward(tokens)[:-1] / TEMPERATURE).log_softmax(-1)
        zero = torch.zeros(1)
        logp += [zero, table.gather(1, tokens[1:, None])[:, 0]]
        entropy += [zero, -(table.exp() * table).sum(-1)]
    return torch.cat(logp), torch.cat(entropy)


matrices = [w for w in W.values() if w.dim() > 1]
norms = [w for w in W.values() if w.dim() == 1]
optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": STEPS["weight_decay"]}, {"params": norms, "weight_decay": 0.0}],
                              lr=STEPS["learning_rate"], betas=(STEPS["beta1"], STEPS["beta2"]), eps=STEPS["epsilon"])
result, grad_norms = {}, []
for step in range(3):
    optimizer.zero_grad()
    logp, entropy = score()
    ((a * logp).sum() + (b * entropy).sum()).backward()
    if step == 0:
        result = {"logprobs": logp.tolist(), "entropies": entropy.tolist(),
                  "gradients": {n: [float(f"{g:.8g}") for g in w.grad.flatten().tolist()] for n, w in sorted(W.items())}}
    grad_norms.append(float(torch.nn.utils.clip_grad_norm_(W.values(), STEPS["clip_norm"])))
    optimizer.step()

with open("torch.json", "w") as f:
    json.dump({"config": C, "temperature": TEMPERATURE, "optimizer": STEPS, "tokens": torch.cat(sequences).tolist(),
               "offsets": [sum(lengths[:i]) for i in range(len(lengths) + 1)], "d_logprobs": a.tolist(), "d_entropies": b.tolist(),
               **result, "gradient_norms": grad_norms,
               "after": {n: [float(f"{v:.8g}") for v in w.detach().flatten().tolist()] for n, w in sorted(W.items())}}, f)

header, offset, body = {}, 0, b""
for name, w in WEIGHTS_BEFORE.items():
    raw = w.numpy().astype("<f4").tobytes()
    header[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [offset, offset + len(raw)]}
    offset, body = offset + len(raw), body + raw
text = json.dumps(header).encode()
with open("torch.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + body)
