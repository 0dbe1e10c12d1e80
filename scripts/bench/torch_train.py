#!/usr/bin/python3
"""Times one training step in PyTorch: forward, cross-entropy over every token, backward, AdamW.

Prints one JSON object with the field names of `turnwise bench train -o json`. Thread counts of PyTorch and
of the BLAS library behind it come from --threads and OPENBLAS_NUM_THREADS; see compare.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F

from torch_model import SHAPES, Decoder


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    s = SHAPES[o.shape]
    model = Decoder(s, s["seq"], hand_norm=True)
    tokens = torch.randint(0, s["vocab"], (s["batch"], s["seq"] + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), foreach=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(inputs)
        loss = F.cross_entropy(logits.view(-1, s["vocab"]), targets)
        loss.backward()
        optimizer.step()
        return loss

    first = step().item()
    for _ in range(2):
        step()
    times = []
    for _ in range(o.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    if o.profile:
        with torch.profiler.profile():  # its own first use is slow
            step()
        with torch.profiler.profile() as p:
            for _ in range(4):
                step()
        print(p.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
        return
    median = statistics.median(times)
    print(json.dumps({
        "step_ms": {"min": 1e3 * min(times), "median": 1e3 * median, "max": 1e3 * max(times)},
        "tokens_per_second": s["batch"] * s["seq"] / median,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": sum(p.numel() for p in model.parameters()),
        "first_loss": first,
    }))


if __name__ == "__main__":
    main()
