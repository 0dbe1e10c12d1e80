package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// frame is one picture of a run.
type frame struct {
	Run      string `json:"run"`
	Phase    string `json:"phase"`
	Step     int    `json:"step"`
	LastStep int    `json:"last_step"`
	// Success, Reward and Turns are means over the trajectories of the last step; nil before the first.
	Success *float64 `json:"success"`
	Reward  *float64 `json:"reward"`
	Turns   *float64 `json:"turns"`
	// TokensPerSecond counts tokens through the learner over the last steps; 0 while not known.
	TokensPerSecond float64 `json:"tokens_per_second"`
	GroupsReady     int     `json:"groups_ready"`
	GroupsPerStep   int     `json:"groups_per_step"`
	// HeldOut is the success at each evaluation so far, with its version.
	HeldOut []heldOut `json:"held_out"`
	// SecondsLeft is the estimate at the pace of the last steps; nil while there is none.
	SecondsLeft *float64 `json:"seconds_left"`
	WaitingFor  string   `json:"waiting_for"`
	// Stalled says what the run waits for too long, and Held why it starts no new groups; "" when neither is so.
	Stalled string `json:"stalled,omitempty"`
	Held    string `json:"held,omitempty"`
	// Learner is the lease of the learner, or why it has none.
	Learner runstate.LearnerStatus `json:"learner,omitzero"`
	// Pools are the rollout pools, by the run's own answer.
	Pools         []runstate.PoolStatus `json:"pools,omitempty"`
	GroupsPlaying int                   `json:"groups_playing"`
	// Failures counts failed attempts by kind, Drops groups given up by reason.
	Failures []runstate.Count `json:"failures,omitempty"`
	Drops    []runstate.Count `json:"drops,omitempty"`
	// Occupancy says who keeps whom waiting; nil before there are two steps.
	Occupancy *occupancy `json:"occupancy"`

	unserved []string // pools without a worker, in sentences
	failure  string   // why the work in flight is tried again; "" when it is not
	loss     float64
	// warmSteps is the last step of the warm start.
	warmSteps int
	trend     []float64 // success of the last steps
	elapsed   time.Duration
}

// heldOut is the success of one version on held-out tasks.
type heldOut struct {
	Version int     `json:"version"`
	Success float64 `json:"success"`
}

// paceSteps is over how many steps pace and tokens per second are averaged.
const paceSteps = 10

// frame is the picture of now.
func (w *watcher) frame(now live) frame {
	f := frame{Run: w.run.id, Phase: now.word(), Step: max(0, w.run.committed), LastStep: w.run.plan().LastStep(), warmSteps: w.run.plan().WarmSteps}
	if s := now.Status; s != nil {
		f.Phase, f.Step, f.LastStep, f.WaitingFor = s.Phase, s.Committed, s.LastStep, s.WaitingFor
		f.GroupsReady, f.GroupsPerStep = s.GroupsReady, s.GroupsPerStep
		f.addCondition(s, w.now())
	}
	f.Occupancy = w.occupancy
	switch {
	case !w.gone.IsZero():
		f.Phase = "unknown"
		f.WaitingFor = fmt.Sprintf("Temporal, away for %s", short(w.now().Sub(w.gone)))
	case now.Known && now.Ended == "" && now.Status == nil:
		f.WaitingFor = "a control worker: `turnwise worker --roles control`"
	}
	for _, p := range now.Pending {
		if p.LastFailure != "" || !p.Taken && p.Attempt > 1 {
			f.WaitingFor = p.at(w.now())
			f.failure = p.LastFailure
		}
	}
	if !w.run.created.IsZero() {
		f.elapsed = w.now().Sub(w.run.created)
	}
	for _, e := range w.run.evaluations {
		f.HeldOut = append(f.HeldOut, heldOut{e.Version, e.Success})
	}
	f.addMetrics(w.run.metrics)
	if !busy(f.Phase) {
		f.SecondsLeft = nil // a run at rest arrives nowhere
	}
	return f
}

// addCondition adds what the run's own answer tells beside its phase.
func (f *frame) addCondition(s *runstate.Status, now time.Time) {
	f.Stalled, f.Held = stallText(s, now), holdText(s, f.Run)
	f.Learner = s.Learner
	f.Pools, f.GroupsPlaying, f.Failures, f.Drops = s.Pools, s.GroupsPlaying, s.Failures, s.Drops
	texts := poolTexts(s, now)
	for i, pool := range s.Pools {
		if !pool.Serving {
			f.unserved = append(f.unserved, texts[i])
		}
	}
}

// addMetrics adds what the steps so far tell.
func (f *frame) addMetrics(lines []runfolder.MetricsLine) {
	if len(lines) == 0 {
		return
	}
	last := lines[len(lines)-1]
	f.loss = last.Loss
	if last.Kind == string(runstate.Reinforce) {
		f.Success, f.Reward, f.Turns = &last.Success, &last.Reward, &last.Turns
	}
	from := len(lines) - 1
	for from > 0 && lines[from-1].Kind == last.Kind && len(lines)-from <= paceSteps {
		from--
	}
	pace := lines[from:]
	for _, line := range pace {
		if line.Kind == string(runstate.Reinforce) {
			f.trend = append(f.trend, line.Success)
		}
	}
	seconds := last.Time.Sub(pace[0].Time).Seconds()
	if len(pace) < 2 || seconds <= 0 {
		return
	}
	tokens := 0
	for _, line := range pace[1:] {
		tokens += line.Tokens
	}
	f.TokensPerSecond = float64(tokens) / seconds
	lastOfKind := f.LastStep
	if last.Kind == string(runstate.Warm) {
		lastOfKind = f.warmSteps // the pace of imitation tells nothing of what follows
	}
	if left := seconds / float64(len(pace)-1) * float64(lastOfKind-f.Step); left > 0 {
		f.SecondsLeft = &left
	}
}

// lines is the frame for a terminal.
func (f frame) lines() []string {
	head := fmt.Sprintf("%s   %s   %s   %s", f.Run, f.Phase, progressText(f.Step, f.LastStep), short(f.elapsed))
	if f.SecondsLeft != nil {
		head += ", ~" + short(time.Duration(*f.SecondsLeft*float64(time.Second))) + " left"
	}
	out := []string{head}
	if f.Occupancy != nil {
		out = append(out, f.Occupancy.Bottleneck)
	}
	if f.LastStep > 0 {
		share := float64(f.Step) / float64(f.LastStep)
		out = append(out, fmt.Sprintf("steps     %s %s", bar(share, 30), percent(share)))
	}
	switch {
	case f.Success != nil:
		line := fmt.Sprintf("success   %s %s   reward %s   turns %.1f", percent(*f.Success), spark(f.trend), number(*f.Reward), *f.Turns)
		if f.TokensPerSecond > 0 {
			line += fmt.Sprintf("   %s tok/s", thousands(int(f.TokensPerSecond)))
		}
		out = append(out, line)
	case f.loss != 0:
		line := "loss      " + number(f.loss)
		if f.TokensPerSecond > 0 {
			line += fmt.Sprintf("   %s tok/s", thousands(int(f.TokensPerSecond)))
		}
		out = append(out, line)
	}
	if f.GroupsPerStep > 0 && (f.Phase == "rolling-out" || f.GroupsPlaying > 0) {
		out = append(out, f.groups())
	}
	if len(f.HeldOut) > 0 {
		out = append(out, "held-out  "+f.heldOut())
	}
	if text := learnerText(f.Learner, f.WaitingFor); f.Learner.Where != "" && f.Learner.Yield != "" {
		out = append(out, "learner   "+text)
	}
	if f.WaitingFor != "" {
		out = append(out, "waits for "+f.WaitingFor)
	}
	for _, pool := range f.unserved {
		out = append(out, "pool "+pool)
	}
	out = append(out, f.conditions()...)
	return append(out, "Ctrl-C leaves; the run goes on")
}

// groups is where the groups are, and how many came to nothing.
func (f frame) groups() string {
	line := fmt.Sprintf("groups    ready %s %s", fraction(f.GroupsReady, f.GroupsPerStep), bar(float64(f.GroupsReady)/float64(f.GroupsPerStep), 16))
	if f.GroupsPlaying > 0 {
		line += fmt.Sprintf("   playing %d", f.GroupsPlaying)
	}
	if len(f.Drops) > 0 {
		line += "   dropped " + countsText(f.Drops)
	}
	if len(f.Failures) > 0 {
		line += "   failed attempts " + countsText(f.Failures)
	}
	return line
}

// conditions are what someone has to do something about.
func (f frame) conditions() []string {
	var out []string
	if f.Stalled != "" {
		out = append(out, "stalled: "+f.Stalled)
	}
	if f.Held != "" {
		out = append(out, "held: "+f.Held)
	}
	return out
}

// heldOut is the success before training and at the latest evaluation.
func (f frame) heldOut() string {
	text := func(h heldOut) string { return fmt.Sprintf("%s (version %d)", percent(h.Success), h.Version) }
	line := text(f.HeldOut[0])
	if n := len(f.HeldOut); n > 1 {
		line += " → " + text(f.HeldOut[n-1])
	}
	return line
}

// line is the frame in one line for a pipe.
func (f frame) line() string {
	parts := []string{progressText(f.Step, f.LastStep), f.Phase}
	switch {
	case f.Success != nil:
		parts = append(parts, "success "+percent(*f.Success), "reward "+number(*f.Reward), fmt.Sprintf("turns %.1f", *f.Turns))
	case f.loss != 0:
		parts = append(parts, "loss "+number(f.loss))
	}
	if f.TokensPerSecond > 0 {
		parts = append(parts, thousands(int(f.TokensPerSecond))+" tok/s")
	}
	if len(f.HeldOut) > 0 {
		parts = append(parts, "held-out "+f.heldOut())
	}
	if f.SecondsLeft != nil {
		parts = append(parts, "~"+short(time.Duration(*f.SecondsLeft*float64(time.Second)))+" left")
	}
	if f.failure != "" || f.Phase == "unknown" || f.Phase == "unattended" || f.Phase == "paused" || f.Phase == "pausing" || f.Phase == "queued" {
		parts = append(parts, "waits for "+f.WaitingFor)
	}
	return strings.Join(append(parts, f.conditions()...), "  ")
}

// newView is the view that fits the output.
func (a *app) newView() view {
	if a.json() {
		return &jsonView{app: a}
	}
	return viewOn(a.out)
}

// viewOn redraws on a terminal and writes lines elsewhere.
func viewOn(out io.Writer) view {
	if _, ok := screen(out); ok {
		return &screenView{out: out}
	}
	return &lineView{out: out}
}

// screenView redraws a few lines in place.
type screenView struct {
	out   io.Writer
	drawn int
}

func (v *screenView) draw(f frame) error {
	width, _ := screen(v.out)
	var text strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", v.drawn)
	}
	lines := f.lines()
	for _, line := range lines {
		fmt.Fprintf(&text, "\r\x1b[2K%s\n", clip(line, width))
	}
	text.WriteString("\x1b[J") // what is left of a longer frame
	v.drawn = len(lines)
	_, err := io.WriteString(v.out, text.String())
	return err
}

func (v *screenView) end(text string) {
	if v.drawn > 0 { // the advice about Ctrl-C has served its time
		fmt.Fprint(v.out, "\x1b[1A\r\x1b[2K")
	}
	if text != "" {
		fmt.Fprintln(v.out, text)
	}
}

// lineView prints a line when the step, the phase or the evaluations change.
type lineView struct {
	out  io.Writer
	last string
}

// news is what makes a frame worth a line.
func (f frame) news() string { return fmt.Sprint(f.Phase, f.Step, f.condition()) }

// condition is the part of the news that no phase tells. How long a stall lasts is no news.
func (f frame) condition() string {
	return fmt.Sprint(len(f.HeldOut), f.failure, f.Stalled != "", f.Held)
}

func (v *lineView) draw(f frame) error {
	// A step passes through several phases; its line comes when it is committed.
	key := f.news()
	if busy(f.Phase) {
		key = fmt.Sprint("busy", f.Step, f.condition())
	}
	if key == v.last {
		return nil
	}
	v.last = key
	_, err := fmt.Fprintln(v.out, f.line())
	return err
}

// busy phases follow each other within every step.
func busy(phase string) bool {
	return phase == "rolling-out" || phase == "training" || phase == "evaluating" || phase == "warm-start"
}

func (v *lineView) end(text string) {
	if text != "" {
		fmt.Fprintln(v.out, text)
	}
}

// jsonView prints a line of JSON when a frame holds news.
type jsonView struct {
	app  *app
	last string
}

func (v *jsonView) draw(f frame) error {
	key := f.news()
	if key == v.last {
		return nil
	}
	v.last = key
	return v.app.printJSON(f)
}

func (v *jsonView) end(string) {}
