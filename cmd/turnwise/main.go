// Command turnwise trains language-model agents that use tools, by reinforcement learning whose
// credit goes to the turn that earned it.
//
// There is one file for each verb; wire.go is the only place where implementations meet interfaces.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
