#!/usr/bin/python3
"""Checks that the fast formulations of torch_model and torch_generate compute what the plain ones do.

A comparison with a program that computes something else would mean nothing. Exits 1 at the first difference.
"""
import torch

import torch_model
from torch_generate import Sampler
from torch_model import SHAPES, Decoder, HandRMSNorm, PlainRMSNorm


def plain_attention(q, k, v, mask, group):
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    length, dim = q.shape[2:]
    return (q @ k.transpose(2, 3) * dim**-0.5 + mask[:length, :length]).softmax(-1) @ v


def expect_close(what, got, want, tolerance):
    gap = (got - want).abs().max().item()
    print(f"{what}: largest gap {gap:.1e}")
    if not gap < tolerance:
        raise SystemExit(f"{what}: gap {gap} is not below {tolerance}")


def check_norm():
    hand, plain = HandRMSNorm(32), PlainRMSNorm(32)
    torch.nn.init.normal_(hand.weight)
    plain.load_state_dict(hand.state_dict())
    x, dy = torch.randn(5, 7, 32), torch.randn(5, 7, 32)
    inputs = []
    for norm in hand, plain:
        inputs.append(x.clone().requires_grad_())
        norm(inputs[-1]).backward(dy)
    expect_close("norm", hand(x), plain(x), 1e-5)
    expect_close("norm's gradient of its input", inputs[0].grad, inputs[1].grad, 1e-5)
    expect_close("norm's gradient of its weight", hand.weight.grad, plain.weight.grad, 1e-5)


def check_decoding():
    s = SHAPES["S"]
    model, plain = Decoder(s, 300), Decoder(s, 300, hand_norm=False)
    plain.load_state_dict(model.state_dict())
    tokens = torch.randint(0, s["vocab"], (3, 300))
    fast = torch_model.attention
    with torch.inference_mode():
        blocks = model(tokens)
        torch_model.attention = plain_attention
        expect_close("attention in blocks", blocks, model(tokens), 1e-4)
        torch_model.attention = fast
        sampler = torch.jit.script(Sampler(plain))
        keys = torch.zeros(s["layers"], 3, s["kv_heads"], 300, s["head_dim"])
        values, context, new, at, gaps = keys.clone(), tokens[:, :250], tokens[:, :250], 0, []
        for _ in range(40):
            chosen, logp = sampler(new, at, keys, values)
            at += new.shape[1]
            full = model(context)[:, -1].log_softmax(-1).gather(1, chosen)
            gaps.append(logp - full)
            context, new = torch.cat((context, chosen), 1), chosen
        expect_close("decoding with a cache", torch.cat(gaps), torch.zeros(()), 1e-4)


if __name__ == "__main__":
    torch.manual_seed(1)
    check_norm()
    check_decoding()
