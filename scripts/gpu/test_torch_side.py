"""Tests of PyTorch's side: its decisions with a PyTorch that does nothing, and all of it on the processor where there is one."""
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import types
import unittest
from unittest import mock

import comparison
import plan

HERE = os.path.dirname(os.path.abspath(__file__))
COMPLETE = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


class OutOfMemoryError(RuntimeError):
    pass


def hollow(name="torch_side"):
    """A module with modules in place of PyTorch and transformers that hold what is needed to decide."""
    torch, nn, transformers = types.ModuleType("torch"), types.ModuleType("torch.nn"), types.ModuleType("transformers")
    torch.OutOfMemoryError, torch.nn, nn.functional = OutOfMemoryError, nn, None
    torch.autograd = types.SimpleNamespace(Function=object)
    torch.compiler = types.SimpleNamespace(reset=lambda: None)
    torch.device = lambda name: types.SimpleNamespace(type=name)
    with mock.patch.dict(sys.modules, {"torch": torch, "torch.nn": nn, "transformers": transformers}):
        sys.modules.pop("torch_training", None)
        spec = importlib.util.spec_from_file_location("hollow_" + name, os.path.join(HERE, name + ".py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def settings(**more):
    return types.SimpleNamespace(**{"micro_batches": 0, "eager": True, "steps": 5, "warm": 1, "sequences": 2, "prompt": 3, "new": 4, **more})


class MicroBatches(unittest.TestCase):
    """Training where so many micro-batches fit."""

    def attempts(self, fit, lengths="32x16", broken=False, **more):
        side, tried, self.compiled = hollow(), [], []

        def trainer(site, make, variant, lengths, parts, compiled):
            tried.append(parts)
            self.compiled.append(compiled)
            if compiled == "model" and broken:
                raise RuntimeError("cannot trace")
            if parts < fit:
                raise OutOfMemoryError("CUDA out of memory. Tried to allocate.\nmore")
            return parts

        side.Trainer, side.timed_training = trainer, lambda site, parts, begun, o: {"micro_batches": parts}
        return side.train(side.Site("cpu"), "tiny", "bf16", lengths, settings(**more)), tried

    def test_as_few_as_fit(self):
        entry, tried = self.attempts(fit=4)
        self.assertEqual((entry["micro_batches"], tried), (4, [1, 2, 4]))
        self.assertEqual((entry["tokens"], entry["variant"]), (512, "bf16"))

    def test_layers_are_compiled_where_the_model_cannot_be(self):
        with mock.patch("sys.stderr", io.StringIO()):
            entry, _ = self.attempts(fit=2, broken=True, eager=False)
        self.assertEqual((entry["compiled"], entry["micro_batches"], self.compiled), ("layer", 2, ["model", "layer", "layer"]))
        entry, _ = self.attempts(fit=1, eager=False)
        self.assertEqual((entry["compiled"], self.compiled), ("model", ["model"]))
        self.attempts(fit=1, broken=True)
        self.assertEqual(self.compiled, [""])

    def test_none_fits(self):
        entry, tried = self.attempts(fit=1000)
        self.assertEqual((entry["error"], tried), ("CUDA out of memory. Tried to allocate.", [1, 2, 4, 8, 16, 32]))
        entry, tried = self.attempts(fit=1000, lengths="3x16")
        self.assertEqual(tried, [1, 2])

    def test_as_told(self):
        entry, tried = self.attempts(fit=4, micro_batches=2)
        self.assertEqual((entry["error"], tried), ("CUDA out of memory. Tried to allocate.", [2]))


class Variants(unittest.TestCase):
    def test_read(self):
        side = hollow("torch_training")
        self.assertEqual(side.parse_variant("bf16"), ("bf16", set()))
        self.assertEqual(side.parse_variant("fp32-autocast+chunked+cudnn"), ("fp32-autocast", {"chunked", "cudnn"}))
        for name in plan.VARIANTS + plan.QUICK_VARIANTS:
            side.parse_variant(name)
        for bad in ["", "fp16", "chunked", "bf16+", "bf16+fast", "bf16+chunked+chunked", "bf16,chunked"]:
            with self.subTest(bad), self.assertRaises(ValueError):
                side.parse_variant(bad)

    def test_packed_attention_is_causal_in_every_pytorch(self):
        options = hollow("torch_training").causal_options
        self.assertEqual(options({"is_causal", "return_aux"}), {"is_causal": True})
        self.assertEqual(options({"window_size", "scale"}), {"window_size": (-1, 0)})
        self.assertEqual(options({"window_size", "enable_gqa"}), {"window_size": (-1, 0), "enable_gqa": True})


class Decoding(unittest.TestCase):
    def test_lack_of_memory_is_told(self):
        side = hollow()

        def lacking(*_):
            raise OutOfMemoryError("CUDA out of memory.")

        side.timed_decoding = lacking
        entry = side.decode(side.Site("cpu"), "tiny", "static", settings())
        self.assertEqual(entry, {"network": "tiny", "variant": "static", "sequences": 2, "prompt": 3, "new": 4, "error": "CUDA out of memory."})


    def test_what_fails_otherwise_is_told_too(self):
        side = hollow()

        def failing(*_):
            raise TypeError("no such cache:\nthat one\nmore")

        side.timed_decoding, side.Trainer = failing, failing
        with mock.patch("sys.stderr", io.StringIO()) as said:
            decoded = side.decode(side.Site("cpu"), "tiny", "static", settings())
            trained = side.train(side.Site("cpu"), "tiny", "bf16", "2x16", settings())
        self.assertEqual((decoded["error"], trained["error"]), ("TypeError: no such cache: that one",) * 2)
        self.assertIn("more", said.getvalue())


class Lacking(unittest.TestCase):
    @unittest.skipIf(COMPLETE, "PyTorch and transformers are here")
    def test_without_pytorch_one_sentence(self):
        done = subprocess.run([sys.executable, os.path.join(HERE, "torch_side.py"), "--out", "x"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("needs PyTorch and transformers", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)

    def test_without_the_binary_one_sentence(self):
        done = subprocess.run([sys.executable, os.path.join(HERE, "compare.py"), "--bench", "nowhere/gpubench.test"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no nowhere/gpubench.test: make it with", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)


@unittest.skipUnless(COMPLETE, "there is no PyTorch with transformers here")
class Gradients(unittest.TestCase):
    """Every variant and layout has the loss and the gradients of the sequences one by one in float32, but for what bf16 rounds."""

    def setUp(self):
        import torch_side
        import torch_training

        self.side, self.training = torch_side, torch_training
        torch_side.torch.manual_seed(1)
        self.site = torch_side.Site("cpu")

    def trainer(self, variant, lengths, parts):
        return self.training.Trainer(self.site, lambda dtype, attention: self.side.new_model(self.site, "tiny", dtype, attention), variant, lengths, parts, "")

    def sequences(self, trainer):
        for b in trainer.batches:
            ends = b.more["cu_seq_lens_q"].tolist() if b.more else []
            yield from (b.ids[0, begin:end] for begin, end in zip(ends, ends[1:])) if ends else (ids[labels >= 0] for ids, labels in zip(b.ids, b.labels))

    def reference(self, trainer):
        torch = self.side.torch
        model = self.side.new_model(self.site, "tiny", torch.float32, "sdpa")
        model.load_state_dict({name: value.float() for name, value in trainer.model.state_dict().items()})
        total = 0
        for ids in self.sequences(trainer):
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            total = total + torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum")
        (total / trainer.predicted).backward()
        return (total / trainer.predicted).item(), model.parameters()

    def check(self, variant, lengths, parts, layout):
        trainer = self.trainer(variant, lengths, parts)
        self.assertEqual((trainer.layout(), sorted(map(len, self.sequences(trainer)))), (layout, sorted(lengths)))
        self.assertEqual((trainer.tokens, trainer.predicted), (sum(lengths), sum(lengths) - len(lengths)))
        loss = 0
        for batch in trainer.batches:
            one = trainer.loss(batch)
            one.backward()
            loss += one.item()
        want, parameters = self.reference(trainer)
        self.assertLess(abs(loss - want), 0.01)
        for ours, theirs in zip(trainer.parameters, parameters):
            distance = (ours.grad.float() - theirs.grad).norm() / theirs.grad.norm()
            self.assertLess(distance, 0.05)

    def test_all(self):
        for variant in ("bf16", "fp32-autocast", "bf16+chunked", "fp32-autocast+chunked"):
            for lengths, parts, layout in [([9] * 4, 1, "dense"), ([9] * 4, 2, "dense"), ([12, 5, 9, 7, 2], 1, "packed"), ([12, 5, 9, 7, 2], 3, "packed"), ([12, 5, 9, 7, 2], 1, "padded")]:
                with self.subTest(variant, lengths=lengths, parts=parts, layout=layout), mock.patch.object(self.training, "BLOCK_ROWS", 7):
                    with mock.patch.object(self.training, "can_pack", lambda _: layout == "packed"):
                        self.check(variant, lengths, parts, layout)

    def test_a_step_changes_weights_and_keeps_no_gradients(self):
        trainer = self.trainer("bf16+chunked", [9] * 4, 2)
        before = [p.detach().clone() for p in trainer.parameters]
        loss = trainer.step().item()
        self.assertLess(abs(loss - 4.2), 1)  # ln 67
        self.assertTrue(any((p != b).any() for p, b in zip(trainer.parameters, before)))
        self.assertTrue(all(p.grad is None for p in trainer.parameters))

    def test_shapes_are_those_of_the_checkpoints(self):
        """The numbers of parameters that Qwen3-0.6B and 1.7B have, with a head that is the embedding."""
        for network, count in [("0.6b", 596_049_920), ("1.7b", 1_720_574_976)]:
            site = types.SimpleNamespace(device=self.side.torch.device("meta"))
            self.assertEqual(self.side.parameters(self.side.new_model(site, network, self.side.torch.bfloat16, "sdpa")), count)


@unittest.skipUnless(COMPLETE, "there is no PyTorch with transformers here")
class Whole(unittest.TestCase):
    def test_tiny_network_on_the_processor(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.json")
            command = [sys.executable, os.path.join(HERE, "torch_side.py"), "--device", "cpu", "--eager", "--networks", "tiny", "--lengths", "2x8;9,5,3",
                       "--variants", "bf16,bf16+cudnn", "--steps", "1", "--sequences", "2", "--prompt", "5", "--new", "3", "--out", out]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with open(out) as file:
                results = json.load(file)
        rows = comparison.rows([{"round": 0, "side": "pytorch", "results": results}])
        self.assertEqual([(r["part"], r["what"]) for r in rows], [("training", "2x8"), ("training", "9,5,3"), ("decoding", "2 × (5 + 3)")])
        for row in rows:
            self.assertEqual(len(row["pytorch"]), 2)
            for variant, one in row["pytorch"].items():
                if variant == "bf16+cudnn":  # no processor has it
                    self.assertIn("error", one)
                else:
                    self.assertGreater(one["tokens_per_second"], 0)
                    self.assertTrue(one["void"])
        for one in results["training"]:
            if "error" not in one:
                self.assertLess(abs(one["first_loss"] - 4.2), 1)  # ln 67

    def test_variants_are_refused_in_one_sentence(self):
        done = subprocess.run([sys.executable, os.path.join(HERE, "torch_side.py"), "--out", "x", "--variants", "bf16,fp8"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--variants: variant 'fp8': know bf16", done.stderr)


if __name__ == "__main__":
    unittest.main()
