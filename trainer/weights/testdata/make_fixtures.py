#!/usr/bin/env python3
"""Writes mixed/, sharded/ and expected.json: safetensors files whose values PyTorch made and rounded.

Run in this folder with PyTorch and NumPy installed. The bytes are put together here with struct and json after the
format's description and the order of the reference implementation (widest type first, then by name), and shards are cut
as huggingface_hub cuts them. expected.json holds, per tensor, the float32 values that were rounded ("source") and what
PyTorch makes of the rounded ones in float32 ("values"), both as bit patterns; and digests of PyTorch's casts of many
numbers, among them every tie between two neighbors (NaNs left out, whose bits differ among PyTorch's kernels).
"""
import hashlib
import json
import os
import struct

import numpy as np
import torch

torch.manual_seed(7)
ORDER = ["I64", "F64", "F32", "BF16", "F16", "BOOL"]  # widest first
TYPES = {"I64": torch.int64, "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
         "BOOL": torch.bool}


def raw(t):
    if t.dtype in (torch.bfloat16, torch.float16):
        t = t.view(torch.int16)
    return t.contiguous().numpy().tobytes()


def write(path, tensors):
    """tensors: name -> (dtype name, tensor)"""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, t) in sorted(tensors.items(), key=lambda item: (ORDER.index(item[1][0]), item[0])):
        bytes_ = raw(t)
        header[name] = {"dtype": dtype, "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def bits(t):
    return [int(b) for b in t.float().contiguous().view(-1).numpy().view(np.uint32)]


def hard(n):
    """Values that are easy to get wrong: ties, subnormals, the largest values, negative zero."""
    special = torch.tensor([0.0, -0.0, 1.0, -1.0, 2.0 ** -24, 2.0 ** -25, 3 * 2.0 ** -25, -2.0 ** -14, 2.0 ** -14 - 2.0 ** -25,
                            65504.0, 65519.0, 1 + 2.0 ** -11, 1 + 3 * 2.0 ** -11, 1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, 1e-8, 0.1])
    return torch.cat([special, torch.randn(n - len(special)) * 10 ** (6 * torch.rand(n - len(special)) - 5)])


expected = {"mixed": {}, "sharded": {}}

mixed = {"a.weight": ("F32", hard(24).view(2, 3, 4)), "b.weight": ("BF16", hard(35).view(5, 7).bfloat16()),
         "c.weight": ("F16", hard(33).half()), "scale": ("F32", torch.tensor(0.5)), "empty": ("F16", torch.zeros(3, 0).half()),
         "größe <&> \"quoted\"": ("F16", torch.tensor([1.5]).half()),
         "steps": ("I64", torch.arange(3)), "mask": ("BOOL", torch.tensor([True, False])),
         "double": ("F64", torch.randn(2, dtype=torch.float64))}
os.makedirs("mixed", exist_ok=True)
write("mixed/model.safetensors", mixed)
for name, (dtype, t) in mixed.items():
    expected["mixed"][name] = {"dtype": dtype, "shape": list(t.shape),
                               "values": bits(t) if dtype in ("F32", "BF16", "F16") else None}

# Shards, cut in the order of the dictionary: a tensor that does not fit begins another, one too large stands alone.
LIMIT = 200
source = {f"layers.{i}.weight": hard(n).view(shape) for i, (n, shape) in
          enumerate([(40, (8, 5)), (60, (6, 10)), (150, (15, 10)), (36, (36,)), (24, (2, 12))])}
source["embed.weight"] = hard(20).view(4, 5)
shards, current, size = [], [], 0
for name, t in source.items():
    need = 2 * t.numel()
    if need > LIMIT:
        shards.append([name])
        continue
    if size + need > LIMIT:
        shards.append(current)
        current, size = [], 0
    current.append(name)
    size += need
if current:
    shards.append(current)
os.makedirs("sharded", exist_ok=True)
weight_map, total = {}, 0
for i, names in enumerate(shards):
    file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
    write("sharded/" + file, {name: ("BF16", source[name].bfloat16()) for name in names})
    for name in names:
        weight_map[name] = file
        total += 2 * source[name].numel()
with open("sharded/model.safetensors.index.json", "w", encoding="utf-8") as f:
    f.write(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2, sort_keys=True) + "\n")
for name, t in source.items():
    expected["sharded"][name] = {"dtype": "BF16", "shape": list(t.shape), "source": bits(t), "values": bits(t.bfloat16()),
                                 "file": weight_map[name]}
expected["order"] = list(source)
expected["shard_bytes"] = LIMIT

# Casts. The inputs of narrowing: every STRIDE-th float32, and what lies at and beside each tie.
STRIDE = 4093
h = np.arange(65536, dtype=np.uint32)
ties = [(h << 16) + d for d in (0x7fff, 0x8000, 0x8001)]
ties += [((h & 0x8000) << 16) + ((h & 0x7fff) << 13) + 0x38000000 + d for d in (0x0fff, 0x1000, 0x1001)]
inputs = np.concatenate([np.arange(0, 2 ** 32, STRIDE, dtype=np.uint64).astype(np.uint32)] + ties)
inputs[np.isnan(inputs.view(np.float32))] = 0
x = torch.from_numpy(inputs.view(np.float32).copy())
all16 = torch.from_numpy(h.astype(np.uint16).view(np.int16).copy())


def digest(t):
    return hashlib.sha256(raw(t)).hexdigest()


def widened(dtype):
    t = all16.view(dtype).float()
    return digest(torch.where(torch.isnan(t), torch.zeros(()), t))


expected["casts"] = {"stride": STRIDE, "inputs": len(inputs), "to_bf16": digest(x.bfloat16()), "to_f16": digest(x.half()),
                     "from_bf16": widened(torch.bfloat16), "from_f16": widened(torch.float16)}
with open("expected.json", "w", encoding="utf-8") as f:
    json.dump(expected, f, separators=(",", ":"), ensure_ascii=False)
    f.write("\n")
