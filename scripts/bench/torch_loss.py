#!/usr/bin/python3
"""Times a loss with its gradient in PyTorch, eager, float32: PPO clip, a k3 divergence, the mean over tokens.

    ratio = exp(clip(log π − log π_old, ±20))        L = max(−A·ratio, −A·clip(ratio, 0.8, 1.2))
    d = clip(log π − log π_ref, ±20)                 K = clip(e^−d + d − 1, ±10)
    loss = mean(L + 0.001·K)

It is written for speed: no mask, since every token counts, and no metrics. Prints one JSON object with the field names
of `turnwise bench loss -o json`. With --batch FILE it prints loss and gradient of a turnwise.batch/v1 instead, in
float64, for comparison with `turnwise loss`.
"""
import argparse
import json
import statistics
import time

import torch


def loss_of(logprobs, proximal, reference, advantages):
    ratio = torch.exp(torch.clamp(logprobs - proximal, -20, 20))
    minus = -advantages
    clipped = torch.maximum(minus * ratio, minus * torch.clamp(ratio, 0.8, 1.2))
    d = torch.clamp(logprobs - reference, -20, 20)
    k3 = torch.clamp(torch.exp(-d) + d - 1, -10, 10)
    return (clipped + 0.001 * k3).mean()


def gradient_of(path):
    with open(path) as file:
        sequences = json.load(file)["sequences"]
    streams = [torch.tensor(sum((s[name] for s in sequences), []), dtype=torch.float64)
               for name in ("logprobs", "proximal", "reference", "advantages")]
    streams[0].requires_grad_()
    loss = loss_of(*streams)
    loss.backward()
    print(json.dumps({"loss": loss.item(), "d_logprobs": streams[0].grad.tolist()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1 << 20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=11)
    parser.add_argument("--batch", metavar="FILE")
    o = parser.parse_args()
    if o.batch:
        gradient_of(o.batch)
        return
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    logprobs = 4 * torch.rand(o.tokens) - 4.3
    proximal, reference = (logprobs + 0.6 * torch.rand(o.tokens) - 0.3 for _ in range(2))
    advantages = 4 * torch.rand(o.tokens) - 2
    logprobs.requires_grad_()

    def evaluate():
        logprobs.grad = None
        loss = loss_of(logprobs, proximal, reference, advantages)
        loss.backward()
        return loss

    for _ in range(3):
        loss = evaluate().item()
    calls = 1
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            evaluate()
        if time.perf_counter() - start >= 0.01:
            break
        calls *= 2
    times = []
    for _ in range(o.samples):
        start = time.perf_counter()
        for _ in range(calls):
            evaluate()
        times.append(1e9 * (time.perf_counter() - start) / calls / o.tokens)
    print(json.dumps({
        "tokens": o.tokens, "threads": o.threads, "samples": o.samples, "calls_per_sample": calls,
        "ns_per_token": {"min": min(times), "median": statistics.median(times), "max": max(times)}, "loss": loss,
    }))


if __name__ == "__main__":
    main()
