//go:build slim

package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"turnwise": main})
}

// TestSessions plays the sessions in testdata/script: what a person types, and what must come back. None
// of them needs a server.
func TestSessions(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: false,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TURNWISE_DATA", env.WorkDir+"/data")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fixture":    fixtureCommand,
			"async":      asyncCommand,
			"checkpoint": checkpointCommand,
			"exitcode":   exitCodeCommand,
		},
	})
}

// fixtureCommand makes the folder of a run: `fixture RUN [LAST-EVENT [CHECKPOINT]]`.
func fixtureCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 3 {
		ts.Fatalf("usage: fixture RUN [LAST-EVENT [CHECKPOINT]]")
	}
	f := fixture{run: args[0]}
	if len(args) > 1 {
		f.ending = args[1]
	}
	if len(args) > 2 {
		f.checkpoint = ts.MkAbs(args[2])
	}
	ts.Check(f.write(ts.Getenv("TURNWISE_DATA")))
}

// asyncCommand makes the folder of a run that is one step off and has every kind of group: `async RUN`.
func asyncCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: async RUN")
	}
	ts.Check(fixture{run: args[0]}.writeAsync(ts.Getenv("TURNWISE_DATA")))
}

// checkpointCommand makes a small checkpoint: `checkpoint DIR`.
func checkpointCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: checkpoint DIR")
	}
	ts.Check(writeCheckpoint(ts.MkAbs(args[0])))
}

// exitCodeCommand runs turnwise and checks its exit code: `exitcode 2 get bogus`.
func exitCodeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE ARGS…")
	}
	err := ts.Exec("turnwise", args[1:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s%s", got, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// runHere executes a command line in this process.
func runHere(t *testing.T, dataDir string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e buffer
	code = run(t.Context(), append([]string{"--data", dataDir}, args...), os.Stdin, &o, &e)
	return o.String(), e.String(), code
}
