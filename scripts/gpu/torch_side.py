#!/usr/bin/env python3
"""Measures transformers' Qwen3 in PyTorch: training steps and generate, with random weights, as compare.py asks.

Writes one JSON object to the file --out: {"about": {…}, "training": […], "decoding": […]}; each entry has the network, what was
measured, the variant, the number of parameters, the tokens a second of the median step or round, the times in milliseconds, how
long it took to make and to compile it ("ready_ms"), and the most memory: allocated and reserved by PyTorch, and what the driver
does not have free at the end. An entry that failed has an "error" in place of numbers. Memory is that of steps after the first
ones, without what compiling took, and exact only where a process measures one variant.

Training is the mean of −log π over all tokens but the first of each sequence under torch.compile, with scaled-dot-product
attention without a mask, clipping to a norm of 1 and fused AdamW. torch_training.py says which variants there are. A batch that
does not fit is cut into 2, 4, … micro-batches. Where the model as a whole fails to compile, its layers are compiled, and "compiled" says so.

Decoding is model.generate, at temperature 1 without truncation, once with the cache that it takes by default (dynamic) and once with
cache_implementation="static", for which transformers compiles the model by itself, with CUDA graphs. No token ends a sequence.

With --device cpu nothing is measured: it tries every line that does not need a GPU.
"""
import argparse
import gc
import json
import os
import statistics
import sys
import time
import traceback

from comparison import parse_lengths

SHAPES = {
    "0.6b": dict(num_hidden_layers=28, hidden_size=1024, num_attention_heads=16, num_key_value_heads=8, head_dim=128, intermediate_size=3072, vocab_size=151936),
    "1.7b": dict(num_hidden_layers=28, hidden_size=2048, num_attention_heads=16, num_key_value_heads=8, head_dim=128, intermediate_size=6144, vocab_size=151936),
    "tiny": dict(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=48, vocab_size=67),
}
CACHES = ["dynamic", "static"]
MOST_MICRO_BATCHES = 32

# Memory that is reserved in pieces of one address range is hardly fragmented. Graphs of generate do without.
if "train" in sys.argv:
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
try:
    import torch
    import transformers
except ImportError as error:
    sys.exit(f"{error}: the comparison needs PyTorch and transformers in {sys.executable}; name another interpreter with --python")

from torch_training import Trainer, parse_variant  # needs both


class Site:
    """Where it is measured: a GPU, or the processor to try the code."""

    def __init__(self, device):
        self.device, self.cuda = torch.device(device), device != "cpu"

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def begin(self):
        """Forgets what was before, and compiled."""
        torch.compiler.reset()
        self.forget()

    def forget(self):
        """Gives back what is not in use, and counts the most memory from here on."""
        gc.collect()
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self):
        if not self.cuda:
            return {"allocated": 0, "reserved": 0, "driver": 0}
        free, total = torch.cuda.mem_get_info()
        return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved(), "driver": total - free}


def new_model(site, network, dtype, attention):
    config = transformers.Qwen3Config(**SHAPES[network], max_position_embeddings=40960, tie_word_embeddings=True)
    with site.device:
        make = transformers.AutoModelForCausalLM.from_config
        try:
            return make(config, attn_implementation=attention, dtype=dtype)
        except TypeError:  # transformers before 4.56
            return make(config, attn_implementation=attention, torch_dtype=dtype)


def parameters(model):
    """The number of weights; those of a head that are the embedding's count once."""
    return sum(p.numel() for p in model.parameters())


def train(site, network, variant, text, o):
    lengths = parse_lengths(text)
    entry = {"network": network, "lengths": text, "variant": variant, "tokens": sum(lengths)}
    parts, compiled = o.micro_batches or 1, "" if o.eager else "model"

    def make(dtype, attention):
        return new_model(site, network, dtype, attention)

    while True:
        site.begin()
        begun = time.perf_counter()
        try:
            return entry | {"compiled": compiled} | timed_training(site, Trainer(site, make, variant, lengths, parts, compiled), begun, o)
        except torch.OutOfMemoryError as error:
            failure = told(error)
        except Exception as error:
            if compiled != "model":  # the other variants are still measured
                return entry | {"error": told(error)}
            failure = told(error)
            compiled = "layer"  # for a PyTorch that cannot compile what transformers has around layers
            continue
        # Outside of the except clause, whose exception keeps the tensors of the failed step.
        if o.micro_batches or parts * 2 > min(len(lengths), MOST_MICRO_BATCHES):
            return entry | {"error": failure}
        parts *= 2


def graph_breaks():
    """How often torch.compile has given up a graph and begun another one since it was reset."""
    return sum(torch._dynamo.utils.counters["graph_break"].values())


def timed_training(site, trainer, begun, o):
    losses = [trainer.step().item()]
    ready = time.perf_counter() - begun
    for _ in range(o.warm - 1):
        trainer.step()
    site.forget()
    trainer.step()  # takes the memory again
    took = []
    for _ in range(o.steps):
        site.wait()
        begun = time.perf_counter()
        loss = trainer.step()
        site.wait()
        took.append(time.perf_counter() - begun)
    return {
        "step_ms": spread(took), "tokens_per_second": trainer.tokens / statistics.median(took), "ready_ms": 1e3 * ready, "micro_batches": len(trainer.batches),
        "layout": trainer.layout(), "mask": "none" if trainer.mask else "by transformers", "parameters": parameters(trainer.model),
        "graph_breaks": graph_breaks(), "memory_bytes": site.memory(), "first_loss": losses[0], "last_loss": loss.item(),
    }


def decode(site, network, cache, o):
    entry = {"network": network, "variant": cache, "sequences": o.sequences, "prompt": o.prompt, "new": o.new}
    site.begin()
    try:
        return entry | timed_decoding(site, network, cache, o)
    except Exception as error:  # the other variants are still measured
        return entry | {"error": told(error)}


def told(error):
    """An error in a line, which the table has. All of it goes to standard error."""
    lines = str(error).splitlines() or [""]
    if isinstance(error, torch.OutOfMemoryError):
        return lines[0]
    traceback.print_exception(type(error), error, error.__traceback__)
    cause = " " + lines[1] if lines[0].endswith(":") and len(lines) > 1 else ""
    return f"{type(error).__name__}: {lines[0]}{cause}"


def options_of(site, cache, compiled):
    """What generate is told of its cache."""
    if cache == "dynamic":
        return {}
    more = {"cache_implementation": "static"}
    if not compiled:
        more["disable_compile"] = True
    elif not site.cuda:  # where transformers compiles only when it is told to
        more["compile_config"] = transformers.CompileConfig(mode="default")
        more["compile_config"]._compile_all_devices = True
    return more


def timed_decoding(site, network, cache, o):
    begun = time.perf_counter()
    model = new_model(site, network, torch.bfloat16, "sdpa").eval()
    ids = torch.randint(1, SHAPES[network]["vocab_size"], (o.sequences, o.prompt), device=site.device)
    more = options_of(site, cache, not o.eager)

    def generate(new):
        # No token ends a sequence: the network is random, and every sequence has as many new tokens.
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            eos_token_id=None, pad_token_id=0, **more,
        )
        site.wait()
        if out.shape != (o.sequences, o.prompt + new):
            raise RuntimeError(f"generate returned {tuple(out.shape)} tokens, {(o.sequences, o.prompt + new)} were asked for")

    # What is not compiled is warm after some tokens. A static cache has the size that it will have, or is compiled anew.
    generate(o.new if cache == "static" else min(o.new, 32))
    ready = time.perf_counter() - begun
    if cache == "static":
        generate(o.new)
    site.forget()
    took = []
    for _ in range(1 + o.steps // 5):
        site.wait()
        begun = time.perf_counter()
        generate(o.new)
        took.append(time.perf_counter() - begun)
    return {
        "round_ms": spread(took), "tokens_per_second": o.sequences * o.new / statistics.median(took), "ready_ms": 1e3 * ready,
        "parameters": parameters(model), "memory_bytes": site.memory(),
    }


def spread(seconds):
    return {"min": 1e3 * min(seconds), "median": 1e3 * statistics.median(seconds), "max": 1e3 * max(seconds)}


def about(site):
    found = {"python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda}
    found["device"] = site.device.type
    if site.cuda:
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "memory_bytes": properties.total_memory, "capability": f"{properties.major}.{properties.minor}"}
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--networks", default="0.6b", help="with commas: " + ", ".join(SHAPES))
    parser.add_argument("--parts", default="train,decode")
    parser.add_argument("--lengths", default="32x1024", help="batches, with semicolons, as gpubench has them")
    parser.add_argument("--variants", default="bf16", help="of training, with commas: see torch_training.py")
    parser.add_argument("--caches", default=",".join(CACHES))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm", type=int, default=2, help="steps before the timed ones, at least 1")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=512)
    parser.add_argument("--micro-batches", type=int, default=0, help="of a step; 0 means as few as fit")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu tries the code")
    parser.add_argument("--eager", action="store_true", help="do not compile, to try the code")
    o = parser.parse_args()
    for name in o.variants.split(","):
        try:
            parse_variant(name)
        except ValueError as error:
            sys.exit(f"--variants: {error}")
    return o


def main():
    o = options()
    if o.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no GPU: CUDA {torch.version.cuda}, see `nvidia-smi`")
    torch.manual_seed(3)
    torch.set_float32_matmul_precision("high")
    site = Site(o.device)
    results = {"about": about(site), "training": [], "decoding": []}
    for network in o.networks.split(","):
        if "train" in o.parts.split(","):
            for text in o.lengths.split(";"):
                for variant in o.variants.split(","):
                    results["training"].append(train(site, network, variant, text, o))
                    print(json.dumps(results["training"][-1]), flush=True)
        if "decode" in o.parts.split(","):
            for cache in o.caches.split(","):
                results["decoding"].append(decode(site, network, cache, o))
                print(json.dumps(results["decoding"][-1]), flush=True)
    with open(o.out, "w") as file:
        json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
