"""Tests of what needs neither a GPU nor PyTorch: python3 -m unittest discover scripts/gpu."""
import unittest

import comparison
from comparison import MET, MISSED, UNMEASURED

GIB = 1 << 30


def ours(number, rate, allocated=10, taken=12, decoding=None, emulated=False, others=0):
    network = {"name": "0.6b", "training": [{
        "lengths": "32x1024", "tokens": 32768, "micro_batches": 1, "model_operations": 3e14,
        "tokens_per_second": rate, "memory_bytes": {"allocated": allocated * GIB, "driver": taken * GIB},
    }]}
    if decoding:
        network["decoding"] = {
            "sequences": 64, "prompt": 512, "new": 512, "tokens_per_second": decoding, "memory_bytes": {"allocated": GIB, "driver": GIB},
        }
    results = {"gpu": {"emulated": emulated}, "networks": [network]}
    return {"round": number, "side": "turnwise", "others_bytes": others * GIB, "results": results}


def theirs(number, rates, allocated=10, taken=12, caches=None):
    memory = {"allocated": allocated * GIB, "reserved": taken * GIB, "driver": taken * GIB}
    training = [{"network": "0.6b", "lengths": "32x1024", "variant": w, "tokens_per_second": r, "micro_batches": 1, "memory_bytes": memory} for w, r in rates.items()]
    decoding = [
        {"network": "0.6b", "variant": c, "sequences": 64, "prompt": 512, "new": 512, "tokens_per_second": r, "memory_bytes": memory}
        for c, r in (caches or {}).items()
    ]
    return {"round": number, "side": "pytorch", "others_bytes": 0, "results": {"about": {}, "training": training, "decoding": decoding}}


def verdicts(row):
    return [g["verdict"] for g in row["goals"]]


class Lengths(unittest.TestCase):
    def test_read(self):
        self.assertEqual(comparison.parse_lengths("2x10,7,1x3"), [10, 10, 7, 3])

    def test_refused(self):
        for bad in ["", "x", "0x5", "5x", "3x1", "-3", "1x2x3", "2,", "99999999x2", "20000000"]:
            with self.subTest(bad), self.assertRaises(ValueError):
                comparison.parse_lengths(bad)


class Batches(unittest.TestCase):
    def test_one_length_is_dense(self):
        self.assertEqual(comparison.padded_batches([8] * 6, 1), [(6, 8, [8] * 6)])
        self.assertEqual(comparison.padded_batches([8] * 6, 2), [(3, 8, [8] * 3)] * 2)
        self.assertEqual(comparison.padded_batches([8] * 2, 5), [(1, 8, [8])] * 2)

    def test_the_least_is_padded(self):
        lengths = [5, 100, 90, 6, 7, 40, 41, 300]
        batches = comparison.padded_batches(lengths, 1)
        self.assertEqual(batches, [(1, 300, [300]), (2, 100, [100, 90]), (2, 41, [41, 40]), (3, 7, [7, 6, 5])])
        self.assertEqual(comparison.padded_batches([9, 3], 1), [(1, 9, [9]), (1, 3, [3])])
        lengths = [(37 * i) % 101 + 2 for i in range(64)]
        for parts in (1, 4, 8):
            batches = comparison.padded_batches(lengths, parts)
            self.assertEqual(len(batches), max(parts, 4))
            self.assertEqual(sorted(n for _, _, rows in batches for n in rows), sorted(lengths))
            for count, longest, rows in batches:
                self.assertEqual((count, longest), (len(rows), max(rows)))


    def test_packed(self):
        self.assertEqual(comparison.packed_batches([8, 3, 5], 1), [(1, 16, [8, 3, 5])])
        self.assertEqual(comparison.packed_batches([8, 3, 5], 2), [(1, 8, [8]), (1, 8, [3, 5])])
        self.assertEqual(comparison.packed_batches([2, 2, 90], 5), [(1, 2, [2]), (1, 2, [2]), (1, 90, [90])])
        self.assertEqual(comparison.packed_batches([90, 2, 2], 2), [(1, 90, [90]), (1, 4, [2, 2])])
        lengths = [(37 * i) % 101 + 2 for i in range(64)]
        for parts in range(1, 65):
            rows = comparison.packed_batches(lengths, parts)
            self.assertEqual(len(rows), parts)
            self.assertEqual([n for _, _, row in rows for n in row], lengths)
            for one, tokens, row in rows:
                self.assertEqual((one, tokens), (1, sum(row)))
                self.assertLessEqual(tokens, sum(lengths) / parts + 2 * max(lengths))


class Doubts(unittest.TestCase):
    def both(self, **more):
        a, b = ours(0, 120), theirs(0, {"bf16": 100})
        a["gpu"] = b["gpu"] = "GPU-1"
        a["results"]["networks"][0] |= {"parameters": 596}
        a["results"]["networks"][0]["training"][0] |= {"first_loss": 12.4}
        b["results"]["training"][0] |= {"first_loss": 12.1, "tokens": 32768, "parameters": 596} | more
        return [a, b]

    def test_none(self):
        self.assertEqual(comparison.doubts(self.both()), [])
        self.assertEqual(comparison.doubts([]), [])

    def test_other_work_is_told(self):
        for more, said in [
            (dict(parameters=751), "0.6b training 32x1024: parameters differ: turnwise 596, pytorch bf16 751"),
            (dict(tokens=32736), "0.6b training 32x1024: tokens a step differ: turnwise 32,768, pytorch bf16 32,736"),
            (dict(graph_breaks=3), "0.6b training 32x1024: pytorch bf16 is compiled in pieces, with 3 breaks"),
            (dict(mask="by transformers"), "0.6b training 32x1024: pytorch bf16 is given a mask by transformers, which no flash kernel takes"),
            (dict(first_loss=11.0), "0.6b training 32x1024: nats at first differ: turnwise 12.4, pytorch bf16 11.0"),
        ]:
            self.assertEqual(comparison.doubts(self.both(**more)), [said])

    def test_another_gpu_is_told(self):
        runs = self.both()
        runs[1]["gpu"] = "GPU-2"
        self.assertEqual(comparison.doubts(runs), ["measured on 2 GPUs: GPU-1, GPU-2"])


class Goals(unittest.TestCase):
    def test_the_faster_variant_counts(self):
        runs = [ours(0, 120, 10, 12), theirs(0, {"bf16": 100, "fp32-autocast": 90})]
        [row] = comparison.rows(runs)
        self.assertEqual(row["rival"], "bf16")
        self.assertAlmostEqual(row["ratios"]["bf16"]["of_medians"], 1.2)
        self.assertAlmostEqual(row["ratios"]["fp32-autocast"]["of_medians"], 120 / 90)
        self.assertEqual(verdicts(row), [MET, MET])
        self.assertEqual(comparison.overall([row], "training"), MET)
        self.assertEqual(comparison.overall([row], "decoding"), UNMEASURED)

    def test_slower_or_larger_misses(self):
        [row] = comparison.rows([ours(0, 119), theirs(0, {"bf16": 100})])
        self.assertEqual(verdicts(row), [MISSED, MET])
        self.assertEqual(comparison.overall([row], "training"), MISSED)
        for more in [dict(allocated=11), dict(taken=13)]:
            [row] = comparison.rows([ours(0, 200, **more), theirs(0, {"bf16": 100})])
            self.assertEqual(verdicts(row), [MET, MISSED])

    def test_what_others_held_before_is_not_ours(self):
        [row] = comparison.rows([ours(0, 200, taken=40, others=30), theirs(0, {"bf16": 100})])
        self.assertEqual(row["turnwise"]["driver_bytes"], 10 * GIB)
        self.assertEqual(verdicts(row), [MET, MET])

    def test_medians_over_rounds_and_ratios_within(self):
        runs = [run for i, (a, b) in enumerate([(100, 100), (300, 100), (120, 60)]) for run in (ours(i, a), theirs(i, {"bf16": b}))]
        [row] = comparison.rows(runs)
        self.assertEqual(row["turnwise"]["tokens_per_second"], 120)
        self.assertEqual(row["ratios"]["bf16"], {"of_medians": 1.2, "least": 1.0, "most": 3.0, "void": False})

    def test_decoding_is_compared_with_the_default(self):
        both = comparison.rows([ours(0, 120, decoding=500), theirs(0, {"bf16": 100}, caches={"dynamic": 100, "static": 400})])
        row = both[1]
        self.assertEqual((row["part"], row["rival"], verdicts(row)), ("decoding", "dynamic", [MET]))
        self.assertAlmostEqual(row["ratios"]["static"]["of_medians"], 1.25)
        [_, row] = comparison.rows([ours(0, 120, decoding=499), theirs(0, {"bf16": 100}, caches={"dynamic": 100})])
        self.assertEqual(verdicts(row), [MISSED])
        [_, row] = comparison.rows([ours(0, 120, decoding=499), theirs(0, {"bf16": 100}, caches={"static": 100})])
        self.assertEqual(verdicts(row), [UNMEASURED])

    def test_one_side_alone_is_not_measured(self):
        for run in [ours(0, 120), theirs(0, {"bf16": 100})]:
            [row] = comparison.rows([run])
            self.assertEqual(verdicts(row), [UNMEASURED, UNMEASURED])
            self.assertEqual(comparison.overall([row], "training"), UNMEASURED)

    def test_an_emulated_gpu_measures_nothing(self):
        [row] = comparison.rows([ours(0, 120, emulated=True), theirs(0, {"bf16": 100})])
        self.assertEqual(verdicts(row), [UNMEASURED, UNMEASURED])

    def test_a_processor_measures_nothing(self):
        run = theirs(0, {"bf16": 100})
        run["results"]["about"]["device"] = "cpu"
        [row] = comparison.rows([ours(0, 500), run])
        self.assertEqual(verdicts(row), [UNMEASURED, UNMEASURED])

    def test_a_variant_that_failed_is_told(self):
        runs = [ours(0, 120), theirs(0, {"bf16": 100, "fp32-autocast": 200})]
        failed = runs[1]["results"]["training"][1]
        failed.clear()
        failed.update({"network": "0.6b", "lengths": "32x1024", "variant": "fp32-autocast", "error": "CUDA out of memory."})
        [row] = comparison.rows(runs)
        self.assertEqual((row["rival"], verdicts(row)), ("bf16", [MET, MET]))
        self.assertIn("failed", comparison.text(comparison.table([row])))
        self.assertEqual(comparison.failures([row]), ["failed: 0.6b training 32x1024, PyTorch fp32-autocast: CUDA out of memory."])

    def test_a_process_that_failed_is_told(self):
        def failing(**more):
            return {"round": 0, "network": "0.6b", "lengths": "", "variant": "", "others_bytes": 0, "error": "ended with status 1", **more}

        runs = [
            ours(0, 120, decoding=500), theirs(0, {"bf16": 100}, caches={"static": 100}),
            failing(side="pytorch", part="train", lengths="32x1024", variant="fp32-autocast"), failing(side="pytorch", part="decode", variant="dynamic"),
        ]
        both = comparison.rows(runs)
        self.assertEqual([r["what"] for r in both], ["32x1024", "64 × (512 + 512)"])
        self.assertEqual(len(comparison.failures(both)), 2)
        self.assertEqual((both[0]["rival"], verdicts(both[0]), verdicts(both[1])), ("bf16", [MET, MET], [UNMEASURED]))
        [row] = comparison.rows([failing(side="turnwise", part="decode")])
        self.assertEqual(verdicts(row), [UNMEASURED])
        comparison.text(comparison.table([row]))

    def test_a_run_of_one_batch_has_no_other(self):
        run = ours(0, 120)
        run["results"]["networks"][0]["training"].append({**run["results"]["networks"][0]["training"][0], "lengths": "4x8192"})
        self.assertEqual(len(comparison.rows([run])), 2)
        self.assertEqual(len(comparison.rows([{**run, "lengths": "32x1024"}])), 1)

    def test_no_runs(self):
        self.assertEqual(comparison.rows([]), [])
        self.assertEqual(comparison.conclusion([]), "training: not measured\ndecoding: not measured")


class Tables(unittest.TestCase):
    def test_cells(self):
        rows = comparison.rows([ours(0, 120000, decoding=50000), theirs(0, {"bf16": 100000}, caches={"dynamic": 1000})])
        lines = comparison.table(rows, ceiling=2e15)
        # 120,000 tokens a second are 3e14 · 120000/32768 operations, 54.9 % of 2e15.
        self.assertEqual(lines[0], [
            "0.6b", "training 32x1024", "turnwise", "120,000", "", "", "54.9%", "10.0 GiB", "12.0 GiB", "≥ 1.2 × PyTorch: met; memory no higher: met",
        ])
        self.assertEqual(lines[1], ["", "", "PyTorch bf16 (compared with)", "100,000", "1.20 ×", "1.20–1.20", "45.8%", "10.0 GiB", "12.0 GiB", ""])
        self.assertEqual(lines[2][1:4], ["decoding 64 × (512 + 512)", "turnwise", "50,000"])
        self.assertEqual(lines[3][3:5], ["1,000", "50.00 ×"])
        for line in lines:
            self.assertEqual(len(line), len(comparison.HEADINGS))
        text = comparison.markdown(lines).splitlines()
        self.assertEqual(len(text), 2 + len(lines))
        self.assertEqual({line.count("|") for line in text}, {len(comparison.HEADINGS) + 1})

    def test_micro_batches_are_told(self):
        runs = [ours(0, 120), theirs(0, {"bf16": 100})]
        runs[1]["results"]["training"][0] |= {"micro_batches": 4, "layout": "packed", "compiled": "layer"}
        self.assertIn("100 in 4 micro-batches, packed, compiled by layers", comparison.text(comparison.table(comparison.rows(runs))))


if __name__ == "__main__":
    unittest.main()
