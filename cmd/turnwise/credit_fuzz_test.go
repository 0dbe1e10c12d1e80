//go:build slim

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos"
)

// judge checks what a command made of arbitrary input: it either prints lines of JSON, or says on one line
// what is wrong.
func judge(t *testing.T, method string, out *bytes.Buffer, err error) {
	t.Helper()
	if err != nil {
		text := err.Error()
		if exitCode(err) != exitUsage || !strings.HasPrefix(text, "stdin") || strings.Contains(text, "\n") {
			t.Errorf("%s: the mistake is not one line that names the input: %q", method, text)
		}
	}
	for line := range bytes.Lines(out.Bytes()) {
		if !json.Valid(line) {
			t.Errorf("%s: no JSON on standard output: %s", method, line)
		}
	}
}

// loaded are methods with overrides.
func loaded(f *testing.F, methods map[string][]string) map[string]algos.Method {
	f.Helper()
	out := map[string]algos.Method{}
	for name, overrides := range methods {
		method, err := (&methodChoice{name: name}).load("fuzz", overrides)
		if err != nil {
			f.Fatal(err)
		}
		out[name] = method.Method
	}
	return out
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
	methods := loaded(f, map[string][]string{"matchtir": nil, "gigpo": nil, "reinforce-pp-baseline": nil})
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, method := range methods {
			var out bytes.Buffer
			a := &app{in: bytes.NewReader(data), out: &out, err: io.Discard}
			input, err := a.readGroups(t.Context(), "", "")
			if err == nil {
				err = a.credit(method, input)
			}
			judge(t, name, &out, err)
		}
	})
}

// FuzzLoss feeds batches to losses that read different streams of them.
func FuzzLoss(f *testing.F) {
	f.Add(section(f, "loss.txtar", "batch.json"))
	f.Add(section(f, "loss.txtar", "nulls.json"))
	f.Add(section(f, "loss.txtar", "bounds.json"))
	methods := loaded(f, map[string][]string{"grpo": nil, "gtpo": {"loss.ratio=turn", "loss.anchor=behavior", "loss.aggregate=step-mean"}})
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, method := range methods {
			var out bytes.Buffer
			a := &app{out: &out, err: io.Discard}
			judge(t, name, &out, a.evaluateLosses(method.Loss, bytes.NewReader(data), "stdin"))
		}
	})
}
