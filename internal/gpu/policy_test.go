package gpu

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestXidPolicy restates the operators' table: what each XID does to the role that holds the device.
func TestXidPolicy(t *testing.T) {
	want := map[Action][]int{
		Restart:    {8, 11, 13, 31, 43, 45, 94},
		Reset:      {46, 48, 95, 119, 120},
		Drain:      {63},
		Replace:    {64},
		Quarantine: {74},
		Reboot:     {79},
		Ignore:     {154}, // while the driver wants nothing done
	}
	got := map[Action][]int{}
	for _, fault := range Faults {
		if fault.Xid != 0 {
			got[fault.Action] = append(got[fault.Action], fault.Xid)
			if domain := fault.Scope == OfDomain; domain != (fault.Xid == 74) {
				t.Errorf("XID %d concerns the %s", fault.Xid, fault.Scope)
			}
		}
	}
	for action, xids := range want {
		if !slices.Equal(got[action], xids) {
			t.Errorf("%s: XIDs %v, want %v", action, got[action], xids)
		}
		delete(got, action)
	}
	if len(got) != 0 {
		t.Errorf("also %v", got)
	}
}

func TestFaultsReadWell(t *testing.T) {
	names := map[string]bool{}
	for _, fault := range Faults {
		switch {
		case names[fault.Name]:
			t.Errorf("two faults are named %s", fault.Name)
		case strings.ContainsAny(fault.Name, " _") || fault.Name == "":
			t.Errorf("name %q is not one word", fault.Name)
		case fault.Meaning == "" || strings.HasSuffix(fault.Meaning, "."):
			t.Errorf("%s: meaning %q does not go on after a device's name", fault.Name, fault.Meaning)
		case fault.Action == "" || fault.Scope == "":
			t.Errorf("%s has no action or no scope", fault.Name)
		}
		names[fault.Name] = true
		if fault.Xid != 0 && OfXid(fault.Xid, RecoverNone) != fault {
			t.Errorf("XID %d is not found", fault.Xid)
		}
	}
	if got := OfXid(79, RecoverNone).String(); got != "XID 79 has fallen off the bus" {
		t.Errorf("XID 79 reads %q", got)
	}
}

func TestUnknownXidIsCounted(t *testing.T) {
	for _, xid := range []int{0, -3, 1, 999, 1 << 40} {
		fault := OfXid(xid, RecoverReset)
		if fault.Action != Ignore || fault.Scope != OfDevice || fault.Xid != xid || !strings.HasPrefix(fault.Name, "unknown XID ") {
			t.Errorf("XID %d: %+v", xid, fault)
		}
		if strings.Count(fault.String(), "XID") != 1 {
			t.Errorf("XID %d reads %q", xid, fault)
		}
	}
}

func TestRecoveryIsFollowed(t *testing.T) {
	for recovery, want := range map[Recovery]Action{RecoverReset: Reset, RecoverReboot: Reboot, RecoverDrain: Quarantine, RecoverDrainAndReset: Drain, "invented": Reboot} {
		fault, ok := OfRecovery(recovery)
		if !ok || fault.Action != want || fault.Scope != OfDevice {
			t.Errorf("recovery %s: %+v, want %s", recovery, fault, want)
		}
		xid := OfXid(154, recovery)
		if xid.Action != want || xid.Xid != 154 || xid.Meaning != fault.Meaning {
			t.Errorf("XID 154 with recovery %s: %+v, want %s", recovery, xid, want)
		}
		if other := OfXid(13, recovery); other.Action != Restart {
			t.Errorf("XID 13 with recovery %s: %s: only 154 follows it", recovery, other.Action)
		}
		event, ok := OfEvent(Event{Kind: RecoveryEvent}, Condition{Recovery: recovery})
		if !ok || event != fault {
			t.Errorf("event: %+v, want %+v", event, fault)
		}
	}
	if fault, ok := OfRecovery(RecoverNone); ok {
		t.Errorf("nothing to do is a fault: %+v", fault)
	}
}

func TestEventsAreFaults(t *testing.T) {
	for _, c := range []struct {
		event Event
		xid   int
		ok    bool
	}{
		{Event{Kind: XidEvent, Xid: 79}, 79, true},
		{Event{Kind: XidEvent, Xid: 4711}, 4711, true},
		{Event{Kind: DoubleBitECC}, 48, true},
		{Event{Kind: Reloaded}, 0, false},
		{Event{Kind: RecoveryEvent}, 0, false},
		{Event{}, 0, false},
	} {
		if fault, ok := OfEvent(c.event, Condition{}); ok != c.ok || fault.Xid != c.xid && ok {
			t.Errorf("%+v: %+v %v, want XID %d %v", c.event, fault, ok, c.xid, c.ok)
		}
	}
}

// TestDocumentedPolicy holds the operators' document to the table, line by line.
func TestDocumentedPolicy(t *testing.T) {
	text, err := os.ReadFile("../../docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Faults\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows, want []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for _, fault := range Faults {
		number := ""
		if fault.Xid != 0 {
			number = fmt.Sprint(fault.Xid, " ")
		}
		want = append(want, fmt.Sprintf("| %s| %s | %s |", number, fault.Meaning, fault.Action))
	}
	if len(rows) < 2 || !slices.Equal(rows[2:], want) {
		t.Errorf("docs/devices.md lists\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}
