package telemetry

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// rewrite accepts what the documentation is made from.
var rewrite = flag.Bool("rewrite", false, "write the table of metrics into docs/operating.md")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
