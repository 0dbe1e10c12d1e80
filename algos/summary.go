package algos

import (
	"fmt"
	"strings"
)

// Summary names the method's parts on one line, in the order they run: rewards, shaping, filters, each term as
// credit and comparison, transforms, masks, pairs and the loss.
func (m Method) Summary() string {
	var b strings.Builder
	stage := func(name string, parts ...string) {
		if len(parts) == 0 || len(parts) == 1 && (parts[0] == "none" || parts[0] == "") {
			return
		}
		if b.Len() > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(name + " " + strings.Join(parts, ", "))
	}
	stage("outcome", NameOf(m.Outcome))
	stage("turns", NameOf(m.TurnReward))
	stage("shape", namesOf(m.Shape)...)
	stage("filter", namesOf(m.Filter)...)
	var terms []string
	for _, t := range m.Advantage.Terms {
		terms = append(terms, fmt.Sprintf("%v·%s/%s(−%s ÷%s)", t.Weight, NameOf(t.Credit), t.Compare, t.Center, t.Scale))
	}
	stage("advantage", terms...)
	stage("transform", namesOf(m.Advantage.Transforms)...)
	stage("mask", namesOf(m.Mask)...)
	stage("weight", namesOf(m.Weight)...)
	stage("pair", NameOf(m.Pair))
	loss := []string{fmt.Sprintf("%s on %s ratio, %s", NameOf(m.Loss.Objective), m.Loss.Ratio, m.Loss.Aggregate)}
	loss = append(loss, namesOf(m.Loss.OffPolicy)...)
	loss = append(loss, namesOf(m.Loss.Mask)...)
	stage("loss", append(loss, namesOf(m.Loss.Regularizers)...)...)
	return b.String()
}

// namesOf are the `type` names of a list of parts.
func namesOf[P any](parts []P) []string {
	var names []string
	for _, p := range parts {
		names = append(names, NameOf(p))
	}
	return names
}
