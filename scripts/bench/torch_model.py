"""A Qwen3-shaped decoder in plain PyTorch, for comparison with turnwise.

It is the network of trainer/policy (RMSNorm, rotary embedding, grouped-query attention with normalised
queries and keys, SwiGLU, head tied to the embedding), written to be fast in PyTorch 1.13 on a CPU:
queries, keys and values come from one matrix product, gate and up from another, heads that share a key head
share its matrix product, and blocks of queries leave out most keys that causality hides. That and a norm with
its derivative by hand made training about 10 % faster than the plain formulation.
"""
import torch
import torch.nn.functional as F

SHAPES = {
    "S": dict(layers=4, hidden=128, heads=4, kv_heads=2, head_dim=32, ffn=384, vocab=512, batch=16, seq=256),
    "M": dict(layers=6, hidden=256, heads=8, kv_heads=4, head_dim=32, ffn=768, vocab=4096, batch=8, seq=512),
}
EPS = 1e-6
ROPE_THETA = 10000.0


class PlainRMSNorm(torch.nn.Module):
    """RMSNorm as PyTorch users write it: four element-wise operations, differentiated by autograd."""

    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))
        self.eps = EPS

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class RMSNormFunction(torch.autograd.Function):
    """RMSNorm with its derivative by hand: fewer passes over memory than autograd's."""

    @staticmethod
    def forward(ctx, x, weight):
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
        normal = x * inverse
        ctx.save_for_backward(normal, inverse, weight)
        return normal * weight

    @staticmethod
    def backward(ctx, dy):
        normal, inverse, weight = ctx.saved_tensors
        width = normal.shape[-1]
        d_weight = (dy * normal).reshape(-1, width).sum(0)
        d_normal = dy * weight
        mean = (d_normal * normal).mean(-1, keepdim=True)
        return d_normal.addcmul_(normal, mean, value=-1).mul_(inverse), d_weight


class HandRMSNorm(PlainRMSNorm):
    def forward(self, x):
        return RMSNormFunction.apply(x, self.weight)


def rotary(head_dim, positions):
    """cos and sin, [positions, head_dim], of Hugging Face's rotation by halves."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(positions, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Block(torch.nn.Module):
    def __init__(self, s, norm):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = s["heads"], s["kv_heads"], s["head_dim"]
        self.group = self.heads // self.kv_heads
        self.split = [self.heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim]
        hidden = s["hidden"]
        self.attention_norm, self.ffn_norm = norm(hidden), norm(hidden)
        self.q_norm, self.k_norm = norm(self.head_dim), norm(self.head_dim)
        self.qkv = torch.nn.Linear(hidden, sum(self.split), bias=False)
        self.out = torch.nn.Linear(self.split[0], hidden, bias=False)
        self.gate_up = torch.nn.Linear(hidden, 2 * s["ffn"], bias=False)
        self.down = torch.nn.Linear(s["ffn"], hidden, bias=False)

    def project(self, x, cos, sin):
        """Queries [B, H, T, D], keys and values [B, K, T, D] of x [B, T, hidden]."""
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).split(self.split, dim=-1)
        q = self.q_norm(q.view(batch, length, self.heads, self.head_dim)).transpose(1, 2)
        k = self.k_norm(k.view(batch, length, self.kv_heads, self.head_dim)).transpose(1, 2)
        v = v.view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def feed_forward(self, x):
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def forward(self, x, cos, sin, mask):
        batch, length, _ = x.shape
        q, k, v = self.project(x, cos, sin)
        a = attention(q, k, v, mask, self.group)
        x = x + self.out(a.transpose(1, 2).reshape(batch, length, -1))
        return self.feed_forward(x)


def attention(q, k, v, mask, group: int, query_block: int = 128):
    """Causal attention of q [B, H, T, D] over k and v [B, K, T, D]; mask [T, T] is 0 or -inf.

    The query heads of a key head become one tall matrix, so that no key is copied. Queries come in blocks,
    and a block reads the keys up to its end: that leaves out most of what the mask would hide. 128 was the
    fastest of 64, 128 and 256.
    """
    batch, heads, length, dim = q.shape
    kv = heads // group
    q = (q * dim**-0.5).reshape(batch * kv, group, length, dim)
    k = k.reshape(batch * kv, length, dim).transpose(1, 2)
    v = v.reshape(batch * kv, length, dim)
    outs = []
    for start in range(0, length, query_block):
        end = min(start + query_block, length)
        block = q[:, :, start:end].reshape(batch * kv, group * (end - start), dim)
        scores = torch.baddbmm(mask[start:end, :end].repeat(group, 1), block, k[:, :, :end])
        outs.append(torch.bmm(scores.softmax(-1), v[:, :end]).view(batch * kv, group, end - start, dim))
    return torch.cat(outs, 2).view(batch, heads, length, dim)


class Decoder(torch.nn.Module):
    def __init__(self, s, positions, hand_norm=True):
        super().__init__()
        norm = HandRMSNorm if hand_norm else PlainRMSNorm
        self.shape = s
        self.embedding = torch.nn.Embedding(s["vocab"], s["hidden"])
        torch.nn.init.normal_(self.embedding.weight, std=s["hidden"] ** -0.5)
        self.blocks = torch.nn.ModuleList(Block(s, norm) for _ in range(s["layers"]))
        self.norm = norm(s["hidden"])
        cos, sin = rotary(s["head_dim"], positions)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)
        self.register_buffer("mask", torch.full((positions, positions), float("-inf")).triu(1))

    def forward(self, tokens):
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin, self.mask)
        return F.linear(self.norm(x), self.embedding.weight)
