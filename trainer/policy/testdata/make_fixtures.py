#!/usr/bin/env python3
"""Writes one folder per family: a tiny random checkpoint and what PyTorch computes with it.

Run in this folder with PyTorch and NumPy installed. The layers follow the modelling code of transformers
(modeling_llama.py, modeling_qwen2.py, modeling_qwen3.py, modeling_rope_utils.py), PEFT's LoraLayer and the score
head of transformers' ForTokenClassification classes, in float64, so that the expectations carry no rounding of
their own; gradients come from autograd, steps from torch.optim.AdamW with clip_grad_norm_. Weights are exact in
BF16.

    FAMILY/            config.json, generation_config.json, tokenizer files to carry along, weights in shards (BF16)
    FAMILY/batch.json  sequences, the derivatives of the loss, settings of the optimizer, norms of the gradients
    FAMILY/expected.safetensors
                       logits, log-probabilities, entropies, gradients before the first step, weights after three
    adapter/           PEFT folder on the llama checkpoint, with batch.json and expected.safetensors, which holds the
                       value head's weights too
"""
import json
import os
import struct

import torch
from torch import nn

torch.set_default_dtype(torch.float64)
STEPS = dict(learning_rate=0.01, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, clip_norm=0.5)
TEMPERATURE = 0.8
COMMON = dict(hidden_act="silu", hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=24, rms_norm_eps=1e-6, vocab_size=29, bos_token_id=1, eos_token_id=[2, 3], use_cache=True,
              initializer_range=0.02, attention_dropout=0.0, torch_dtype="bfloat16", transformers_version="4.51.0")
FAMILIES = {
    "llama": dict(COMMON, architectures=["LlamaForCausalLM"], model_type="llama", head_dim=8, rope_theta=1000.0, attention_bias=False,
                  mlp_bias=False, pretraining_tp=1, tie_word_embeddings=False,
                  rope_scaling=dict(factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=64, rope_type="llama3")),
    "qwen2": dict(COMMON, architectures=["Qwen2ForCausalLM"], model_type="qwen2", rope_theta=10000.0, tie_word_embeddings=True,
                  use_sliding_window=False, sliding_window=24, max_window_layers=2),
    "qwen3": dict(COMMON, architectures=["Qwen3ForCausalLM"], model_type="qwen3", head_dim=6, rope_theta=1000.0, rope_scaling=None,
                  attention_bias=False, tie_word_embeddings=True, use_sliding_window=False, sliding_window=None, max_window_layers=2),
}
LORA = dict(r=3, lora_alpha=4.0, target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "lm_head"])


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def inverse_frequencies(c):
    dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    inv_freq = 1.0 / (c["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
    s = c.get("rope_scaling")
    if s is None:
        return inv_freq
    low_freq_wavelen = s["original_max_position_embeddings"] / s["low_freq_factor"]
    high_freq_wavelen = s["original_max_position_embeddings"] / s["high_freq_factor"]
    wavelen = 2 * torch.pi / inv_freq
    inv_freq_llama = torch.where(wavelen > low_freq_wavelen, inv_freq / s["factor"], inv_freq)
    smooth_factor = (s["original_max_position_embeddings"] / wavelen - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"])
    smoothed = (1 - smooth_factor) * inv_freq_llama / s["factor"] + smooth_factor * inv_freq_llama
    is_medium = ~(wavelen < high_freq_wavelen) & ~(wavelen > low_freq_wavelen)
    return torch.where(is_medium, smoothed, inv_freq_llama)


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv = c["num_attention_heads"], c["num_key_value_heads"]
        self.dim = c.get("head_dim") or c["hidden_size"] // self.heads
        bias = c["model_type"] == "qwen2"
        self.q_proj = nn.Linear(c["hidden_size"], self.heads * self.dim, bias=bias)
        self.k_proj = nn.Linear(c["hidden_size"], self.kv * self.dim, bias=bias)
        self.v_proj = nn.Linear(c["hidden_size"], self.kv * self.dim, bias=bias)
        self.o_proj = nn.Linear(self.heads * self.dim, c["hidden_size"], bias=False)
        if c["model_type"] == "qwen3":
            self.q_norm, self.k_norm = RMSNorm(self.dim, c["rms_norm_eps"]), RMSNorm(self.dim, c["rms_norm_eps"])
        else:
            self.q_norm = self.k_norm = nn.Identity()

    def forward(self, x, cos, sin):
        t = x.shape[0]
        q = self.q_norm(self.q_proj(x).view(t, self.heads, self.dim)).transpose(0, 1)
        k = self.k_norm(self.k_proj(x).view(t, self.kv, self.dim)).transpose(0, 1)
        v = self.v_proj(x).view(t, self.kv, self.dim).transpose(0, 1)
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        k, v = (e.repeat_interleave(self.heads // self.kv, dim=0) for e in (k, v))
        scores = torch.matmul(q, k.transpose(1, 2)) * self.dim ** -0.5
        scores = scores + torch.full((t, t), float("-inf")).triu(1)
        return self.o_proj(torch.matmul(scores.softmax(-1), v).transpose(0, 1).reshape(t, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.up_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.down_proj = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), MLP(c)
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.inv_freq = inverse_frequencies(c)

    def forward(self, tokens):
        angles = torch.outer(torch.arange(len(tokens), dtype=torch.float64), self.inv_freq)
        angles = torch.cat((angles, angles), dim=-1)
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, angles.cos(), angles.sin())
        return self.norm(x)


class ForCausalLM(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.model = Model(c)
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        if c["tie_word_embeddings"]:
            self.lm_head.weight = self.model.embed_tokens.weight


class LoraLinear(nn.Module):
    """PEFT's Linear: the base layer's result plus lora_B(lora_A(x)) * scaling."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.Linear(base.in_features, LORA["r"], bias=False)
        self.lora_B = nn.Linear(LORA["r"], base.out_features, bias=False)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x)) * (LORA["lora_alpha"] / LORA["r"])


def exact(w):
    return w.bfloat16().double()


def randomise(module):
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(exact(torch.randn(p.shape) * 0.3 if p.dim() > 1 else 1 + 0.2 * torch.randn(p.shape)))


def write_safetensors(path, tensors, dtype="F32"):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, w in tensors.items():
        w = w.detach().contiguous()
        raw = w.float().numpy().astype("<f4").tobytes() if dtype == "F32" else w.bfloat16().view(torch.int16).numpy().astype("<i2").tobytes()
        header[name] = {"dtype": dtype, "shape": list(w.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_checkpoint(folder, c, net):
    os.makedirs(folder, exist_ok=True)
    write_json(f"{folder}/config.json", c)
    write_json(f"{folder}/generation_config.json", {"bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.6, "top_p": 0.9})
    write_json(f"{folder}/tokenizer_config.json", {"model_max_length": c["max_position_embeddings"], "eos_token": "<end>"})
    write_json(f"{folder}/tokenizer.json", {"version": "1.0", "note": "carried along, not read"})
    with open(f"{folder}/chat_template.jinja", "w") as f:
        f.write("{% for m in messages %}{{ m.content }}{% endfor %}")
    weights = dict(net.named_parameters())  # without the second name of a tied head
    names = sorted(weights)
    shards, index = [names[i::3] for i in range(3)], {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(f"{folder}/{file}", {n: weights[n] for n in shard}, "BF16")
        index.update({n: file for n in shard})
    write_json(f"{folder}/model.safetensors.index.json",
               {"metadata": {"total_size": sum(2 * w.numel() for w in weights.values())}, "weight_map": dict(sorted(index.items()))})


def scores(net, sequences, value=None):
    logits, logp, entropy, values = [], [], [], []
    zero = torch.zeros(1)
    for tokens in sequences:
        hidden = net.model(tokens)
        logits.append(net.lm_head(hidden))
        table = (logits[-1][:-1] / TEMPERATURE).log_softmax(-1)
        logp += [zero, table.gather(1, tokens[1:, None])[:, 0]]
        entropy += [zero, -(table.exp() * table).sum(-1)]
        if value is not None:
            values += [zero, value(hidden)[:-1, 0]]
    return torch.cat(logits), torch.cat(logp), torch.cat(entropy), torch.cat(values) if values else None


def train(folder, c, net, trained, value=None):
    lengths = [11, 1, 24, 5]
    sequences = [torch.randint(0, c["vocab_size"], (n,)) for n in lengths]
    derivatives = [exact(torch.randn(sum(lengths))), exact(torch.randn(sum(lengths)) * 0.5), exact(torch.randn(sum(lengths)))]
    decayed = [w for w in trained.values() if w.dim() > 1]
    others = [w for w in trained.values() if w.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": STEPS["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
                                  lr=STEPS["learning_rate"], betas=(STEPS["beta1"], STEPS["beta2"]), eps=STEPS["epsilon"])
    expected, norms = {}, []
    for step in range(3):
        optimizer.zero_grad()
        logits, logp, entropy, values = scores(net, sequences, value)
        loss = (derivatives[0] * logp).sum() + (derivatives[1] * entropy).sum()
        if value is not None:
            loss = loss + (derivatives[2] * values).sum()
        loss.backward()
        if step == 0:
            expected = {"logits": logits, "logprobs": logp, "entropies": entropy}
            if value is not None:
                expected["values"] = values
                expected.update({f"start.{n}": w.detach().clone() for n, w in value.named_parameters(prefix="score")})
            expected.update({f"gradient.{n}": w.grad.clone() for n, w in trained.items()})
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(trained.values()), STEPS["clip_norm"])))
        optimizer.step()
    expected.update({f"after.{n}": w for n, w in trained.items()})
    write_safetensors(f"{folder}/expected.safetensors", expected)
    batch = {"temperature": TEMPERATURE, "optimizer": STEPS, "tokens": torch.cat(sequences).tolist(),
             "offsets": [sum(lengths[:i]) for i in range(len(lengths) + 1)], "d_logprobs": derivatives[0].tolist(),
             "d_entropies": derivatives[1].tolist(), "gradient_norms": norms}
    if value is not None:
        batch["d_values"] = derivatives[2].tolist()
    with open(f"{folder}/batch.json", "w") as f:
        json.dump(batch, f)
        f.write("\n")


def make_family(name, seed):
    torch.manual_seed(seed)
    c = FAMILIES[name]
    net = ForCausalLM(c)
    randomise(net)
    write_checkpoint(name, c, net)
    train(name, c, net, dict(net.named_parameters()))


def make_adapter(folder, seed):
    torch.manual_seed(seed - 1)  # the llama checkpoint again
    c = FAMILIES["llama"]
    net = ForCausalLM(c)
    randomise(net)
    for p in net.parameters():
        p.requires_grad_(False)
    torch.manual_seed(seed)
    for module in list(net.modules()):
        for child, layer in list(module.named_children()):
            if child in LORA["target_modules"]:
                setattr(module, child, LoraLinear(layer))
    value = nn.Linear(c["hidden_size"], 1)
    trained = {}
    for n, p in net.named_parameters():
        if "lora_" in n:
            with torch.no_grad():
                p.copy_(exact(torch.randn(p.shape) * 0.3))
            trained["base_model.model." + n] = p
    randomise(value)
    os.makedirs(folder, exist_ok=True)
    write_safetensors(f"{folder}/adapter_model.safetensors", {n: w.detach().clone() for n, w in trained.items()})
    write_json(f"{folder}/adapter_config.json", dict(LORA, peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path="llama", bias="none",
               lora_dropout=0.0, fan_in_fan_out=False, inference_mode=True, init_lora_weights=True, modules_to_save=None, use_dora=False,
               use_rslora=False, rank_pattern={}, alpha_pattern={}, layers_to_transform=None, layers_pattern=None, revision=None))
    trained.update({f"score.{n}": p for n, p in value.named_parameters()})
    train(folder, c, net, trained, value)


for number, family in enumerate(sorted(FAMILIES)):
    make_family(family, 10 * number + 1)
make_adapter("adapter", 2)
