"""Tests of what compare.py runs and keeps, with processes that measure nothing."""
import contextlib
import io
import os
import sys
import tempfile
import time
import unittest
from unittest import mock

import compare
import plan

OURS = {"gpu": {"emulated": False, "name": "G", "device": "cuda:0 fast"}, "ceilings": {"bytes_per_second": 4e12, "operations_per_second": 8e14, "product_size": 8192}}


def options(*words):
    return compare.options(["--quick", "--bench", "bench", "--python", "python", *words])


def job(variant="bf16", number=0, side="pytorch", part="train"):
    return plan.Job(number, side, part, "0.6b", "32x1024" if part == "train" else "", variant)


def ran(variant, rate, number=0, seconds=100.0):
    one = {"network": "0.6b", "lengths": "32x1024", "variant": variant}
    one |= {"tokens_per_second": rate} if rate else {"error": "no"}
    return {"round": number, "side": "pytorch", "part": "train", "network": "0.6b", "lengths": "32x1024", "variant": variant, "seconds": seconds, "results": {"training": [one]}}


class Jobs(unittest.TestCase):
    def test_quick(self):
        self.assertEqual([str(j) for j in plan.jobs(options())], [
            "round 1: turnwise train 0.6b 32x1024", "round 1: pytorch train 0.6b 32x1024 bf16", "round 1: pytorch train 0.6b 32x1024 bf16+chunked",
            "round 1: pytorch train 0.6b 32x1024 bf16+chunked+cudnn", "round 1: turnwise decode 0.6b", "round 1: pytorch decode 0.6b dynamic", "round 1: pytorch decode 0.6b static",
        ])

    def test_sides_go_first_in_turn(self):
        found = plan.jobs(options("--rounds", "2", "--parts", "train", "--torch-variants", "bf16"))
        self.assertEqual([j.side for j in found], ["turnwise", "pytorch", "pytorch", "turnwise"])

    def test_in_full_every_measurement_is_a_process(self):
        found = plan.jobs(compare.options([]))
        self.assertEqual(len(found), 3 * 2 * (2 * (1 + len(plan.VARIANTS)) + 1 + len(plan.CACHES)))
        self.assertEqual(len(set(found)), len(found))

    def test_one_side(self):
        self.assertEqual({j.side for j in plan.jobs(options("--sides", "pytorch"))}, {"pytorch"})

    def test_later_rounds_leave_out_what_is_far_behind(self):
        runs = [ran("bf16", 100), ran("bf16+chunked", 89), ran("bf16+cudnn", 0), ran("bf16+flash", 91), ran("bf16", 1000, number=1)]
        self.assertEqual([plan.contends(job(v, 1), runs) for v in ("bf16", "bf16+chunked", "bf16+cudnn", "bf16+flash", "fp32-autocast")], [True, False, False, True, True])
        self.assertTrue(plan.contends(job("bf16+chunked", 0), runs))
        self.assertTrue(plan.contends(job("", 1, "turnwise"), runs))
        self.assertFalse(plan.contends(job("bf16", 1), [ran("bf16", 0)]))

    def test_time_that_is_expected(self):
        self.assertEqual(plan.expected_seconds(job(), []), plan.EXPECTED["pytorch", "train"])
        self.assertEqual(plan.expected_seconds(job("bf16+autotune"), []), plan.EXPECTED_AUTOTUNE)
        self.assertEqual(plan.expected_seconds(job(), [ran("bf16", 1, seconds=10), ran("bf16", 1, seconds=20), ran("bf16+chunked", 1, seconds=90)]), 24)


class Commands(unittest.TestCase):
    def test_a_process_measures_one_variant(self):
        command = plan.theirs(options(), job("bf16+chunked"), "OUT", "FOLDER")
        self.assertEqual(command[:2], ["python", os.path.join("FOLDER", "torch_side.py")])
        told = dict(zip(command[2::2], command[3::2]))
        self.assertEqual((told["--variants"], told["--lengths"], told["--parts"], told["--networks"], told["--out"]), ("bf16+chunked", "32x1024", "train", "0.6b", "OUT"))
        self.assertNotIn("--caches", told)
        told = plan.theirs(options(), job("static", part="decode"), "OUT", "FOLDER")
        self.assertEqual(told[-2:], ["--caches", "static"])

    def test_both_sides_are_told_the_same(self):
        o = options("--sequences", "7", "--prompt", "8", "--new", "9", "--steps", "10")
        for command in (plan.ours(o, job("", side="turnwise"), "OUT"), plan.theirs(o, job(), "OUT", "")):
            told = {a.lstrip("-"): b for a, b in zip(command, command[1:])}
            self.assertEqual([told[name] for name in ("sequences", "prompt", "new", "steps", "lengths")], ["7", "8", "9", "10", "32x1024"])

    def test_a_rehearsal_takes_the_processor(self):
        o = options("--rehearse", "--torch-eager")
        self.assertEqual(plan.theirs(o, job(), "OUT", "")[-3:], ["--device", "cpu", "--eager"])
        self.assertNotIn("-require", plan.ours(o, job("", side="turnwise"), "OUT"))
        self.assertIn("-require", plan.ours(options(), job("", side="turnwise"), "OUT"))

    def test_refused(self):
        for words in [["--minutes", "5"], ["--minutes", "-1", "--keep", "x"], ["--parts", "sleep"], ["--rounds", "0"], ["--torch-caches", "none"]]:
            with self.subTest(words), mock.patch("sys.stderr", io.StringIO()), self.assertRaises(SystemExit):
                options(*words)


class Measuring(unittest.TestCase):
    """measure with a stand-in for processes, which takes the time that a test says."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.kept = plan.Kept(folder.name, {"turnwise": "a", "pytorch": "b"})
        self.clock, self.done, self.takes = 0.0, [], {}

    def go(self, *words, kept=None):
        self.done, begun = [], self.clock

        def run(o, job, seconds):
            self.done.append(str(job).partition(": ")[2])
            takes = self.takes.get((job.side, job.part, job.variant), 10)
            self.clock += min(takes, seconds)
            made = {**vars(job), "seconds": takes}
            if takes > seconds:
                return made | {"error": "took too long", "late": True}
            if job.side == "turnwise":
                return made | {"results": OURS | {"networks": []}}
            return made | {"results": {"training": [], "decoding": []}}

        with mock.patch.object(compare, "run", run), mock.patch.object(compare.time, "monotonic", lambda: self.clock):
            runs, left = compare.measure(options(*words), kept or self.kept)
        return runs, left, self.clock - begun

    def test_all_at_once(self):
        runs, left, _ = self.go()
        self.assertEqual((len(runs), left, len(self.done)), (7, 0, 7))

    def test_goes_on(self):
        self.takes["pytorch", "train", "bf16"] = 200
        runs, left, took = self.go("--keep", "x", "--minutes", "4")
        self.assertEqual((self.done, left), (["turnwise train 0.6b 32x1024", "pytorch train 0.6b 32x1024 bf16"], 5))
        runs, left, took = self.go("--keep", "x", "--minutes", "4")
        self.assertEqual(self.done[0], "pytorch train 0.6b 32x1024 bf16+chunked")
        self.assertLessEqual(took, 240)
        while left:
            runs, left, _ = self.go("--keep", "x", "--minutes", "4")
        self.assertEqual(len(runs), 7)
        self.assertEqual(self.go("--keep", "x", "--minutes", "4")[0], runs)
        self.assertEqual(self.done, [])

    def test_other_settings_or_programs_are_measured_anew(self):
        self.go()
        self.go("--steps", "7")
        self.assertEqual(len(self.done), 7)
        self.go(kept=plan.Kept(self.kept.folder, {"turnwise": "a", "pytorch": "c"}))
        self.assertEqual({d.split()[0] for d in self.done}, {"pytorch"})

    def test_in_another_folder_it_goes_on(self):
        o = options()
        for job_, command in [(job("", side="turnwise"), plan.ours(o, job("", side="turnwise"), "")), (job(), plan.theirs(o, job(), "", "here"))]:
            moved = [word.replace("here", "there").replace("bench", "/there/bench") for word in command]
            self.assertNotEqual(moved, command)
            self.assertEqual(self.kept.path(job_, moved), self.kept.path(job_, command))
            self.assertNotEqual(self.kept.path(job_, [*command, "-more"]), self.kept.path(job_, command))

    def test_what_failed_has_another_try_with_other_settings(self):
        self.takes["pytorch", "train", "bf16"] = 1e6
        with mock.patch.dict(os.environ, TURNWISE_CUBLASLT="here"):
            self.go()
            self.go()
            self.assertEqual(self.done, [])
        with mock.patch.dict(os.environ, TURNWISE_CUBLASLT="there"):
            self.go()
        self.assertEqual(self.done, ["pytorch train 0.6b 32x1024 bf16"])

    def test_what_takes_too_long_failed(self):
        self.takes["pytorch", "train", "bf16+chunked"] = 1e6
        runs, left, _ = self.go("--limit", "300")
        self.assertEqual(([r["error"] for r in runs if "error" in r], left, len(runs)), (["took too long"], 0, 7))
        self.go()  # with another limit the same holds
        self.assertEqual(self.done, [])
        self.go("--retry")
        self.assertEqual(self.done, ["pytorch train 0.6b 32x1024 bf16+chunked"])

    def test_what_had_less_time_is_begun_anew(self):
        self.takes["pytorch", "train", "bf16"] = 400
        runs, left, took = self.go("--keep", "x", "--minutes", "4")
        self.assertEqual((len(runs), left, took), (1, 6, 240))
        runs, left, took = self.go("--keep", "x", "--minutes", "4")  # and failed where it had all of it
        self.assertEqual((runs[1]["error"], took), ("took too long", 240))

    def test_what_others_left_no_time_for_did_not_fail(self):
        self.takes["turnwise", "train", ""] = 80
        runs, left, took = self.go("--keep", "x", "--minutes", "0.75", "--rest")  # less than is expected: nothing is begun
        self.assertEqual((runs, left, took), ([], 7, 0))
        runs, left, took = self.go("--keep", "x", "--minutes", "1.1", "--rest")
        self.assertEqual((runs, left, self.done), ([], 7, ["turnwise train 0.6b 32x1024"]))
        runs, left, took = self.go("--keep", "x", "--minutes", "8")
        self.assertEqual([r for r in runs if "error" in r], [])

    def test_half_a_file_is_measured_anew(self):
        self.go()
        for name in os.listdir(self.kept.folder):
            with open(os.path.join(self.kept.folder, name), "w") as file:
                file.write('{"round": ')
        self.go()
        self.assertEqual(len(self.done), 7)


class Processes(unittest.TestCase):
    def test_status(self):
        self.assertEqual([compare.limited([sys.executable, "-c", f"raise SystemExit({n})"], 60) for n in (0, 3)], [0, 3])

    def test_what_takes_too_long_ends_with_its_children(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pid")
            child = f"import os, time; open({path!r} + '.new', 'w').write(str(os.getpid())); os.rename({path!r} + '.new', {path!r}); time.sleep(600)"
            parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
            seconds = 1
            while not os.path.exists(path):  # on a machine where it has not begun by then, more
                self.assertIsNone(compare.limited([sys.executable, "-c", parent], seconds))
                seconds *= 2
            with open(path) as file:
                pid = int(file.read())
            self.assertTrue(gone(pid))

    def test_a_program_that_fails_is_told(self):
        o = options("--rehearse", "--bench", "false")
        with mock.patch("sys.stderr", new=sys.__stderr__), mock.patch.object(compare, "nvidia_smi", lambda _: None), quiet():
            made = compare.run(o, job("", side="turnwise"), 60)
        self.assertEqual((made["error"], made["side"], made["variant"]), ("ended with status 1", "turnwise", ""))
        self.assertTrue(compare.failed(made))


def gone(pid):
    """Whether a process has ended, at last; one that nobody waited for may be left as a name."""
    while True:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)


@contextlib.contextmanager
def quiet():
    with mock.patch("builtins.print"):
        yield


if __name__ == "__main__":
    unittest.main()
