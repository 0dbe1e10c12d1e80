#!/usr/bin/python3
"""Times decoding in PyTorch with a key-value cache: a batch of prompts, then one token at a time.

Tokens are drawn at temperature 1 and the log-probability of each is kept, as reinforcement learning needs.
Prints one JSON object with the field names of `turnwise bench generate -o json`.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

from torch_model import SHAPES, Decoder, attention


class Sampler(torch.nn.Module):
    """A decoder that draws the next token of each sequence; compiled, it is an eighth faster."""

    def __init__(self, model):
        super().__init__()
        block = model.blocks[0]
        self.model, self.group, self.kv_heads, self.head_dim = model, block.group, block.kv_heads, block.head_dim

    def forward(self, tokens, start: int, all_keys, all_values):
        """Token ids [B, 1] drawn after tokens [B, T] at positions start, start+1, …, with log-probabilities.

        all_keys and all_values [layers, B, K, positions, D] hold what came before and take what is new.
        """
        batch, length = tokens.shape
        end = start + length
        cos, sin = self.model.cos[start:end], self.model.sin[start:end]
        x = self.model.embedding(tokens)
        for i, block in enumerate(self.model.blocks):
            q, k, v = block.project(x, cos, sin)
            all_keys[i][:, :, start:end] = k
            all_values[i][:, :, start:end] = v
            keys, values = all_keys[i][:, :, :end], all_values[i][:, :, :end]
            if length == 1:  # the query heads of a key head are the rows of one product
                rows = (q * self.head_dim**-0.5).view(batch, self.kv_heads, self.group, self.head_dim)
                a = torch.matmul(torch.matmul(rows, keys.transpose(2, 3)).softmax(-1), values).view(batch, 1, -1)
            else:
                a = attention(q, keys, values, self.model.mask, self.group).transpose(1, 2).reshape(batch, length, -1)
            x = block.feed_forward(x + block.out(a))
        logits = F.linear(self.model.norm(x[:, -1]), self.model.embedding.weight)
        logp = F.log_softmax(logits, dim=-1)
        chosen = torch.multinomial(logp.exp(), 1)
        return chosen, logp.gather(1, chosen)


def generate(sampler, s, prompts, new):
    """Seconds to the last token and to the first."""
    batch, prompt = prompts.shape
    shape = (s["layers"], batch, s["kv_heads"], prompt + new, s["head_dim"])
    keys, values = torch.zeros(shape), torch.zeros(shape)
    out, logprobs = torch.empty(batch, new, dtype=torch.long), torch.empty(batch, new)
    start = time.perf_counter()
    tokens, at, first = prompts, 0, 0.0
    for i in range(new):
        chosen, logp = sampler(tokens, at, keys, values)
        at += tokens.shape[1]
        out[:, i : i + 1], logprobs[:, i : i + 1] = chosen, logp
        tokens = chosen
        if i == 0:
            first = time.perf_counter() - start
    return time.perf_counter() - start, first


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    s = SHAPES[o.shape]
    with torch.inference_mode():
        model = Decoder(s, o.prompt + o.new, hand_norm=False).eval()
        prompts = torch.randint(0, s["vocab"], (o.batch, o.prompt))
        sampler = torch.jit.script(Sampler(model))
        for _ in range(2):  # compiled code is fast from its third call
            generate(sampler, s, prompts, o.new)
        rounds = [generate(sampler, s, prompts, o.new) for _ in range(o.rounds)]
    seconds = [r[0] for r in rounds]
    tokens = o.batch * o.new
    print(json.dumps({
        "tokens_per_second": tokens / statistics.median(seconds),
        "round_ms": {"min": 1e3 * min(seconds), "median": 1e3 * statistics.median(seconds), "max": 1e3 * max(seconds)},
        "time_to_first_token_ms": 1e3 * statistics.median(r[1] for r in rounds),
    }))


if __name__ == "__main__":
    main()
