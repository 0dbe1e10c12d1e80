package emulator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// compiler compiles the sources in a folder.
type compiler struct{ command, from string }

// flags are those of every library. Multiplications and additions are contracted only where a kernel says so.
var flags = []string{"-std=gnu11", "-shared", "-fPIC", "-O2", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"}

func (c compiler) run(ctx context.Context, arguments []string) error {
	arguments = append(append(append([]string{}, flags...), "-I", c.from), arguments...)
	out, err := exec.CommandContext(ctx, c.command, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("emulator: %s %s: %w\n%s", c.command, strings.Join(arguments, " "), err, out)
	}
	return nil
}

// cache is the folder in which libraries from these sources, by this compiler, for this processor, are kept; "" where there is none.
func (c compiler) cache(ctx context.Context) string {
	root, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	version, err := exec.CommandContext(ctx, c.command, "--version").Output()
	if err != nil {
		return ""
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %s %q", c.command, flags, version, processor())
	entries, err := os.ReadDir(c.from) // in the order of their names
	if err != nil {
		return ""
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(c.from, e.Name()))
		if err != nil {
			return ""
		}
		fmt.Fprintf(sum, "%q %d ", e.Name(), len(data))
		sum.Write(data)
	}
	return filepath.Join(root, "turnwise", "emulator", hex.EncodeToString(sum.Sum(nil)[:16]))
}

// processor is what -march=native looks at.
func processor() []string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil
	}
	var lines []string
	first, _, _ := strings.Cut(string(data), "\n\n")
	for line := range strings.Lines(first) {
		for _, word := range []string{"model", "flags", "Features", "CPU "} {
			if strings.HasPrefix(line, word) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// copyFile copies a file. Nobody sees a half of it.
func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "copy")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, source)
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(out.Name(), to)
	}
	return err
}
