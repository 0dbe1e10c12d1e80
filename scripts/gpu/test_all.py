"""Tests of scripts/gpu/all with programs that do as a test says."""
import os
import stat
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = """#!/bin/sh
name=$(basename "$0")
for word; do
  case $word in --quick) name=quick ;; train | decode | step | kernels) name=$word ;; esac
done
[ "$name" != python ] || name=compare
echo "$name" >>"$CALLS"
echo "$name $*" >>"$CALLS.words"
eval "$(grep "^$name:" "$CALLS.told" | cut -d: -f2)"
"""


@unittest.skipUnless(os.path.exists("/usr/bin/timeout"), "there is no timeout of coreutils here")
class All(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.calls = folder.name, os.path.join(folder.name, "calls")
        for name in ("gpucheck.test", "gpubench.test", "products.test", "python"):
            path = os.path.join(self.folder, name)
            with open(path, "w") as file:
                file.write(PROGRAM)
            os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        self.tell()

    def tell(self, **programs):
        """What programs do besides noting that they were called."""
        with open(self.calls + ".told", "w") as file:
            file.writelines(f"{name}:{what}\n" for name, what in programs.items())

    def run_all(self, *parts, minutes=None, **settings):
        """The status, the last line, and the programs called."""
        open(self.calls, "w").close()
        environment = {**os.environ, "CALLS": self.calls, "PYTHON": os.path.join(self.folder, "python"), **settings}
        environment.pop("MINUTES", None)
        if minutes is not None:
            environment["MINUTES"] = str(minutes)
        done = subprocess.run([os.path.join(HERE, "all"), "run", self.folder, *parts], capture_output=True, text=True, env=environment)
        with open(self.calls) as file:
            return done.returncode, (done.stdout.splitlines() or [""])[-1], file.read().split()

    def test_all_parts_in_order(self):
        status, _, called = self.run_all()
        self.assertEqual((status, called), (0, ["gpucheck.test", "quick", "kernels", "train", "decode", "step", "products.test", "compare"]))
        self.assertEqual(self.run_all("measure")[:2], (0, "== measure"))
        self.assertEqual(self.run_all("train")[2], ["train"])  # without a limit everything is run again

    def test_what_fails_does_not_stop_others(self):
        self.tell(kernels="exit 1")
        status, last, called = self.run_all("kernels", "train")
        self.assertEqual((status, last, called), (1, "failed: kernels", ["kernels", "train"]))

    def test_in_pieces(self):
        self.tell(quick="exit 3", train="exit 1")
        status, last, called = self.run_all("quick", "train", "step", minutes=8)
        self.assertEqual((status, last, called), (3, "left: quick: the same command goes on", ["quick", "train", "step"]))
        self.tell()
        status, last, called = self.run_all("quick", "train", "step", minutes=8)
        self.assertEqual((status, last, called), (1, "failed: train", ["quick"]))
        status, last, called = self.run_all("quick", "train", "step", minutes=8)
        self.assertEqual((status, last, called), (1, "failed: train", []))
        with open(os.path.join(self.folder, "gpubench.test"), "a") as file:
            file.write("# another one\n")
        self.assertEqual(self.run_all("quick", "train", "step", minutes=8)[2], ["quick", "train", "step"])

    def test_what_failed_has_another_try_with_other_settings(self):
        self.tell(train="exit 1")
        self.assertEqual(self.run_all("train", "step", minutes=8), (1, "failed: train", ["train", "step"]))
        self.assertEqual(self.run_all("train", "step", minutes=8), (1, "failed: train", []))
        self.tell()
        self.assertEqual(self.run_all("train", "step", minutes=8, TURNWISE_CUBLASLT="elsewhere")[::2], (0, ["train"]))
        self.assertEqual(self.run_all("train", "step", minutes=8)[::2], (0, []))

    def test_another_binary_is_none_of_a_part_that_does_not_run_it(self):
        self.run_all("check", "train", minutes=8)
        with open(os.path.join(self.folder, "products.test"), "a") as file:
            file.write("# another one\n")
        self.assertEqual(self.run_all("check", "train", "products", minutes=8)[2], ["products.test"])
        os.remove(os.path.join(self.folder, "gpucheck.test"))
        status, last, called = self.run_all("check", "products", minutes=8)
        self.assertEqual((status, last, called), (1, "failed: check", []))

    def test_libraries_are_looked_for_beside_the_interpreter(self):
        python = os.path.join(self.folder, "environment", "bin", "python3")
        os.makedirs(os.path.dirname(python))
        os.symlink(os.path.join(self.folder, "python"), python)
        self.tell(kernels='command -v python3 >>"$CALLS"')
        self.assertEqual(self.run_all("kernels", PYTHON=python)[2], ["kernels", python])

    def test_binaries_that_came_without_their_mode(self):
        os.chmod(os.path.join(self.folder, "gpucheck.test"), 0o600)
        self.assertEqual(self.run_all("check")[::2], (0, ["gpucheck.test"]))

    def test_only_the_binaries_that_are_needed_are_made(self):
        go = os.path.join(self.folder, "go")
        with open(go, "w") as file:
            file.write('#!/bin/sh\necho "$*" >>"$CALLS"\n')
        os.chmod(go, 0o700)
        for parts, made in [([], ["gpubench", "gpucheck", "products"]), (["check", "quick", "measure"], ["gpubench", "gpucheck"]), (["products"], ["products"])]:
            open(self.calls, "w").close()
            environment = {**os.environ, "CALLS": self.calls, "PATH": self.folder + ":" + os.environ["PATH"]}
            subprocess.run([os.path.join(HERE, "all"), "build", self.folder, *parts], check=True, env=environment)
            with open(self.calls) as file:
                self.assertEqual(sorted(os.path.basename(line.split(" -o ")[1].split()[0]) for line in file), [name + ".test" for name in made])

    def test_the_comparison_knows_how_long(self):
        self.run_all("quick", "compare", minutes=8)
        with open(self.calls + ".words") as file:
            words = [line.split() for line in file]
        for line in words:
            told = dict(zip(line, line[1:]))
            self.assertTrue(0 < float(told["--minutes"]) <= 7.75, line)
            self.assertEqual(os.path.basename(told["--keep"]), "kept")
        self.assertEqual(["--rest" in line for line in words], [False, True])  # what others left is not all that it may have
        self.run_all("compare")
        with open(self.calls + ".words") as file:
            self.assertNotIn("--minutes", file.readlines()[-1])

    def test_products_are_measured_without_tests(self):
        self.run_all("products")  # tests need a compiler where there is no emulated GPU yet, and fail without one
        with open(self.calls + ".words") as file:
            self.assertIn(" -test.run ^$ -test.bench Product -test.v -require\n", file.read())

    def test_refused(self):
        self.assertEqual(self.run_all("check", minutes="soon")[0], 2)
        self.assertEqual(self.run_all("nothing")[:2], (1, "failed: nothing"))
        for words in [["build", self.folder, "nothing"], ["build"], ["nothing", self.folder]]:
            self.assertEqual(subprocess.run([os.path.join(HERE, "all"), *words], capture_output=True).returncode, 2)


if __name__ == "__main__":
    unittest.main()
