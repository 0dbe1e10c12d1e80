"""Training steps of transformers' Qwen3 in PyTorch, each variant as an engineer would tune it. torch_side.py says what is measured.

A variant is a name of words joined by +. The first says what weights are kept in, further ones what else is done:

    bf16            weights, gradients and moments in bf16
    fp32-autocast   all of these in float32, products under autocast to bf16
    chunked         the head and its loss in blocks of rows, whose gradients are computed at once: logits are never stored whole
    cudnn, flash    attention by that kernel of scaled_dot_product_attention, in place of the one that PyTorch chooses
    autotune        torch.compile chooses among kernels by measuring them: max-autotune-no-cudagraphs

Sequences of one length are one dense batch. Others are packed behind each other into one row, where torch.nn.attention.varlen
is there, which computes them by the flash kernel without padding; else they are sorted, cut into four batches and padded at the
end, where a causal model needs no mask. Padding counts as no tokens.
"""
import contextlib
import inspect

import torch
import transformers
from torch.nn import functional

from comparison import packed_batches, padded_batches

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # PyTorch before 2.10
    varlen_attn = None



def causal_options(known):
    """How varlen_attn with these parameters is told to be causal, with fewer heads of keys than of queries."""
    options = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    return options | ({"enable_gqa": True} if "enable_gqa" in known else {})


CAUSAL = causal_options(inspect.signature(varlen_attn).parameters) if varlen_attn else {}
WEIGHTS = ["bf16", "fp32-autocast"]
WORDS = ["chunked", "cudnn", "flash", "autotune"]
BLOCK_ROWS = 4096  # whose logits are 1.2 GB in bf16
IGNORED = -100  # the label of what nothing predicts

# A mapping of masks is taken as prepared: none, so that attention is causal by itself. Under torch.compile transformers may
# otherwise make one, which no flash kernel takes.
NO_MASK = {"full_attention": None}


def parse_variant(name):
    """The weights and the other words of a variant."""
    weights, *words = name.split("+")
    if weights not in WEIGHTS or len(set(words)) != len(words) or any(w not in WORDS for w in words):
        raise ValueError(f"variant {name!r}: know {' and '.join(WEIGHTS)}, followed by any of +{', +'.join(WORDS)}")
    return weights, set(words)


def takes_no_mask(model, ids):
    """Whether this transformers takes NO_MASK."""
    try:
        with torch.no_grad():
            model(input_ids=ids[:1, :2], attention_mask=NO_MASK, use_cache=False)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return True


def packed_attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **more):
    """Causal attention within each sequence of a packed row, as transformers calls it: heads before positions."""
    ends, longest = more["cu_seq_lens_q"], more["max_length_q"]
    query, key, value = (t[0].transpose(0, 1) for t in (query, key, value))
    if query.device.type == "cpu":
        out = attention_one_by_one(query, key, value, ends)
    else:
        out = varlen_attn(query, key, value, ends, ends, longest, longest, **CAUSAL)
    return out[None], None


def attention_one_by_one(query, key, value, ends):
    """What varlen_attn computes, which has no kernel for the processor."""
    outs = []
    for begin, end in zip(ends.tolist(), ends.tolist()[1:]):
        q, k, v = (t[None, begin:end].transpose(1, 2) for t in (query, key, value))
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        outs.append(out.transpose(1, 2)[0])
    return torch.cat(outs)


def can_pack(site):
    """Whether sequences of several lengths can be packed."""
    return hasattr(transformers, "AttentionInterface") and (varlen_attn is not None or not site.cuda)


class Batch:
    """One pass: ids, the token that each position predicts or IGNORED, and what the model is told besides."""

    def __init__(self, site, rows, columns, lengths, packed, vocabulary):
        self.ids = torch.randint(0, vocabulary, (rows, columns), device=site.device)
        self.labels, self.more = self.ids.clone(), {}
        if packed:
            ends = [0]
            for length in lengths:
                self.labels[0, ends[-1]] = IGNORED  # nothing predicts the first of a sequence
                ends.append(ends[-1] + length)
            positions = torch.cat([torch.arange(length, device=site.device) for length in lengths])[None]
            bounds = torch.tensor(ends, dtype=torch.int32, device=site.device)
            self.more = {
                "position_ids": positions, "cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": max(lengths), "max_length_k": max(lengths),
            }
        else:
            for i, length in enumerate(lengths):
                self.labels[i, length:] = IGNORED
        self.targets = functional.pad(self.labels, (0, 1), value=IGNORED)[:, 1:].contiguous().view(-1)
        self.tokens, self.predicted = sum(lengths), sum(n - 1 for n in lengths)


def losses_of_block(hidden, weight, targets, scale):
    """The sum of −log π of some rows, times scale, and the gradient of their logits."""
    logits = (hidden @ weight.t()).float()
    total = logits.logsumexp(-1, keepdim=True)
    kept, at = (targets != IGNORED)[:, None], targets.clamp(min=0)[:, None]
    loss = ((total - logits.gather(1, at)) * kept).sum() * scale
    hit = torch.arange(logits.shape[1], device=logits.device)[None] == at
    gradient = torch.where(kept, torch.exp(logits - total) - hit.float(), 0.0) * scale
    return loss, gradient.to(hidden.dtype)


class ChunkedLoss(torch.autograd.Function):
    """The loss of a head, block by block of rows. Gradients are made with the losses, so that no product is computed again."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, scale, block):
        narrow, rows = weight.detach().to(torch.bfloat16), hidden.detach().to(torch.bfloat16)
        by_rows, by_weight = torch.empty_like(rows), torch.zeros_like(narrow)
        loss = torch.zeros((), device=hidden.device)
        for h, t, out in zip(rows.split(BLOCK_ROWS), targets.split(BLOCK_ROWS), by_rows.split(BLOCK_ROWS)):
            one, gradient = block(h, narrow, t, scale)
            loss += one
            torch.mm(gradient, narrow, out=out)
            by_weight.addmm_(gradient.t(), h)
            del one, gradient
        ctx.gradients = by_rows.to(hidden.dtype), by_weight.to(weight.dtype)
        return loss

    @staticmethod
    def backward(ctx, factor):
        by_rows, by_weight = ctx.gradients
        del ctx.gradients
        return by_rows.mul_(factor), by_weight.mul_(factor), None, None, None


class Trainer:
    """A model with its optimizer and the batches of a step."""

    def __init__(self, site, make, variant, lengths, parts, compiled):
        """compiled is what is compiled as one: "model", "layer", or "" for nothing."""
        weights, self.words = parse_variant(variant)
        self.site, self.autocast = site, weights == "fp32-autocast"
        self.packed = len(set(lengths)) > 1 and can_pack(site)
        if self.packed:
            transformers.AttentionInterface.register("packed", packed_attention)
        self.model = make(torch.float32 if self.autocast else torch.bfloat16, "packed" if self.packed else "sdpa")
        self.model.train()
        mode = "max-autotune-no-cudagraphs" if "autotune" in self.words else None

        def compile_(function):
            return torch.compile(function, mode=mode, dynamic=False) if compiled else function

        whole = self.model.model if "chunked" in self.words else self.model
        self.forward = compile_(whole) if compiled != "layer" else whole
        if compiled == "layer":
            for part in [*self.model.model.layers, self.model.model.norm]:
                part.compile(mode=mode, dynamic=False)
            self.model.loss_function = compile_(self.model.loss_function)
        self.block = compile_(losses_of_block)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-6, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
        cut = packed_batches if self.packed else padded_batches
        self.batches = [Batch(site, *one, self.packed, self.model.config.vocab_size) for one in cut(lengths, parts)]
        self.tokens, self.predicted = sum(b.tokens for b in self.batches), sum(b.predicted for b in self.batches)
        # Attention of packed rows takes no mask, and a model that is given no mapping would make one.
        self.mask = NO_MASK if self.packed or takes_no_mask(self.model, self.batches[0].ids) else None

    def layout(self):
        if self.packed:
            return "packed"
        return "dense" if all((b.labels != IGNORED).all() for b in self.batches) else "padded"

    def kernels(self):
        """Which kernels of attention are allowed."""
        backends = torch.nn.attention.SDPBackend
        named = {"cudnn": backends.CUDNN_ATTENTION, "flash": backends.FLASH_ATTENTION}
        allowed = [named[w] for w in ("cudnn", "flash") if w in self.words]
        return torch.nn.attention.sdpa_kernel(allowed, set_priority=True) if allowed else contextlib.nullcontext()

    def loss(self, batch):
        """The part of a batch in the mean over all predicted tokens."""
        more = {"attention_mask": self.mask, "use_cache": False, **batch.more}
        with torch.autocast(self.site.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            if "chunked" not in self.words:
                loss = self.forward(input_ids=batch.ids, labels=batch.labels, **more).loss
                return loss * (batch.predicted / self.predicted) if len(self.batches) > 1 else loss
            hidden = self.forward(input_ids=batch.ids, **more).last_hidden_state
        return ChunkedLoss.apply(hidden.flatten(0, 1), self.model.lm_head.weight, batch.targets, 1 / self.predicted, self.block)

    def step(self):
        total = 0
        with self.kernels():
            for batch in self.batches:
                loss = self.loss(batch)
                loss.backward()
                total = total + loss.detach()
                del loss
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total
