//go:build slim

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// feed gives a command arbitrary input: it either prints lines of JSON, or says on one line what is wrong.
func feed(t *testing.T, dataDir string, input []byte, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append(args, "--data", dataDir), bytes.NewReader(input), &out, &errs)
	switch {
	case code == exitUsage:
		if text := errs.String(); !strings.HasPrefix(text, "turnwise: stdin") || strings.Count(text, "\n") != 1 {
			t.Errorf("%v: the mistake is not one line that names the input: %q", args, text)
		}
	case code != exitOK:
		t.Errorf("%v: exit code %d: %s", args, code, errs.String())
	}
	for line := range bytes.Lines(out.Bytes()) {
		if !json.Valid(line) {
			t.Errorf("%v: no JSON on standard output: %s", args, line)
		}
	}
}

// section reads a file of a session.
func section(f *testing.F, session, name string) []byte {
	f.Helper()
	data, err := os.ReadFile("testdata/script/" + session)
	if err != nil {
		f.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), "-- "+name+" --\n")
	if !ok {
		f.Fatalf("%s has no file %s", session, name)
	}
	text, _, _ := strings.Cut(rest, "\n-- ")
	return []byte(text)
}

// FuzzCredit feeds groups to methods that read different parts of them.
func FuzzCredit(f *testing.F) {
	f.Add(section(f, "credit.txtar", "groups.jsonl"))
	f.Add(section(f, "credit_input.txtar", "unsampled.jsonl"))
	dataDir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, method := range []string{"matchtir", "gigpo", "reinforce-pp-baseline"} {
			feed(t, dataDir, data, "credit", "--method", method)
		}
	})
}

// FuzzLoss feeds batches to losses that read different streams of them.
func FuzzLoss(f *testing.F) {
	f.Add(section(f, "loss.txtar", "batch.json"))
	f.Add(section(f, "loss.txtar", "nulls.json"))
	f.Add(section(f, "loss.txtar", "bounds.json"))
	dataDir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		feed(t, dataDir, data, "loss", "--method", "grpo")
		feed(t, dataDir, data, "loss", "--method", "grpo", "loss.ratio=turn", "loss.anchor=behavior", "loss.aggregate=step-mean")
	})
}
