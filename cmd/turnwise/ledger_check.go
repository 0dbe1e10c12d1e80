package main

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/ledger"
)

// ledgerReport is the result of `ledger --check`.
type ledgerReport struct {
	Run   string `json:"run"`
	Agree bool   `json:"agree"`
	// History says what became of Temporal's part: compared, "left out" on demand, or "none" when Temporal
	// has none any more.
	History      string           `json:"history"`
	Steps        int              `json:"steps"`
	Groups       int              `json:"groups"`
	Trajectories int              `json:"trajectories"`
	Findings     []ledger.Finding `json:"findings"`
}

// checkLedger compares store, ledger and history of a run and prints each disagreement on its own line.
func (a *app) checkLedger(ctx context.Context, prefix string, offline bool) error {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return err
	}
	report := ledgerReport{Run: id, History: "left out", Findings: []ledger.Finding{}}
	var history *ledger.History
	if !offline { // before the folder, which may meanwhile get ahead of it but never fall behind
		if history, err = a.history(ctx, id); err != nil {
			return err
		}
		report.History = "compared"
		if history == nil {
			report.History = "none"
		}
	}
	facts, err := ledgerFacts(ctx, folder, id)
	if err != nil {
		return err
	}
	facts.History = history
	report.Findings = append(report.Findings, ledger.Check(facts)...)
	report.Agree = len(report.Findings) == 0
	report.Steps, report.Groups = len(facts.Steps), len(facts.Segments)
	for _, segment := range facts.Segments {
		report.Trajectories += len(segment.Trajectories)
	}
	if a.json() {
		if err := a.printJSON(report); err != nil {
			return err
		}
	} else {
		report.write(a)
	}
	if !report.Agree {
		return codedError{exitFailed, fmt.Errorf("run %s: %s between %s", id, plural(len(report.Findings), "disagreement"), report.sides())}
	}
	return nil
}

func (r ledgerReport) sides() string {
	if r.History == "compared" {
		return "store, ledger and history"
	}
	return "store and ledger"
}

func (r ledgerReport) write(a *app) {
	for _, finding := range r.Findings {
		a.print("%s\n", finding.Text)
	}
	if r.Agree {
		a.print("run %s: %s agree over %s, %s and %s\n", r.Run, r.sides(),
			plural(r.Steps, "manifest"), plural(r.Groups, "group"), counted(r.Trajectories, "trajectory", "trajectories"))
	}
	switch r.History {
	case "left out":
		a.note("the history was left out; without --offline it is compared as well")
	case "none":
		a.note("Temporal has no history of run %s (any more), so it was left out", r.Run)
	}
}

// history reads what Temporal holds of a run; nil when it holds nothing.
func (a *app) history(ctx context.Context, id string) (*ledger.History, error) {
	c, _, err := a.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w; `turnwise ledger %s --check --offline` compares store and ledger without the history", err, id)
	}
	defer c.Close()
	history, err := readHistory(ctx, c, id)
	if err != nil {
		return nil, fmt.Errorf("history of run %s: %w; `turnwise ledger %s --check --offline` leaves it out", id, unreachable(err), id)
	}
	return history, nil
}

var _ historyClient = client.Client(nil)

// counted prints a count with a noun whose plural is its own.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}
