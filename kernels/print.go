package kernels

import (
	"fmt"
	"reflect"
	"strings"
)

// tables are all tables of a Program's parts.
func tables() [][]Variant {
	return [][]Variant{ObjectiveTable, CorrectionTable, MaskTable, RegularizerTable}
}

// NameOf returns the `type` name of a part, "" when it is in no table.
func NameOf(part any) string {
	for _, table := range tables() {
		for _, variant := range table {
			if reflect.TypeOf(variant.New()) == reflect.TypeOf(part) {
				return variant.Name
			}
		}
	}
	return ""
}

// String prints the settings that have an effect, in the order of the fields. Programs that print alike are
// the same loss.
func (p Program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ratio=%s", p.Ratio)
	if p.RatioGradient == GradientSegment {
		b.WriteString(" ratio_gradient=segment")
	}
	if p.UsesAnchor() || len(p.OffPolicy) > 0 {
		fmt.Fprintf(&b, " anchor=%s", p.Anchor)
	}
	b.WriteString(" objective=" + printPart(p.Objective))
	for _, correction := range p.OffPolicy {
		b.WriteString(" off_policy=" + printPart(correction))
	}
	for _, mask := range p.Mask {
		b.WriteString(" mask=" + printPart(mask))
	}
	if p.Rejected == RejectedLeave {
		b.WriteString(" rejected=leave")
	}
	fmt.Fprintf(&b, " aggregate=%s", p.Aggregate)
	if p.Aggregate == SequenceSumConst {
		fmt.Fprintf(&b, " aggregate_const=%v", p.AggregateConst)
	}
	for _, term := range p.Regularizers {
		b.WriteString(" regularizer=" + printPart(term))
	}
	return b.String()
}

// printPart is a part with all its settings: clip(clip_low=0.2 clip_high=0.28 dual_clip=0).
func printPart(part any) string {
	name := NameOf(part)
	if name == "" {
		return fmt.Sprintf("%T%+v", part, part)
	}
	v := reflect.ValueOf(part)
	settings := make([]string, v.NumField())
	for i := range settings {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		settings[i] = fmt.Sprintf("%s=%v", key, v.Field(i))
	}
	if len(settings) == 0 {
		return name
	}
	return name + "(" + strings.Join(settings, " ") + ")"
}
