package nvml

import (
	"slices"
	"strings"
)

// wires are what a board says about its NVLink lanes.
type wires struct {
	// fabric names the partition of an NVLink fabric that spans machines; "" when there is none.
	fabric string
	// switched says that a lane that is up ends at a switch.
	switched bool
	// remotes are the PCI bus ids of the boards at which lanes that are up end.
	remotes []string
}

// wired is a board among the others of its machine.
type wired struct {
	uuid, pci string
	wires     wires
	peers     []int // of the others: which say that they reach it over NVLink
}

// domains names the NVLink domain of each board by UUID. Boards are in one when a lane of one ends at the other,
// when both have lanes to the machine's switches, or when the driver says of the pair that it can copy over
// NVLink, which virtual machines tell though they hide where lanes end. A domain within a machine has the name
// of its smallest UUID, which nobody else has; one of a fabric has the fabric's, on every machine. A board that
// is connected to none is in none.
func domains(boards []wired) map[string]string {
	of := make([]int, len(boards)) // the set of each, named by a member
	for i := range of {
		of[i] = i
	}
	join := func(a, b int) {
		from, to := of[a], of[b]
		for i := range of {
			if of[i] == from {
				of[i] = to
			}
		}
	}
	for i, a := range boards {
		for _, j := range a.peers {
			join(i, j)
		}
		for j, b := range boards[:i] {
			if a.wires.switched && b.wires.switched || ends(a, b) || ends(b, a) || a.wires.fabric != "" && a.wires.fabric == b.wires.fabric {
				join(i, j)
			}
		}
	}
	names := map[string]string{}
	for i, a := range boards {
		if name := domainName(boards, of, of[i]); name != "" {
			names[a.uuid] = name
		}
	}
	return names
}

// ends reports whether a lane of a ends at b.
func ends(a, b wired) bool {
	return b.pci != "" && slices.ContainsFunc(a.wires.remotes, func(pci string) bool { return strings.EqualFold(pci, b.pci) })
}

func domainName(boards []wired, of []int, set int) string {
	var members, fabrics []string
	for i, b := range boards {
		if of[i] != set {
			continue
		}
		members = append(members, b.uuid)
		if b.wires.fabric != "" {
			fabrics = append(fabrics, b.wires.fabric)
		}
	}
	switch {
	case len(fabrics) > 0:
		return "fabric-" + slices.Min(fabrics)
	case len(members) > 1:
		return "nvlink-" + slices.Min(members)
	default:
		return ""
	}
}
