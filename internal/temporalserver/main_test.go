//go:build !slim

package temporalserver_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/temporalserver"
)

// roleEnv makes this test binary play another process of a story.
const roleEnv = "TURNWISE_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "server":
		err = serveAsChild()
	case "parent":
		err = spawnAndHang(os.Args[1])
	default:
		err = fmt.Errorf("%s is %q, expected server or parent", roleEnv, role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveAsChild is `turnwise server` as Spawn calls it.
func serveAsChild() error {
	var c temporalserver.Config
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&c.DataDir, "data", "", "")
	flags.IntVar(&c.FrontendPort, "port", 0, "")
	flags.IntVar(&c.UIPort, "ui-port", 0, "")
	flags.BoolVar(&c.UI, "ui", true, "")
	parentPipe := flags.Bool("parent-pipe", false, "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	ctx := context.Background()
	if *parentPipe {
		ctx = connect.WatchParent(ctx)
	}
	return temporalserver.Run(ctx, c, nil)
}

// childConfig starts this binary in the server's role.
func childConfig(dataDir string) connect.SpawnConfig {
	return connect.SpawnConfig{
		DataDir: dataDir, NoUI: true, Logger: quiet,
		Command: []string{os.Args[0]}, Env: []string{roleEnv + "=server"},
	}
}

// spawnAndHang starts a server and then lives until it is killed.
func spawnAndHang(dataDir string) error {
	if _, err := connect.Spawn(context.Background(), childConfig(dataDir)); err != nil {
		return err
	}
	fmt.Println("serving")
	select {}
}
