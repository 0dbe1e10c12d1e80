package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

// watchInterval is how often views that follow something look again.
const watchInterval = time.Second

func getVerb(a *app) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "get runs [ID…]",
		Short: "List runs",
		Long: "List the runs of the data folder and of the Temporal cluster. Without a reachable server the list says\n" +
			"what the folders know.",
		Example: "  turnwise get runs\n  turnwise get runs -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] != "run" && args[0] != "runs" {
				return usagef("get what? know: runs; try `turnwise get runs`")
			}
			lister := &runLister{app: a, prefixes: args[1:]}
			defer lister.close()
			if watch {
				return lister.watch(cmd.Context())
			}
			rows, err := lister.rows(cmd.Context())
			if err != nil {
				return err
			}
			return a.printRuns(rows)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on and print runs again when they change")
	return cmd
}

// runRow is one run of the list.
type runRow struct {
	Run    string `json:"run"`
	Method string `json:"method"`
	// Status is a phase of a run at work, how it ended, or "unknown".
	Status   string `json:"status"`
	Step     int    `json:"step"`
	LastStep int    `json:"last_step"`
	// Success is the share of held-out tasks solved at the last evaluation, of EvaluatedVersion.
	Success          *float64 `json:"success"`
	EvaluatedVersion *int     `json:"evaluated_version"`
	// Created is when the run was submitted; nil when that is not known.
	Created *time.Time `json:"created"`
	// Folder is "" for a run that Temporal knows and this data folder does not hold.
	Folder string `json:"folder"`
}

func (r runRow) cells() []string {
	step, success, age := nothing, nothing, nothing
	if r.LastStep > 0 {
		step = fraction(r.Step, r.LastStep)
	}
	if r.Success != nil {
		success = percent(*r.Success)
	}
	if r.Created != nil {
		age = short(time.Since(*r.Created))
	}
	return []string{r.Run, r.Method, r.Status, step, success, age}
}

// printRuns prints the list: a table, or a line of JSON for each run.
func (a *app) printRuns(rows []runRow) error {
	if a.json() {
		for _, row := range rows {
			if err := a.printJSON(row); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		a.note("no runs in %s; start one with `turnwise quickstart`", runfolder.Runs(a.dataDir))
		return nil
	}
	list := newTable("RUN", "METHOD", "STATUS", ">STEP", ">SUCCESS", ">AGE")
	for _, row := range rows {
		list.add(row.cells()...)
	}
	list.write(a.out)
	return nil
}

// runLister lists runs again and again over one connection.
type runLister struct {
	app       *app
	prefixes  []string
	client    temporalClient
	namespace string
	hangUp    func()
	warned    bool
}

func (l *runLister) close() {
	if l.hangUp != nil {
		l.hangUp()
	}
}

// connect dials unless there is a connection. Without one the list goes on with what the folders say.
func (l *runLister) connect(ctx context.Context) error {
	if l.client != nil {
		return nil
	}
	c, endpoint, err := l.app.dial(ctx)
	if err == nil {
		l.client, l.namespace, l.hangUp, l.warned = c, endpoint.Namespace, c.Close, false
		return nil
	}
	if !connect.IsUnreachable(err) {
		return err
	}
	l.warn(err)
	return nil
}

func (l *runLister) warn(err error) {
	if !l.warned {
		l.app.note("live status unknown: %v", err)
	}
	l.warned = true
}

// rows lists the runs, the newest first.
func (l *runLister) rows(ctx context.Context) ([]runRow, error) {
	ids, err := runfolder.List(l.app.dataDir)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !l.wanted(id) })
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	rows := make([]runRow, len(ids))
	notes := make([]error, len(ids))
	var asking errgroup.Group
	asking.SetLimit(8)
	for i, id := range ids {
		asking.Go(func() error {
			rows[i], notes[i] = l.row(ctx, id)
			return nil
		})
	}
	_ = asking.Wait() // errors are notes: one bad folder does not hide the others
	for i, err := range notes {
		if err != nil {
			l.app.note("%s: %v", ids[i], err)
		}
	}
	rows = append(rows, l.elsewhere(ctx, ids)...)
	slices.SortStableFunc(rows, func(x, y runRow) int {
		return cmp.Or(when(y.Created).Compare(when(x.Created)), strings.Compare(x.Run, y.Run))
	})
	if len(rows) == 0 && len(l.prefixes) > 0 {
		return nil, usagef("no run begins with %s; `turnwise get runs` lists them", strings.Join(l.prefixes, " or "))
	}
	return rows, nil
}

func when(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func (l *runLister) wanted(id string) bool {
	return len(l.prefixes) == 0 || slices.ContainsFunc(l.prefixes, func(prefix string) bool { return strings.HasPrefix(id, prefix) })
}

// row reads one run's folder and asks its workflow.
func (l *runLister) row(ctx context.Context, id string) (runRow, error) {
	row := runRow{Run: id, Method: nothing, Status: "unknown"}
	folder, err := runfolder.Open(l.app.dataDir, id)
	if err != nil {
		return row, err
	}
	row.Folder = folder.Path
	r, err := readRun(ctx, folder, id)
	if err != nil {
		row.Status = "damaged"
		return row, err
	}
	row.Method, row.Step, row.LastStep = r.method(), max(0, r.committed), r.plan().LastStep()
	if !r.created.IsZero() {
		row.Created = &r.created
	}
	if e := r.latest(); e != nil {
		row.Success, row.EvaluatedVersion = &e.Success, &e.Version
	}
	if outcome, _ := r.ending(); outcome != "" {
		row.Status = string(outcome)
	}
	if l.client == nil {
		return row, nil
	}
	now, err := ask(ctx, l.client, id)
	if err != nil {
		return row, err
	}
	if word := now.word(); word != "" {
		row.Status = word
	}
	return row, nil
}

// word is a run's status in one word; "" when Temporal does not know the run.
func (l live) word() string {
	switch {
	case !l.Known:
		return ""
	case l.How != "":
		return l.How
	case l.Ended != "":
		return string(l.Ended)
	case l.Status == nil:
		return "unattended"
	}
	return l.Status.Phase
}

// elsewhere lists the cluster's runs whose folders are not here.
func (l *runLister) elsewhere(ctx context.Context, here []string) []runRow {
	if l.client == nil {
		return nil
	}
	all, err := listRuns(ctx, l.client, l.namespace, "")
	if err != nil {
		l.warn(err)
		return nil
	}
	var rows []runRow
	for _, run := range all {
		if slices.Contains(here, run.id) || !l.wanted(run.id) {
			continue
		}
		row := runRow{Run: run.id, Method: run.method, Status: run.status, Created: &run.started}
		if now, err := ask(ctx, l.client, run.id); err == nil && now.Status != nil {
			row.Status, row.Step, row.LastStep = now.Status.Phase, now.Status.Committed, now.Status.LastStep
		}
		rows = append(rows, row)
	}
	return rows
}

// watch prints the list, and then each run again when it changes, until the user leaves.
func (l *runLister) watch(ctx context.Context) error {
	shown := map[string]string{}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for first := true; ; first = false {
		rows, err := l.rows(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var changed []runRow
		for _, row := range rows {
			// The age always changes; it alone is no news.
			if key := strings.Join(row.cells()[:5], " "); shown[row.Run] != key {
				shown[row.Run] = key
				changed = append(changed, row)
			}
		}
		if first || len(changed) > 0 {
			if err := l.app.printRuns(changed); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
